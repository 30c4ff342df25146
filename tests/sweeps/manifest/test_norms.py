"""The norms of a first run, from a table of its steps to the schedule of a run."""

from __future__ import annotations

import pytest

from sweeps.manifest.norms import norms_of
from sweeps.manifest.resolve import resolve_group
from sweeps.spec import SpecError, group_canonical, group_from_dict, spec_from_dict


def table(tmp_path, text, name="norms.csv"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_norms_are_means_over_the_rows_of_a_step_and_rows_that_only_judge_are_passed_over(tmp_path):
    path = table(tmp_path, "step,grad_norm\n0,\n1,1.0\n2,0.5\n1,3.0\n2,0.5\n")
    assert norms_of(path, "grad_norm") == [2.0, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,norm\n1,1\n", "schedule.norms_field='grad_norm'.*has step, norm"),
        ("n,grad_norm\n1,1\n", "schedule.norms_path='.*norms.csv': has no column step, only n, grad_norm"),
        ("step,grad_norm\n1,1\n3,1\n", "holds no grad_norm of step 2"),
        ("step,grad_norm\n1,much\n", "grad_norm='much': is no number"),
        ("step,grad_norm\n1,inf\n", "grad_norm='inf': is no number"),
        ("step,grad_norm\n1.5,1\n", "step=1.5: is no step"),
        ("step,grad_norm\nnan,1\n", "step='nan': is no number"),
        ("step,grad_norm\n0,\n", "holds no grad_norm of step 1"),
    ],
)
def test_a_table_that_lacks_a_norm_is_refused_with_what_it_has(tmp_path, text, message):
    with pytest.raises(SpecError, match=message):
        norms_of(table(tmp_path, text), "grad_norm")


def test_identity_is_the_norms_and_not_where_they_lie(tmp_path):
    texts = []
    for name in ("a.csv", "b.csv"):
        path = table(tmp_path, "step,grad_norm\n1,1.0\n2,0.5\n", name)
        config, need = resolve_group("schedule", {"name": "refined", "norms_path": path})
        assert need is None
        texts.append(group_canonical("schedule", group_from_dict("schedule", config)))
    assert texts[0] == texts[1]
    assert '"norms":[1.0,0.5]' in texts[0]


def test_norms_of_another_number_of_steps_are_refused():
    schedule = {"name": "refined", "norms": [1.0, 2.0]}
    assert spec_from_dict({"schedule": schedule, "steps": 2}).steps == 2
    with pytest.raises(SpecError, match=r"steps=10: .*holds the norms of 2 steps"):
        spec_from_dict({"schedule": schedule})
