from __future__ import annotations

import pytest

from sweeps.spec import COMPAT_DEFECTS, SpecError
from tests.trainers.worlds import tiny_spec
from trainers.step.compat import defects_of, noise_row, updates_by


def test_names_join_and_upstream_means_all_of_them():
    assert defects_of(tiny_spec().objective) == frozenset()
    assert defects_of(tiny_spec(objective={"compat": "upstream"}).objective) == frozenset(COMPAT_DEFECTS)
    objective = tiny_spec(objective={"compat": "micro_steps+shared_noise"}).objective
    assert defects_of(objective) == {"micro_steps", "shared_noise"}


def test_an_unknown_defect_is_refused_with_the_nearest_name():
    with pytest.raises(SpecError, match="unshifted_mask"):
        tiny_spec(objective={"compat": "unshifted_masks"})


def test_a_step_is_an_update_unless_micro_steps_are_counted():
    assert [updates_by(s, 64, frozenset()) for s in range(4)] == [0, 1, 2, 3]
    # floor(s·2·8/64): on eight GPUs the published "step 10" is two updates.
    micro = frozenset({"micro_steps"})
    assert [updates_by(s, 64, micro) for s in range(11)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_shared_noise_makes_eight_copies_of_eight_rollouts():
    rows = [noise_row(row, 64, frozenset({"shared_noise"})) for row in range(64)]
    assert len(set(rows)) == 8
    assert all(rows.count(row) == 8 for row in set(rows))
    assert [noise_row(row, 64, frozenset()) for row in range(64)] == list(range(64))
