"""The metrics that the shipped trainers name, and what each is. Imports no torch."""

from __future__ import annotations

import dataclasses
import re

from sweeps.spec.metrics import SHARE, MetricInfo, change_of
from trainers.run_result import TIMING_SUFFIX

SHIPPED = "trainers."
"""Prefix of the targets of shipped trainers."""

HEADLINE_METRICS = ("accuracy_sampled", "accuracy_greedy")
"""What a sweep is about where its file says nothing of any metric and its runs measure one of these."""

_JUDGED = re.compile(
    r"(?P<kind>accuracy|base_accuracy|gain)_(?P<mode>greedy|sampled)(?:_t(?P<temperature>[\d.e+-]+))?"
)

_ACCURACY = MetricInfo(direction="max", unit=SHARE, range=(0.0, 1.0))
_NATS = MetricInfo(unit="nats", range=(0.0, None))

_NAMED = {
    "loss": MetricInfo(direction="min", words="loss"),
    "entropy_nats": dataclasses.replace(_NATS, words="entropy"),
    "first_entropy_nats": dataclasses.replace(_NATS, words="entropy before training"),
    "last_entropy_nats": dataclasses.replace(_NATS, words="entropy at the last step"),
    "grad_norm": MetricInfo(range=(0.0, None), words="gradient norm"),
    "lr": MetricInfo(range=(0.0, None), words="learning rate"),
    "steps_taken": MetricInfo(range=(0.0, None), words="optimizer steps"),
    "completion_tokens": MetricInfo(unit="tokens", range=(0.0, None), words="completion length"),
    "nll_nats": dataclasses.replace(_NATS, direction="min", words="loss of given completions, a token"),
    "reward_margin": MetricInfo(direction="max", unit="nats", words="margin of implicit rewards"),
    "reward_accuracy": MetricInfo(
        direction="max", unit=SHARE, range=(0.0, 1.0), words="pairs whose chosen completion is ahead"
    ),
    "reward_chosen": MetricInfo(direction="max", unit="nats", words="implicit reward, chosen"),
    "reward_rejected": MetricInfo(direction="min", unit="nats", words="implicit reward, rejected"),
    "log_prob_chosen": MetricInfo(unit="nats", range=(None, 0.0), words="log-probability, chosen"),
    "log_prob_rejected": MetricInfo(unit="nats", range=(None, 0.0), words="log-probability, rejected"),
    "kto_z_nats": dataclasses.replace(_NATS, words="divergence that KTO compares with"),
    "pass_at_n": MetricInfo(
        direction="max", unit=SHARE, range=(0.0, 1.0), words="completions that one of N attempts gives"
    ),
    "target_tokens": MetricInfo(unit="tokens", range=(0.0, None), words="tokens of given completions"),
    "round": MetricInfo(range=(0.0, None), words="round of curation"),
}


def shipped_metric(name: str) -> MetricInfo | None:
    """What a metric of a shipped trainer is; ``None`` for a name that none of them uses."""
    if name in _NAMED:
        return _NAMED[name]
    judged = _JUDGED.fullmatch(name)
    if judged is None:
        return None
    kind = {"accuracy": "accuracy", "base_accuracy": "accuracy of the base model", "gain": "gain"}
    how = "greedy" if judged["mode"] == "greedy" else "sampled"
    at = f" at temperature {judged['temperature']}" if judged["temperature"] else ""
    info = change_of(_ACCURACY) if judged["kind"] == "gain" else _ACCURACY
    return dataclasses.replace(info, words=f"{kind[judged['kind']]}, {how}{at}")


def timing(name: str) -> MetricInfo | None:
    """Seconds that a run measured, which every trainer names alike; ``None`` for any other name."""
    if not name.endswith(TIMING_SUFFIX):
        return None
    return MetricInfo(direction="min", unit="s", range=(0.0, None), words=name.removesuffix(TIMING_SUFFIX))
