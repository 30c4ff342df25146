"""What a round keeps: the filter's and the labeler's error rates, and that no draw depends on another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.spec.curation import CurateSpec
from sweeps.spec.curation_rules import Curated, Draws, curate

MANY = 20_000


def spec(**fields) -> CurateSpec:
    return CurateSpec(name="escaping_collapse", **fields)


def draws(num_prompts: int, each: int = 1, seed: int = 0) -> Draws:
    rng = np.random.default_rng(seed)
    return Draws(
        flip_R=rng.random(num_prompts * each),
        label_P=rng.random(num_prompts),
        other_P=rng.random(num_prompts),
    )


def of(rules: CurateSpec, right: list[bool], **given) -> Curated:
    num = len(right) // rules.completions
    answers = given.pop("answers", [str(place) for place in range(num)])
    return curate(rules, np.array(right), answers, given.pop("draws", draws(num, rules.completions)))


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("is_right", [True, False])
def test_the_filter_is_wrong_as_often_as_gamma_says_for_right_and_for_wrong_ones(gamma, is_right):
    kept = of(spec(gamma=gamma), [is_right] * MANY).kept_R.mean()
    expected = 1 - gamma if is_right else gamma
    assert abs(kept - expected) <= 4 * math.sqrt(gamma * (1 - gamma) / MANY)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.7, 1.0])
def test_a_failed_prompt_is_mended_as_often_as_beta_says(beta):
    found = of(spec(beta=beta), [False] * MANY)
    assert found.failed_P.all()
    assert abs(found.mended_P.mean() - beta) <= 4 * math.sqrt(beta * (1 - beta) / MANY)
    assert (found.misled_P == -1).all()


def test_a_prompt_fails_only_if_none_of_its_completions_passed():
    found = of(spec(completions=3, beta=1.0), [False, True, False, False, False, False])
    assert found.kept_R.tolist() == [False, True, False, False, False, False]
    assert found.failed_P.tolist() == found.mended_P.tolist() == [False, True]


def test_what_is_not_mended_is_left_out_or_misled_as_asked():
    left_out, misled = (of(spec(beta=0.3, otherwise=how), [False] * 50) for how in ("nothing", "wrong"))
    assert (left_out.mended_P == misled.mended_P).all()
    assert ((misled.misled_P >= 0) == ~misled.mended_P).all()


@given(
    answers=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
)
def test_the_wrong_completion_is_one_of_another_answer_if_there_is_one(answers, seed):
    num = len(answers)
    found = of(spec(otherwise="wrong"), [False] * num, answers=answers, draws=draws(num, seed=seed))
    for place, other in enumerate(found.misled_P.tolist()):
        assert (other == -1) == (set(answers) == {answers[place]})
        assert other == -1 or answers[other] != answers[place]


def test_nothing_is_filtered_or_mended_without_curation():
    found = of(CurateSpec(name="uncurated"), [True, False, False])
    assert found.kept_R.all()
    assert not found.failed_P.any()
    assert not found.mended_P.any()


@given(right=st.lists(st.booleans(), min_size=2, max_size=20), where=st.integers(0, 19))
def test_one_prompts_fate_does_not_depend_on_the_others(right, where):
    where %= len(right)
    turned = [not r if place != where else r for place, r in enumerate(right)]
    rules = spec(gamma=0.3, beta=0.4)
    one, other = of(rules, right), of(rules, turned)
    for name in ("kept_R", "failed_P", "mended_P"):
        assert getattr(one, name)[where] == getattr(other, name)[where]
