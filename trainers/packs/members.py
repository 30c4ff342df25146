"""A member of a pack: a stretch of training that several runs may share, and what it has reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.sharing.stages import Stage
from sweeps.spec import RunSpec
from trainers.packs.experience import PackExperience


@dataclass(kw_only=True)
class Member:
    """One slot of the stack, at work."""

    slot: int
    spec: RunSpec
    """Of the first of its runs: all agree on what reaches its steps."""
    prompts: Sequence[Sequence[int]]
    stage: Stage
    runs: list[int]
    """Positions of the runs that pass the stage and still want it."""
    taken: int = 0
    """Optimizer steps of the stage that were taken."""
    experience: PackExperience | None = None
    """What its last step trained on."""

    @property
    def step(self) -> int:
        """The number of its next optimizer step."""
        return self.stage.first_step + self.taken

    @property
    def lr(self) -> float:
        return self.stage.lrs[self.taken]

    @property
    def is_through(self) -> bool:
        return self.taken == len(self.stage.lrs)

    @property
    def needs_rollouts(self) -> bool:
        """Whether the next step draws rollouts of its own."""
        return self.experience is None or (self.step - 1) % self.spec.objective.iterations == 0
