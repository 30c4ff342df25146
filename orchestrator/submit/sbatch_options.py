"""Further options of sbatch for a site: which of them a job of ours says itself, and by which key. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.spec.errors import UserError

OWN = {
    "job-name": "sweep.name",
    "nodes": "cluster.job.nodes",
    "cpus-per-task": "cluster.job.cpus_per_node",
    "cores-per-socket": "cluster.job.cpus_per_node",
    "mem": "cluster.job.memory_gib",
    "mem-per-cpu": "cluster.job.memory_gib",
    "mem-per-gpu": "cluster.job.memory_gib",
    "time": "cluster.job.time",
    "partition": "cluster.job.partition",
    "account": "cluster.job.account",
    "qos": "cluster.job.qos",
    "constraint": "cluster.job.constraint",
    "signal": "cluster.notice_s",
    "gpus": "cluster.job.gpus_per_node",
    "gpus-per-node": "cluster.job.gpus_per_node",
    "gpus-per-task": "cluster.job.gpus_per_node",
    "gpus-per-socket": "cluster.job.gpus_per_node",
    "cpus-per-gpu": "cluster.job.cpus_per_node",
}
"""Options that a key sets."""

FIXED = {
    "ntasks": "a job has one task a node",
    "ntasks-per-node": "a job has one task a node",
    "ntasks-per-socket": "a job has one task a node",
    "ntasks-per-core": "a job has one task a node",
    "ntasks-per-gpu": "a job has one task a node",
    "requeue": "a job queues itself again",
    "no-requeue": "a job queues itself again",
    "no-kill": "a job that has lost the node of its head would hang: it begins again",
    "open-mode": "a job that queues itself again goes on in its log",
    "output": "emsweep status reads the log where it is",
    "error": "emsweep status reads the log where it is",
    "chdir": "a job runs where emsweep launch was called: call it there",
    "array": "one driver launches the sweep: more nodes are cluster.job.nodes or cluster.job.elastic",
    "clusters": "emsweep status asks the cluster of this machine, where another job has its number",
    "wrap": "the job is the script",
    "parsable": "emsweep launch reads sbatch's answer",
    "quiet": "emsweep launch reads sbatch's answer",
    "test-only": "emsweep launch --dry-run submits nothing",
    "wait": "emsweep launch --follow waits",
    "help": "nothing would be submitted",
    "usage": "nothing would be submitted",
    "version": "nothing would be submitted",
}
"""Options that a job of ours decides itself, and why."""


def require_free(options: Sequence[str]) -> None:
    """Refuse an option of sbatch that would contradict another line of the job.

    Raises:
        UserError: naming the option, and the key that sets it.
    """
    for text in options:
        name, _, value = text.removeprefix("--").partition("=")
        if name == "gres" and value.startswith("gpu"):
            name = "gpus-per-node"
        for own in (*OWN, *FIXED):
            if own.startswith(name):  # sbatch takes the beginning of an option for the option
                rule = f"set {OWN[own]} instead" if own in OWN else FIXED[own]
                raise UserError(f"cluster.job.sbatch={text!r}: the job says --{own} itself; {rule}")
