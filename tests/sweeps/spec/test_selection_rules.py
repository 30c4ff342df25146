import itertools
import math

import numpy as np
import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import ExampleSpec, group_canonical
from sweeps.spec.errors import SpecError
from sweeps.spec.selection_rules import (
    Curation,
    WeakSignal,
    accuracy_std,
    curate,
    majority_p1p,
    pass_variance,
    random_scores,
    top,
)


def test_the_highest_scores_come_first_and_equal_ones_in_the_pools_order():
    scores = np.array([1.0, 3.0, math.nan, 3.0, 2.0, -math.inf])
    assert top(scores, 3) == [1, 3, 4]
    assert top(scores, 9) == [1, 3, 4, 0]
    assert top(scores, 2, lowest=True) == [0, 4]


def test_random_scores_belong_to_the_problem_not_to_its_place():
    texts = ["a", "b", "c"]
    forward, backward = random_scores(texts, 7), random_scores(texts[::-1], 7)
    assert forward.tolist() == backward[::-1].tolist()
    assert forward.tolist() != random_scores(texts, 8).tolist()
    assert abs(random_scores([str(i) for i in range(4000)], 0).mean() - 0.5) < 0.02


@pytest.mark.parametrize("k", [1, 2, 3])
def test_pass_variance_is_that_of_k_rollouts_drawn_without_replacement(k):
    num = 5
    for correct in range(num + 1):
        rollouts = [i < correct for i in range(num)]
        drawn = [any(drawn_k) for drawn_k in itertools.combinations(rollouts, k)]
        assert pass_variance(np.array([correct]), num, k)[0] == pytest.approx(np.var(drawn))


def test_split_votes_score_highest_and_varying_accuracy_beats_a_steady_one():
    assert majority_p1p(np.array([1.0, 0.5, 0.9])).argmax() == 1
    assert accuracy_std(np.array([[0.0, 0.5], [1.0, 0.5]])).tolist() == [0.5, 0.0]


def test_a_filter_without_noise_and_a_silent_labeller_pass_exactly_what_is_right():
    right = np.array([True, False, True])
    signal = WeakSignal(gamma=0.0, beta=0.0)
    assert signal.passes(right, np.random.default_rng(0).random((2, 3))).tolist() == right.tolist()


def test_the_weak_signal_errs_at_its_rates():
    rng, signal, num = np.random.default_rng(0), WeakSignal(gamma=0.2, beta=0.5), 200_000
    wrong = signal.passes(np.zeros(num, dtype=bool), rng.random((2, num))).mean()
    right = signal.passes(np.ones(num, dtype=bool), rng.random((2, num))).mean()
    assert wrong == pytest.approx(0.2, abs=0.005)  # a wrong completion passes only by the filter's mistake
    assert right == pytest.approx(0.8 + 0.2 * 0.5, abs=0.005)  # half of the wrong rejections are mended


def test_curation_goes_back_to_what_fails_and_drops_what_never_passes():
    rate = np.array([1.0, 0.5, 0.25, 0.0])
    tried: list[int] = []

    def attempt(problem, number):
        tried.append(problem)
        return np.arange(8) < 8 * rate[problem]

    curation = Curation(rounds=60, per_round=1, eta=0.2, signal=WeakSignal(gamma=0.0, beta=0.0))
    curated = curate(4, attempt, curation, np.random.default_rng(0))
    assert top(curated.scores_P, 4) == [2, 1, 0]
    assert tried.count(3) == 1
    assert tried.count(2) > tried.count(1) + tried.count(0) > 0


def test_an_example_of_no_rule_is_identified_as_it_was_before_there_were_rules():
    assert '"rule"' not in group_canonical("example", ExampleSpec(prompts=("x",)))


def test_two_rules_that_pick_the_same_prompt_keep_a_run_each():
    words = ["example=tiny", "example.ids=[carry-1]", "example.rule=random,entropy"]
    assert len(set(build_manifest(compose_sweep(words)).run_ids)) == 2


def test_the_shipped_study_finds_every_rules_picks():
    manifest = build_manifest(compose_sweep(["sweep=selection"]))
    assert len(manifest) == 2 * 2 * 7 * 4 * 8
    flagged = {v for a in manifest.axes if a.key == "example.rule" for v in a.values if "-labelled" in v}
    assert flagged == {"pass_variance-labelled", "accuracy_std-labelled"}


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: WeakSignal(gamma=0.5), "gamma=0.5"),
        (lambda: WeakSignal(beta=1.5), "beta=1.5"),
        (lambda: Curation(rounds=0), "rounds=0"),
        (lambda: Curation(eta=-1), "eta=-1"),
    ],
)
def test_rates_out_of_range_are_refused(build, says):
    with pytest.raises(SpecError, match=says):
        build()
