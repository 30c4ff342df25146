"""What to run: the sweep language, run identity and the planner.

Glossary
--------
Axis      one Hydra key and its values, for example ``optim.lr`` over four numbers.
Sweep     a base configuration, its axes and the rules that combine them.
Cell      one choice of every axis but the seed.
Run       one cell with one seed: the unit of result.
RunSpec   a run's full, resolved, frozen configuration (:mod:`sweeps.spec`).
run_id    hash of the part of the spec that changes the science.
Manifest  the frozen, ordered list of a sweep's runs (:mod:`sweeps.manifest.manifest`).
Rule      settings that hold where a condition does: not an axis, so not a column.
Filter    the one grammar for conditions, exclusions and choosing runs (:mod:`sweeps.grid.filters`).
Stage     a stretch of training that several runs share because their configurations agree so far.
Kin       runs that draw the same rollouts at step 0 and so belong together on one worker.
Race      seeds of a cell are run until its question is settled (:mod:`sweeps.deciding`).

From words or Python to runs: :func:`sweeps.compose.compose_sweep` (Hydra), :mod:`sweeps.grid.grid` (Python),
:func:`sweeps.manifest.build.build_manifest`, :func:`sweeps.cost.work_count.count_work`,
:func:`sweeps.sharing.stages.plan_stages`.

The package needs no torch, no Ray and, outside :mod:`sweeps.compose`, no Hydra.
"""
