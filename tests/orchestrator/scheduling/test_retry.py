"""Failure classes, budgets and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.scheduling import retry
from orchestrator.scheduling.retry import RetryDecision, RetryPolicy, classify, decide, shrink_for
from orchestrator.store.outcomes import ERROR, INFRASTRUCTURE, OOM, TIMEOUT, Failure


def failures(kind, *fingerprints):
    return [Failure(kind, f, "message", may_pass=kind == ERROR) for f in fingerprints]


def story(kind, fingerprints, policy=None):
    """Verdicts after each failure in turn."""
    history = failures(kind, *fingerprints)
    return [decide(policy or RetryPolicy(), history[: n + 1]).outcome for n in range(len(history))]


def test_an_exception_that_cannot_pass_is_final_at_once_whatever_came_before_it():
    final = Failure(ERROR, "a", "TypeError: no")
    assert decide(RetryPolicy(), [final]) == RetryDecision("quarantined")
    assert decide(RetryPolicy(error=9), [*failures(INFRASTRUCTURE, "i"), final]).outcome == "quarantined"


def test_an_exception_that_may_pass_gets_a_wait_before_the_next_attempt():
    delays = [decide(RetryPolicy(backoff_s=1.0), failures(ERROR, *"ab")[:n]).delay_s for n in (1, 2)]
    assert delays == [1.0, 2.0]


def test_the_same_exception_twice_is_quarantined_and_different_ones_run_out():
    assert story(ERROR, "aa") == ["pending", "quarantined"]
    assert story(ERROR, "abc") == ["pending", "pending", "failed"]
    assert story(ERROR, "aba") == ["pending", "pending", "quarantined"]


def test_lost_workers_wait_longer_each_time_up_to_a_limit():
    policy = RetryPolicy(backoff_s=1.0, backoff_max_s=10.0)
    history = failures(INFRASTRUCTURE, *"aaaaaa")
    delays = [decide(policy, history[: n + 1]).delay_s for n in range(6)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_each_class_has_a_budget_of_its_own():
    policy = RetryPolicy(infrastructure=2, oom=2, error=2, timeout=1)
    mixed = [
        *failures(INFRASTRUCTURE, "i", "i"),
        *failures(OOM, "m", "m"),
        *failures(TIMEOUT, "t"),
        *failures(ERROR, "e"),
    ]
    for end in range(1, len(mixed) + 1):
        assert decide(policy, mixed[:end]).outcome == "pending"
    assert decide(policy, [*mixed, *failures(TIMEOUT, "t")]).outcome == "failed"


def test_memory_is_retried_smaller_then_elsewhere_then_given_up():
    history = failures(OOM, "m", "m", "m")
    policy = RetryPolicy(oom=2)
    assert [decide(policy, history[:n]) for n in (1, 2, 3)] == [
        RetryDecision("pending"),
        RetryDecision("pending", elsewhere=True),
        RetryDecision("failed"),
    ]
    assert [retry.shrink_for(history[:n]) for n in (0, 1, 2)] == [0, 1, 1]


def raised(action):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        action()
    return classify(caught.value)


def test_a_fingerprint_ignores_the_message_but_not_the_type_or_the_place():
    def here(error):
        raise error

    def there(error):
        raise error

    first = raised(lambda: here(ValueError("seed 1")))
    assert first.fingerprint == raised(lambda: here(ValueError("seed 2"))).fingerprint
    assert first.fingerprint != raised(lambda: here(TypeError("seed 1"))).fingerprint
    assert first.fingerprint != raised(lambda: there(ValueError("seed 1"))).fingerprint


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        type("OutOfMemoryError", (RuntimeError,), {})(),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error):
    assert classify(error).failure_class == OOM


def test_a_failure_says_what_happened_in_one_line_and_keeps_the_traceback():
    def fail():
        raise ValueError("first line\nsecond line")

    failure = raised(fail)
    assert failure.failure_class == ERROR
    assert failure.message == "ValueError: first line"
    assert "in fail" in failure.details


def test_a_failure_that_names_a_file_whose_name_is_no_utf8_can_be_written_down():
    def fail():
        Path(os.fsdecode(b"no such folder/\xff.npz")).read_bytes()

    failure = raised(fail)
    text = "\n".join([failure.message, failure.details])
    assert text.encode()
    assert "\\udcff.npz" in failure.message


def test_every_retry_without_memory_has_half_the_micro_batch_and_all_but_the_first_go_elsewhere():
    history = failures(OOM, "m", "m", "m", "m")
    policy = RetryPolicy()
    assert [shrink_for(history[:n]) for n in range(4)] == [0, 1, 1, 1]
    decisions = [decide(policy, history[:n]) for n in (1, 2, 3, 4)]
    assert [d.elsewhere for d in decisions[: policy.oom]] == [False, True, True]
    assert [d.outcome for d in decisions] == ["pending", "pending", "pending", "failed"]
