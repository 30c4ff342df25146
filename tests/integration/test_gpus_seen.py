"""What each rank sees of its node's GPUs, and how many workers the GPUs carry; Ray only counts them here."""

from __future__ import annotations

import json
import time
from collections import defaultdict

import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.status import read_status
from tests.chaos.harness import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SEEING = ("sweep=noop", "trainer.target=tests.orchestrator.pools.seeing.Seeing", "cluster.give_back_s=2")


def words_of(folder, num_runs, duration_s, **resources):
    """A sweep whose runs write down in ``folder`` what they see."""
    folder.mkdir()
    asked = [f"resources.{key}={value}" for key, value in resources.items()]
    params = (f"+trainer.params.folder={folder}", f"+trainer.params.duration_s={duration_s}")
    return (*SEEING, f"sweep.n={num_runs}", *params, *asked)


def seen_in(folder):
    """What each run's ranks saw, by seed and rank."""
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*-*") if path.name[0].isdigit()}


def num_workers(sweep):
    return (read_status(Layout(sweep.folder)) or {}).get("workers", 0)


def watched(sweep, process):
    """The most workers that the sweep had at once."""
    most = 0
    while process.poll() is None:
        most = max(most, num_workers(sweep))
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert sweep.verify()["ok"]
    return most


def test_parts_of_gpus_fill_each_gpu_and_no_worker_waits_for_the_rest_of_two(sweep_on, tmp_path):
    words = words_of(tmp_path / "seen", 24, 2, gpus_per_worker=0.4)
    sweep, _ = sweep_on(2, *words, types={"gpu": {"CPU": 4, "GPU": 1}})
    assert watched(sweep, sweep.launch()) == 4, "two on each GPU: five times 0.4 fit two GPUs only on paper"
    on_gpu = defaultdict(set)
    for seen in seen_in(tmp_path / "seen").values():
        on_gpu[seen["node"], seen["gpus"]].add(seen["pid"])
    assert [gpus for _, gpus in on_gpu] == ["0", "0"]
    assert [len(pids) for pids in on_gpu.values()] == [2, 2]


def test_a_worker_of_two_gpus_sees_two_and_the_third_of_a_node_serves_none(sweep_on, tmp_path):
    words = words_of(tmp_path / "seen", 12, 2, gpus_per_worker=2)
    sweep, _ = sweep_on(2, *words, types={"gpu": {"CPU": 4, "GPU": 3}})
    assert watched(sweep, sweep.launch()) == 2
    seen = seen_in(tmp_path / "seen").values()
    assert len({s["node"] for s in seen}) == 2
    assert {len(set(s["gpus"].split(","))) for s in seen} == {2}


def test_ranks_on_two_nodes_each_see_the_gpu_of_their_own(sweep_on, tmp_path):
    words = words_of(tmp_path / "seen", 2, 0, gpus_per_worker=1, world_size=2)
    sweep, _ = sweep_on(2, *words, types={"gpu": {"CPU": 4, "GPU": 1}})
    watched(sweep, sweep.launch())
    seen = seen_in(tmp_path / "seen")
    assert sorted(seen) == ["0-0", "0-1", "1-0", "1-1"]
    assert [s["gpus"] for s in seen.values()] == ["0"] * 4
    assert all(seen[f"{seed}-0"]["node"] != seen[f"{seed}-1"]["node"] for seed in (0, 1))


def test_ranks_on_one_node_share_no_gpu_and_a_worker_without_one_sees_none(sweep_on, tmp_path):
    words = words_of(tmp_path / "gang", 2, 0, gpus_per_worker=1, world_size=2)
    sweep, _ = sweep_on(1, *words, types={"gpu": {"CPU": 4, "GPU": 2}})
    watched(sweep, sweep.launch())
    seen = seen_in(tmp_path / "gang")
    assert all({seen[f"{seed}-0"]["gpus"], seen[f"{seed}-1"]["gpus"]} == {"0", "1"} for seed in (0, 1))
    sweep.folder, sweep.words = tmp_path / "second", words_of(tmp_path / "none", 2, 0)
    watched(sweep, sweep.launch())
    assert {s["gpus"] for s in seen_in(tmp_path / "none").values()} == {""}


def test_a_cap_is_lowered_and_raised_live_and_nodes_go_and_come_with_it(sweep_on, tmp_path):
    words = words_of(tmp_path / "seen", 400, 1, gpus_per_worker=1)
    sweep, cluster = sweep_on(3, *words, types={"gpu": {"CPU": 1, "GPU": 1}})
    process = sweep.launch()

    def cap(*limits):
        out, err = sweep.start("cap", str(sweep.folder), *limits).communicate(timeout=60)
        assert not json.loads(out).get("error"), err

    wait_until(lambda: num_workers(sweep) == 3)
    cap("--gpus", "1")
    wait_until(lambda: num_workers(sweep) == 1)
    wait_until(lambda: cluster.num_nodes == 1)
    cap("--workers", "2")
    wait_until(lambda: num_workers(sweep) == 2 and cluster.num_nodes == 2)
    cap()
    wait_until(lambda: num_workers(sweep) == 3)
    assert process.poll() is None
    stopped = sweep.start("stop", str(sweep.folder))
    stopped.communicate(timeout=60)
    process.communicate(timeout=60)
    wait_until(lambda: cluster.num_nodes == 0)
