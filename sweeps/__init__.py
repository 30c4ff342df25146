"""What to run: the sweep language, run identity and the planner.

Glossary
--------
Axis      one Hydra key and its values, for example ``optim.lr`` over four numbers.
Sweep     a base configuration, its axes and the rules that combine them.
Cell      one choice of every axis but the seed.
Run       one cell with one seed: the unit of result.
RunSpec   a run's full, resolved, frozen configuration (:mod:`sweeps.spec`).
run_id    hash of the part of the spec that changes the science.
Manifest  the frozen, ordered list of a sweep's runs (:mod:`sweeps.manifest`).
Stage     a stretch of training that several runs share because their configurations agree so far.

The package needs no torch, no Ray and, outside :mod:`sweeps.compose`, no Hydra.
"""
