"""A sweep directory on a folder that all nodes share, the workers' spools on disks of their own."""

from __future__ import annotations

import shutil

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def test_results_reach_the_shared_folder_from_disks_that_only_their_nodes_see(sweep, tmp_path, expected):
    disk = tmp_path / "disk"
    job = sweep.submit(2, f"cluster.node_spools={disk}")
    sweep.wait_for_results(4)
    assert any(disk.rglob("*.jsonl")), "the workers write to their node's disk"
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    shutil.rmtree(disk, ignore_errors=True)
    assert sweep.verified().equals(expected)


def test_a_node_that_loses_its_disk_costs_no_result(sweep, tmp_path, expected):
    disk = tmp_path / "disk"
    job = sweep.submit(2, f"cluster.node_spools={disk}")
    sweep.wait_for_results(4)
    shutil.rmtree(disk)
    disk.write_text("no folder any more")  # nothing can be made below it
    sweep.wait(lambda status: status["counts"]["done"] >= 12)
    disk.unlink()  # a new disk
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)
