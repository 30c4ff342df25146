from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from tests.trainers.presets import preset
from trainers.evaluation.grading import Grader
from trainers.step.rewards import earned, judge, majority, of_scores, overlong
from trainers.step.rollout import merge
from trainers.step.scoring import Scores

TEXTS = [";11;131", "?121", ";11;0131", "", "?0121"]


@pytest.fixture(scope="module")
def grader():
    grader = Grader(pattern="[;?]([^;?]*)$", timeout_s=5)
    yield grader
    grader.close()


def drawn(counts: list[int], prompts: list[int] | None = None):
    prompts = prompts or [0] * len(counts)
    rows = [(p, (k,)) for k, (p, n) in enumerate(zip(prompts, counts, strict=True)) for _ in range(n)]
    return merge([p for p, _ in rows], [c for _, c in rows])


def test_text_earns_by_answer_vote_and_form(grader):
    judged = judge(grader, {"verified", "majority", "format"}, TEXTS, ["131"], drawn([2, 3, 2, 5, 1]))
    assert judged["verified"].tolist() == [1, 0, 1, 0, 0]
    assert judged["format"].tolist() == [1, 1, 1, 0, 1]
    # Four votes for 131 in two spellings, four for 121 in two: the answer drawn first wins.
    assert judged["majority"].tolist() == [1, 0, 1, 0, 0]


def test_only_what_is_wanted_is_judged(grader):
    assert set(judge(grader, {"format"}, TEXTS, [], drawn([1] * 5))) == {"format"}


def test_each_prompt_votes_for_itself_and_without_answers_nobody_wins():
    votes = majority(["1", "2", "2", None, None], [0, 0, 1, 1, 2], [3, 2, 1, 9, 4])
    assert votes.tolist() == [1, 0, 1, 0, 0]


def test_answers_that_are_equal_as_mathematics_are_one_answer():
    grader = Grader(pattern=None, timeout_s=5)
    try:
        halves = ("$\\boxed{0.5}$", "so it is $\\boxed{\\frac{1}{2}}$", "$\\boxed{0.50}$")
        assert {grader.answer(text) for text in halves} == {"1/2"}
        assert grader.answer("$\\boxed{3}$") == "3"
        assert grader.answer("nothing of the kind") is None
        start = perf_counter()
        grader.answer("$\\boxed{9^{9^{9^{9^{9}}}}}$ and $" + "(" * 3000 + "$")
        assert perf_counter() - start < 60
        assert grader.answer("$\\boxed{x+1}$") == grader.answer("$\\boxed{1+x}$")
    finally:
        grader.close()


VALUES = {
    "verified": np.array([1.0, 0, 0]),
    "overlong": np.array([0.0, 0, -0.5]),
    "format": np.array([1.0, 1, 0]),
    "neg_entropy": np.array([-0.25, -1, -2]),
}


def test_dapos_answers_earn_one_or_minus_one_and_are_told_apart_by_being_right():
    worth = earned(preset("dapo"), VALUES, 3)
    assert worth.reward_D.tolist() == [1, -1, -1.5]
    assert worth.telling_D.tolist() == [1, 0, 0]
    assert earned(preset("grpo"), VALUES, 3).reward_D.tolist() == [1, 0, 0]


def test_without_verified_answers_rollouts_are_told_apart_by_reward_without_the_length_penalty():
    both = preset("rent", reward_overlong=1.0, no_answer=None)
    assert earned(both, VALUES, 3).reward_D.tolist() == [-0.25, -1, -2.5]
    assert earned(both, VALUES, 3).telling_D.tolist() == [-0.25, -1, -2]
    assert earned(preset("rent", reward_neg_entropy=0.0, reward_overlong=1.0), VALUES, 3).telling_D is None


def test_where_no_answer_is_found_rent_gives_seven_nats_whatever_the_entropy():
    assert earned(preset("rent"), VALUES, 3).reward_D.tolist() == [-0.25, -1, -7]


def test_the_length_penalty_starts_at_four_fifths_of_the_limit():
    assert overlong([1, 80, 90, 100], 100).tolist() == pytest.approx([0, 0, -0.5, -1])


def test_scores_become_means_and_sums_and_an_empty_completion_has_none():
    scores = Scores(
        log_prob_D=np.array([-3.0, 0]),
        entropy_D=np.array([1.0, 0]),
        certainty_D=np.array([8.0, 0]),
        tokens_D=np.array([2.0, 0]),
    )
    worth = {name: values.tolist() for name, values in of_scores(scores).items()}
    assert worth == {
        "self_certainty": [4.0, 0.0],
        "neg_entropy": [-0.5, 0.0],
        "neg_entropy_sum": [-1.0, 0.0],
        "log_prob": [-3.0, 0.0],
    }
