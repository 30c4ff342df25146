"""A member of a pack: a stretch of training that several runs may share, and what it has reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeps.sharing.stages import Stage
from sweeps.spec import RunSpec
from trainers.model.target_encoding import GivenSequence
from trainers.packs.experience import PackExperience
from trainers.step.prompts import Prompts, StepPrompts
from trainers.step.update import starts_afresh


@dataclass(kw_only=True)
class Member:
    """One slot of the stack, at work."""

    slot: int
    spec: RunSpec
    """Of the first of its runs: all agree on what reaches its steps."""
    prompts: Prompts
    stage: Stage
    runs: list[int]
    """Positions of the runs that pass the stage and still want it."""
    taken: int = 0
    """Optimizer steps of the stage that were taken."""
    now: StepPrompts | None = None
    """The prompts of its next step, or of the last one that began afresh."""
    experience: PackExperience | None = None
    """What its last step trained on."""
    _of_step: RunSpec | None = field(default=None, init=False)

    @property
    def step(self) -> int:
        """The number of its next optimizer step."""
        return self.stage.first_step + self.taken

    @property
    def lr(self) -> float:
        lr = self.stage.lrs[self.taken]
        assert isinstance(lr, float), "runs that try rates are not packed"
        return lr

    @property
    def is_through(self) -> bool:
        return self.taken == len(self.stage.lrs)

    @property
    def begins_afresh(self) -> bool:
        """Whether the next step does not train once more on what the last one did."""
        return self.experience is None or starts_afresh(self.spec, self.step)

    def take_up(self) -> StepPrompts:
        """Turn to the prompts of the next step, which begins afresh."""
        self.now, self._of_step = self.prompts.at(self.step), None
        return self.now

    @property
    def ids(self) -> Sequence[Sequence[int]]:
        """Token ids of each prompt of the step."""
        assert self.now is not None
        return self.now.ids

    @property
    def given(self) -> Sequence[GivenSequence]:
        """What the step's rows give to train on."""
        assert self.now is not None
        return self.now.given

    @property
    def of_step(self) -> RunSpec:
        """What its runs ask of this one step."""
        if self._of_step is None:
            assert self.now is not None
            self._of_step = self.now.of_step(self.spec)
        return self._of_step
