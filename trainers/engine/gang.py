"""The processes that form one DeepSpeed world, and how they find each other.

A world of one needs no port at all. In a larger gang, rank 0 opens a store on a port that the system chooses
(:func:`host_rendezvous`) and every rank, itself included, joins there: no fixed port, so gangs never
collide on a host.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from trainers.deepspeed_internals import import_deepspeed, skip_compiling
from trainers.engine.process_state import ready

if TYPE_CHECKING:
    from trainers.protocol import WorkerContext

JOIN_TIMEOUT = timedelta(minutes=5)
"""How long a rank waits for the others: workers import torch at different speeds on a busy machine."""

_hosted: dict[str, dist.TCPStore] = {}


def host_rendezvous(host: str) -> str:
    """Open a store for a gang in this process, which becomes its rank 0.

    Args:
        host: Address of this machine that the other ranks can reach.

    Returns:
        ``tcp://host:port``, to be given to every rank as ``WorkerContext.rendezvous``.
    """
    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=JOIN_TIMEOUT)
    address = f"tcp://{host}:{store.port}"
    _hosted[address] = store
    return address


class Gang:
    """This process's place among the ranks, joined once for its life."""

    def __init__(self, context: WorkerContext) -> None:
        self.rank = context.rank
        self.world_size = context.world_size
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        if not dist.is_initialized():
            _join(context, "nccl" if self.device.type == "cuda" else "gloo")
        if (dist.get_rank(), dist.get_world_size()) != (self.rank, self.world_size):
            raise RuntimeError(
                f"this process is rank {dist.get_rank()} of {dist.get_world_size()} and cannot become "
                f"rank {self.rank} of {self.world_size}: start a fresh worker"
            )
        self.process = ready()

    def any(self, answer: bool) -> bool:
        """Whether the answer is yes on any rank; every rank must call it."""
        if self.world_size == 1:
            return answer
        flag = torch.tensor(float(answer), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values, dist.ReduceOp.SUM)
        return values

    def gather(self, part: Any) -> list[Any]:
        if self.world_size == 1:
            return [part]
        parts: list[Any] = [None] * self.world_size
        dist.all_gather_object(parts, part)
        return parts


class Alone(Gang):
    """One rank of a gang, at work that the others have no part in: a gang of one, without collectives."""

    def __init__(self, gang: Gang) -> None:
        self.rank, self.world_size = 0, 1
        self.device, self.process = gang.device, gang.process


def _join(context: WorkerContext, backend: str) -> None:
    if backend == "gloo":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it found no other
    deepspeed = import_deepspeed()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    skip_compiling()
    if context.world_size == 1:
        store: dist.Store = dist.HashStore()
    elif context.rendezvous in _hosted:
        store = _hosted[context.rendezvous]
    else:
        host, _, port = context.rendezvous.removeprefix("tcp://").rpartition(":")
        store = dist.TCPStore(host, int(port), is_master=False, timeout=JOIN_TIMEOUT)
    # DeepSpeed and some of its optimizers read these; the process group itself comes from the store.
    os.environ.update(RANK=str(context.rank), WORLD_SIZE=str(context.world_size), LOCAL_RANK="0")
    dist.init_process_group(
        backend, store=store, rank=context.rank, world_size=context.world_size, timeout=JOIN_TIMEOUT
    )
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
