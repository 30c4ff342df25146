"""The name under which earlier sweeps know the trainer: it is hashed into their run ids."""

from trainers.policy_trainer import PolicyTrainer as EntropyMinimization

__all__ = ["EntropyMinimization"]
