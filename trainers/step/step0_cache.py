"""A training step, of which step 0 is computed once for all runs that agree on it.

At step 0 every run of a base model, or after one earlier run, has the same weights. So runs with equal keys
(:mod:`sweeps.sharing.stages`) share its rollouts, what those are worth, and the gradient. The latest one of
each is remembered, which is enough: stages come ordered by key.
"""

from __future__ import annotations

from sweeps.sharing.stages import gradient_key, rollout_key
from trainers.engine.half_finetuning import frozen_half
from trainers.step.curation import Mixture, curated
from trainers.step.experience import Experience, TrainContext, gather
from trainers.step.forward import without_gradients
from trainers.step.rollout import Rollouts, draw_rollouts
from trainers.step.update import Gradient, Update, gradient_of, update_by, update_policy

_Key = tuple[str, str]
"""What decides the weights, and what is done with them."""


class Steps:
    """Takes optimizer steps for the runs of one group.

    Args:
        several: whether there are other runs to share with.
    """

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._first_rollouts: tuple[_Key, Rollouts] | None = None
        self._first_experience: tuple[_Key, Experience] | None = None
        self._first_gradient: tuple[_Key, Gradient] | None = None
        self._first_round: tuple[_Key, Mixture] | None = None

    def gather(self, context: TrainContext, step: int, drafts: Rollouts | None) -> Experience:
        """Rollouts at the current weights and what they are worth.

        Args:
            drafts: the step before's rollouts, likely to be drawn again.
        """
        key = (context.start, gradient_key(context.spec)) if step == 0 else None
        if key and self._first_experience and self._first_experience[0] == key:
            return self._first_experience[1]
        experience = gather(context, lambda redraw: self._draw(context, step, drafts, redraw), step=step)
        if key:
            self._first_experience = key, experience
        return experience

    def _draw(self, context: TrainContext, step: int, drafts: Rollouts | None, redraw: int) -> Rollouts:
        key = (context.start, rollout_key(context.spec)) if step == 0 and redraw == 0 else None
        if key and self._first_rollouts and self._first_rollouts[0] == key:
            return self._first_rollouts[1]
        with without_gradients(context.spec):
            rollouts = draw_rollouts(
                context.engine.module,
                context.spec,
                context.base,
                context.prompts,
                step=step,
                gang=context.gang,
                drafts=drafts,
                redraw=redraw,
            )
        if key:
            self._first_rollouts = key, rollouts
        return rollouts

    def round(self, context: TrainContext) -> Mixture:
        """What a run's last round trains on, by the engine's weights."""
        key = None if context.spec.steps_before else (context.start, rollout_key(context.spec))
        if key and self._first_round and self._first_round[0] == key:
            return self._first_round[1]
        mixture = curated(context)
        if key:
            self._first_round = key, mixture
        return mixture

    def update(self, context: TrainContext, step: int, experience: Experience, lr: float) -> Update:
        """Take optimizer step ``step``, counted from 1, at a learning rate."""
        spec, engine, gang = context.spec, context.engine, context.gang
        if every := spec.optim.half_every_steps:
            names = (name for name, _ in engine.module.named_parameters())
            engine.freeze(frozen_half(names, spec.seed, (step - 1) // every))
        common = (spec.objective, engine, experience)
        if step > 1 or not self._several or not engine.gradients_can_be_kept:
            return update_policy(*common, lr, gang)
        key = context.start, gradient_key(spec)
        if self._first_gradient is None or self._first_gradient[0] != key:
            self._first_gradient = key, gradient_of(*common, gang)
        return update_by(self._first_gradient[1], engine, lr)
