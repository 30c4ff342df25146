"""A worker's hot engines: built once per model and layout, the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields

from sweeps.spec import RunSpec
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.engine.setup import parts_groups
from trainers.model.base_model import load_weights, stored_weights

SET_IN_PLACE = ("lr", "half_every_steps")
"""Fields of the optimizer that a hot engine takes from run to run."""


class EnginePool:
    """A worker's hot engines."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._engines: OrderedDict[tuple, Engine] = OrderedDict()

    def acquire(self, spec: RunSpec) -> Engine:
        """Return an engine in base state for the run, building it if none is hot."""
        key = _engine_key(spec)
        engine = self._engines.pop(key, None)
        self._gang.process.restore()
        if engine is None:
            while len(self._engines) >= spec.engine.max_hot_engines:
                self._engines.popitem(last=False)[1].close()
            model = load_weights(spec.model, precision=spec.engine.precision, attention=spec.engine.attention)
            model, stored = model.to(self._gang.device), stored_weights(spec.model)
            engine = Engine(model, spec.optim, spec.engine, self._gang, stored)
            self._gang.process.restore()
        engine.reset(spec.seed)
        self._engines[key] = engine
        return engine

    @property
    def latest(self) -> Engine:
        return self._engines[next(reversed(self._engines))]

    def discard(self, spec: RunSpec) -> None:
        """Forget the run's engine: after an exception its buckets and hooks may hold half a step."""
        engine = self._engines.pop(_engine_key(spec), None)
        if engine is not None:
            engine.close()

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()


def _engine_key(spec: RunSpec) -> tuple:
    model = spec.model
    adapter = (model.adapter, model.adapter_rank, model.adapter_alpha, model.adapter_targets)
    identity = (model.path, model.hub_id, model.revision, model.digest, *adapter)
    optim = spec.optim
    fixed = tuple(getattr(optim, f.name) for f in fields(optim) if f.name not in SET_IN_PLACE)
    e = spec.engine
    layout = (
        e.precision,
        e.zero_stage,
        e.offload,
        e.gradient_checkpointing,
        e.attention,
        spec.resources.world_size,
    )
    return (*identity, *fixed, *layout, parts_groups(optim, e))
