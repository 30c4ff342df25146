"""Sweeps launched into a real Slurm, from submission to their last result."""

from __future__ import annotations

import pytest

from tests.slurm.queued_sweep import SMALL, QueuedSweep, of_one_machine


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return of_one_machine(tmp_path_factory.mktemp("one") / "out", SMALL)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_a_launch_on_any_number_of_nodes_ends_with_one_machines_numbers(cluster, tmp_path, expected, nodes):
    sweep = QueuedSweep(cluster, tmp_path)
    job = sweep.submit(nodes)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_job_that_gets_nothing_of_the_callers_environment_runs(cluster, tmp_path, expected, monkeypatch):
    monkeypatch.setitem(cluster.environment, "SBATCH_EXPORT", "NONE")
    monkeypatch.delitem(cluster.environment, "USER", raising=False)
    sweep = QueuedSweep(cluster, tmp_path)
    paths = f"export SLURM_CONF={cluster.environment['SLURM_CONF']}"  # a site has it in its usual place
    job = sweep.submit(1, setup=paths)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_sweeps_at_once_do_not_meet(cluster, tmp_path, expected):
    sweeps = [QueuedSweep(cluster, tmp_path / name) for name in ("a", "b")]
    for sweep in sweeps:
        sweep.folder.mkdir()
    jobs = [sweep.submit(2) for sweep in sweeps]
    for sweep, job in zip(sweeps, jobs, strict=True):
        assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
        assert sweep.verified().equals(expected)
