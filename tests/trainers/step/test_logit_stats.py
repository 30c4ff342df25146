from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.trainers.worlds import tiny_spec
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext
from trainers.step.logit_stats import EDGES, LogitStats


def of(values: np.ndarray) -> LogitStats:
    logits = torch.tensor(values, dtype=torch.float32).view(1, 1, -1)
    return LogitStats.of(logits, torch.ones(1, 1, dtype=torch.bool), torch.ones(1))


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_merged_parts_equal_the_whole_sample(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.gamma(2.0, 3.0, size).astype(np.float32) for size in sizes]
    merged = LogitStats()
    for part in parts:
        merged.add(of(part))
    whole = np.concatenate(parts).astype(np.float64)
    assert merged.n == len(whole)
    assert merged.mean == pytest.approx(whole.mean())
    assert merged.m2 == pytest.approx(((whole - whole.mean()) ** 2).sum(), abs=1e-6)
    assert merged.m3 == pytest.approx(((whole - whole.mean()) ** 3).sum(), rel=1e-6, abs=1e-4)
    if len(whole) > 2:
        assert merged.skewness == pytest.approx(stats.skew(whole), abs=1e-6)
    assert sum(merged.histogram) == len(whole)


def test_multiplicity_equals_repetition_and_masked_positions_do_not_count():
    logits = torch.randn(2, 3, 7)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    weighted = LogitStats.of(logits, mask, torch.tensor([3.0, 1.0]))
    values = torch.cat([logits[0][mask[0]].flatten()] * 3 + [logits[1][mask[1]].flatten()]).double()
    assert weighted.n == len(values)
    assert weighted.mean == pytest.approx(float(values.mean()))
    assert weighted.m2 == pytest.approx(float(((values - values.mean()) ** 2).sum()))


def test_histogram_bins_are_half_open_and_outliers_are_kept():
    counted = of(np.array([-1e3, -40.0, 0.0, 0.49, 39.9, 1e3]))
    filled = {k: c for k, c in enumerate(counted.histogram) if c}
    assert filled == {0: 1, 1: 1, 81: 2, 160: 1, len(EDGES): 1}
    assert LogitStats.from_json(counted.to_json()) == counted


def test_a_run_records_base_and_tuned_on_own_and_shared_text():
    trainer = PolicyTrainer(WorkerContext())
    result = trainer.run(tiny_spec(eval={"logit_stats": True}), RunContext())
    plain = trainer.run(tiny_spec(), RunContext())
    trainer.close()
    rows = {(r["model"], r["text"]): r for r in result.logit_stats}
    assert set(rows) == {("base", "own"), ("tuned", "own"), ("tuned", "shared")}
    assert rows["base", "own"]["n"] == rows["tuned", "shared"]["n"]
    assert rows["base", "own"]["n"] % 18 == 0
    assert rows["base", "own"]["mean"] != rows["tuned", "shared"]["mean"]
    assert result.metrics["accuracy_sampled"] == plain.metrics["accuracy_sampled"]
