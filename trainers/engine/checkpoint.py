"""Weights and training states on disk.

``<checkpoint dir>/step-<n>/`` is a Hugging Face folder: config, tokenizer, and a ``model.safetensors`` whose
metadata holds the run's id, its spec and a digest of the tensors. It loads with ``from_pretrained``. An
adapter is merged into it and lies beside it, as ``adapter``, for peft.

It appears whole or not at all: it is written under another name, synced, then renamed.

``<checkpoint dir>/state/step-<n>/`` is what a killed run resumes from: one ``rank-<r>.safetensors`` per rank
and a ``progress.json``, written last; without that file the state does not count. It is removed when the run
has a result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sweeps.manifest.atomic import give_usual_mode, replacing, replacing_folder, write_atomically
from sweeps.spec import RunSpec, canonical_json, spec_to_dict
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.engine.state import EngineState, Start
from trainers.model.adapter import adapter_of, merged, save_adapter
from trainers.model.base_model import BaseModel

WEIGHTS = "model.safetensors"
PROGRESS = "progress.json"


def kept_steps(spec: RunSpec) -> tuple[int, ...]:
    """Steps whose weights the retention policy keeps; of ``best``, the sweep prunes all but the best runs
    later.
    """
    policy = spec.resources.keep_checkpoints
    if policy == "none":
        return ()
    return tuple(s for s in spec.eval_steps if s) if policy == "all" else (spec.steps,)


def save_weights(folder: Path, engine: Engine, spec: RunSpec, base: BaseModel, step: int, gang: Gang) -> None:
    """Write the model as ``folder/step-<step>``; every rank must call it, rank 0 writes."""
    whole = engine.full_weights()
    if gang.rank == 0:
        write_weights(folder, whole, engine.module, spec, base, step)
    gang.any(False)  # no rank goes on before the folder stands


def write_weights(
    folder: Path,
    tensors: Mapping[str, Tensor],
    module: torch.nn.Module,
    spec: RunSpec,
    base: BaseModel,
    step: int,
) -> None:
    """Write weights as ``folder/step-<step>``: an adapter merged into them, and beside them by itself."""
    adapter, tensors = adapter_of(tensors), merged(tensors, spec.model)
    metadata = {
        "format": "pt",
        "run_id": spec.run_id,
        "step": str(step),
        "spec": canonical_json(spec_to_dict(spec)),
        "digest": tensors_digest(tensors),
    }
    with replacing_folder(folder / f"step-{step}", durable=True) as target:
        save_file(tensors, target / WEIGHTS, metadata=metadata)
        give_usual_mode(target / WEIGHTS)
        loaded = cast(Any, module)
        loaded.config.save_pretrained(target)
        if loaded.can_generate():
            loaded.generation_config.save_pretrained(target)
        base.tokenizer.save_pretrained(target)
        if adapter:
            save_adapter(target / "adapter", adapter, spec.model)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def check_weights(folder: Path) -> dict[str, str]:
    """Return the metadata of a saved model after holding its tensors against the digest.

    Raises:
        ValueError: if the tensors are not those that were saved.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        metadata = dict(file.metadata())
    digest = tensors_digest(load_file(folder / WEIGHTS))
    if digest != metadata["digest"]:
        raise ValueError(
            f"{folder / WEIGHTS}: digest {digest[:12]}… differs from the recorded "
            f"{metadata['digest'][:12]}…; the file is damaged, compute the run again"
        )
    return metadata


def load_weights_of(run_id: str, folder: Path) -> dict[str, Tensor]:
    """Load what :func:`save_weights` wrote for a run.

    Raises:
        ValueError: if the folder holds another run's weights, or damaged ones.
    """
    held = check_weights(folder)["run_id"]
    if held != run_id:
        raise ValueError(f"{folder}: holds the weights of run {held}, not {run_id}; compute that run again")
    return load_file(folder / WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where a run stands between two steps, on one rank."""

    step: int
    engine: EngineState
    progress: Mapping[str, Any]
    """Rows recorded so far and the last rollouts, as JSON values."""


def save_state(folder: Path, state: TrainingState, run_id: str, gang: Gang) -> None:
    """Write a training state; every rank must call it. Older states are removed once this one is complete."""
    state_folder = folder / "state" / f"step-{state.step}"
    state_folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"w.{k}": t.contiguous() for k, t in enumerate(state.engine.weights)}
    for k, moments in enumerate(state.engine.moments):
        tensors |= {f"m.{k}.{name}": t.contiguous() for name, t in moments.items()}
    start = state.engine.start
    tensors |= {f"s.{k}": t.contiguous() for k, t in enumerate(start.weights if start else ())}
    scaler = {k: v for k, v in state.engine.scaler.items() if isinstance(v, (bool, int, float, str))}
    counts = json.dumps(list(map(dict, state.engine.counts)))
    path = state_folder / f"rank-{gang.rank}.safetensors"
    with replacing(path, durable=True) as temporary:
        plain = {"scaler": json.dumps(scaler), "counts": counts, "start": start.name if start else ""}
        save_file(tensors, temporary, metadata=plain)
        give_usual_mode(temporary)
    gang.any(False)  # every rank's file stands before the state counts as complete
    if gang.rank == 0:
        text = json.dumps({"run_id": run_id, "world_size": gang.world_size, "progress": state.progress})
        write_atomically(state_folder / PROGRESS, text.encode(), durable=True)
        for other in (folder / "state").iterdir():
            if other != state_folder:
                shutil.rmtree(other)


def load_state(folder: Path | None, run_id: str, gang: Gang) -> TrainingState | None:
    """The latest complete state of this run for this world size, or ``None``."""
    for state_folder in sorted(
        (folder / "state").glob("step-*") if folder else (), key=_step_of, reverse=True
    ):
        if not (state_folder / PROGRESS).is_file():
            continue
        stored = json.loads((state_folder / PROGRESS).read_text())
        if (stored["run_id"], stored["world_size"]) != (run_id, gang.world_size):
            continue
        path = state_folder / f"rank-{gang.rank}.safetensors"
        with safe_open(path, framework="pt") as file:
            plain = {"counts": "[]", "start": ""} | file.metadata()  # as states of earlier versions mean
        return TrainingState(
            step=_step_of(state_folder),
            engine=_engine_state(load_file(path), plain),
            progress=stored["progress"],
        )
    return None


def drop_states(folder: Path | None, gang: Gang) -> None:
    """Remove the training states of a run that has ended."""
    if folder and gang.rank == 0:
        shutil.rmtree(folder / "state", ignore_errors=True)


def _engine_state(tensors: Mapping[str, Tensor], plain: Mapping[str, str]) -> EngineState:
    weights, start = ([tensors[f"{kind}.{k}"] for k in range(_num(tensors, kind))] for kind in "ws")
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, number, *rest = name.split(".", 2)
        if kind == "m":
            moments.setdefault(int(number), {})[rest[0]] = tensor
    return EngineState(
        weights=weights,
        moments=[moments[k] for k in sorted(moments)],
        counts=json.loads(plain["counts"]),
        scaler=json.loads(plain["scaler"]),
        start=Start(name=plain["start"], weights=start) if start else None,
    )


def _num(tensors: Mapping[str, Tensor], kind: str) -> int:
    return sum(name.startswith(f"{kind}.") for name in tensors)


def _step_of(state_folder: Path) -> int:
    return int(state_folder.name.removeprefix("step-"))
