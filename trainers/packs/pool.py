"""A worker's hot packs: one engine a model and layout, the least recently used goes first."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence, Set

import torch

from sweeps.sharing.packs import packed_rank, shared_model
from sweeps.spec import RunSpec
from trainers.engine.gang import Gang
from trainers.model.base_model import load_weights
from trainers.packs.adapters import AdapterStack, NoSuchLayer, targets_of
from trainers.packs.architecture import NotPackable
from trainers.packs.engine import PackEngine
from trainers.packs.stack import Stack
from trainers.packs.trial import TRIED_SLOTS, require_like_model, require_members_apart


class PackPool:
    """Engines over stacks, each tried out before it is used."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._engines: OrderedDict[tuple, PackEngine] = OrderedDict()
        self._refused: dict[tuple, str] = {}

    def require(self, spec: RunSpec, slots: int) -> None:
        """Refuse a run that cannot be packed; an engine that is built for that has so many slots.

        Raises:
            NotPackable: as :meth:`acquire`; or if the run adds to layers of another family.
        """
        stack = (self._engines.get(_model_of(spec)) or self.acquire([spec], slots=slots)).stack
        if spec.model.adapter != "none" and (odd := set(spec.model.adapter_targets) - stack.addable):
            raise NoSuchLayer(f"model.adapter_targets={min(odd)!r}: {spec.model.name} has no such layer")

    def acquire(self, specs: Sequence[RunSpec], *, slots: int) -> PackEngine:
        """Return an engine for runs of one :func:`sweeps.sharing.packs.pack_key`, building it if none is hot;
        every rank must call it, and alike.

        Args:
            specs: The runs of all ranks.
            slots: One for each of this rank's at least, never one for each that a pack could hold: slots cost
                memory.

        Raises:
            NotPackable: if the model's runs cannot be packed, or not on this processor.
        """
        self._gang.process.restore()
        spec, model = specs[0], _model_of(specs[0])
        targets = {target for own in specs for target in targets_of(own.model)}
        if model in self._refused:
            raise NotPackable(self._refused[model])
        engine = self._engines.pop(model, None)
        if engine is not None and not (slots <= engine.stack.width and targets <= engine.stack.targets):
            targets |= engine.stack.targets
            engine.close()
            engine = None
        if engine is None:
            while len(self._engines) >= spec.engine.max_hot_engines:
                self._engines.popitem(last=False)[1].close()
            try:
                engine = self._build(spec, max(slots, TRIED_SLOTS), targets)
            except NoSuchLayer:
                raise
            except NotPackable as refusal:
                self._refused[model] = str(refusal)
                raise
        self._engines[model] = engine
        engine.begin()
        return engine

    def _build(self, spec: RunSpec, width: int, targets: Set[str]) -> PackEngine:
        plain = dataclasses.replace(spec.model, adapter="none")
        model = load_weights(plain, precision=spec.engine.precision, attention=spec.engine.attention)
        model = model.to(self._gang.device)
        stack: Stack
        if spec.model.adapter == "none":
            stack = Stack(model, width)
        else:
            stack = AdapterStack(model, width, rank=packed_rank(spec.model), targets=targets)
        with torch.no_grad():
            require_like_model(stack, model)
        engine = PackEngine(stack, model, spec.engine)
        del model
        if spec.engine.zero_stage == 3 and isinstance(stack, AdapterStack):
            stack.shard(self._gang)
        require_members_apart(engine)
        self._gang.process.restore()
        return engine

    def discard(self) -> None:
        """Forget every engine: after an exception they may hold half a step."""
        while self._engines:
            self._engines.popitem()[1].close()

    close = discard


def _model_of(spec: RunSpec) -> tuple:
    engine = spec.engine
    return shared_model(spec.model), engine.precision, engine.attention, engine.zero_stage
