"""Trainers that a worker keeps warm."""

from __future__ import annotations

import sys

import pytest

from orchestrator.worker.hot_trainers import HotTrainers, import_target
from sweeps.spec import SpecError, TrainerSpec
from tests.orchestrator.trainers import HERE
from trainers.protocol import WorkerContext


class Angry:
    """Raises when it is closed."""

    def __init__(self, context):
        pass

    def close(self):
        raise OSError("in use")


def test_a_trainer_is_built_once_and_anew_after_it_is_discarded():
    hot = HotTrainers(WorkerContext())
    first = hot.get(TrainerSpec(target=f"{HERE}.Bare"))
    assert hot.get(TrainerSpec(target=f"{HERE}.Bare")) is first
    hot.discard(f"{HERE}.Bare")
    assert hot.get(TrainerSpec(target=f"{HERE}.Bare")) is not first


def test_a_folder_that_a_manifest_names_is_searched_for_a_trainer_of_ones_own_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_sweep.py").write_text("class Own:\n    def __init__(self, context): pass\n")
    HotTrainers(WorkerContext()).get(TrainerSpec(target="trainers.noop.Noop", folder=str(tmp_path)))
    assert str(tmp_path) not in sys.path
    HotTrainers(WorkerContext()).get(TrainerSpec(target="beside_the_sweep.Own", folder=str(tmp_path)))
    assert sys.path[-1] == str(tmp_path)


def test_a_trainer_that_raises_on_close_is_named_and_keeps_no_other_open(capsys):
    hot = HotTrainers(WorkerContext())
    hot.get(TrainerSpec(target=f"{__name__}.Angry"))
    shared = hot.get(TrainerSpec(target=f"{HERE}.Sharing"))
    hot.close()
    assert shared.is_closed
    said = capsys.readouterr().err
    assert f"closing {__name__}.Angry: OSError" in said
    assert "OSError: in use" in said


@pytest.mark.parametrize("target", ["nothing", "no.such.Class", "trainers.noop.Nobody", ""])
def test_a_target_that_names_nothing_is_refused_with_the_fix(target):
    with pytest.raises(SpecError, match=r"give module\.Class"):
        import_target(target)


@pytest.mark.parametrize("target", ["trainers.noop.time", "trainers.evaluation.grading.subprocess"])
def test_what_a_module_of_ours_uses_is_no_trainer_of_ours(target):
    with pytest.raises(SpecError, match="no trainer of ours"):
        import_target(target)
