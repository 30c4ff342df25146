"""The name under which earlier sweeps know the merging trainer: it is hashed into their run ids."""

from trainers.merge.trainer import Merge

__all__ = ["Merge"]
