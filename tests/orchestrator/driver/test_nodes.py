"""What people hear of a cluster's nodes."""

from __future__ import annotations

from orchestrator.driver.nodes import NodeWatch, nodes_asked
from orchestrator.scheduling.events import Capacity, Node


def of(*cpus):
    return Capacity(slots=8, nodes=tuple(Node(cpus=num) for num in cpus))


def test_the_number_asked_for_is_the_jobs_unless_somebody_says_otherwise():
    assert nodes_asked({}) == 0
    assert nodes_asked({"SLURM_JOB_NUM_NODES": "4"}) == 4
    assert nodes_asked({"SLURM_JOB_NUM_NODES": "4", "EMSWEEP_NODES": "2"}) == 2


def test_a_node_that_is_missing_is_told_of_and_one_that_comes_or_goes():
    watch = NodeWatch(of(2), 2)
    assert watch.is_short
    assert watch.text() == "1 of 2 nodes there"
    assert watch.look(of(2)) == ""
    assert watch.look(of(2, 2)) == "1 node joined: 2 of 2 nodes there"
    assert watch.look(of()) == "2 nodes left: 0 of 2 nodes there"
    assert watch.status() == {"there": 0, "asked": 2}


def test_a_head_without_a_core_is_no_node_and_one_machine_is_not_worth_a_word():
    watch = NodeWatch(of(0, 2, 2), 0)
    assert not watch.is_short
    assert watch.status() == {"there": 2, "asked": None}
    assert not NodeWatch(of(8), 0).is_told
