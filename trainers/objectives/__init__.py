"""Objectives: pure functions from logits and rollouts to the scalar that a step lowers.

:mod:`~trainers.objectives.entropy` has H of each next-token distribution,
:mod:`~trainers.objectives.likelihood` log π of the tokens drawn, with H beside it where both are wanted,
:mod:`~trainers.objectives.advantage` the way from rewards to one credit per distinct rollout,
:mod:`~trainers.objectives.policy` the policy-gradient terms,
:mod:`~trainers.objectives.divergence` the distance from a reference,
:mod:`~trainers.objectives.preference` the losses of pairs and labelled completions, and
:mod:`~trainers.objectives.loss` puts the parts together as :class:`sweeps.spec.objective.ObjectiveSpec` says.
"""
