"""``objective.compat=upstream`` is the published update.

Held against the published ``train.py`` itself where that is at hand, its ``main`` run on the CPU with
accelerate and wandb stubbed and ``generate`` fed fixed rollouts::

    EMSWEEP_ONE_SHOT_EM=~/one-shot-em pytest tests/trainers/step/test_published.py

and always against the formula written down once more: left-padded micro batches, padding told by token id.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from sweeps.spec import RunSpec
from tests.trainers.worlds import package_file, tiny_spec
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel, load_base
from trainers.protocol import WorkerContext
from trainers.step.compat import dealing
from trainers.step.experience import TrainContext, gather
from trainers.step.rollout import Rollouts, merge
from trainers.step.update import Gradient, gradient_of

SOURCE = "EMSWEEP_ONE_SHOT_EM"
"""Environment variable that names the folder of the published code."""

NUM_ROLLOUTS = 8
END = "<end>"
COMPLETIONS = ["", "1", ";02;102", ";11;131", "?12", ";0", "7;;;", "?121"]
"""What the tiny world's model is made to say to the rollouts, in turn; all but the third and the last end."""
CUT_OFF = (2, 7)

ROUNDING = 5e-5
"""Of a gradient in float32 whose rows are padded on another side: 2.1e-5 was measured."""
BF16_ROUNDING = 4e-3
"""One unit in the last place of bfloat16: the weight of a token is rounded before or after it is averaged."""

UNROUNDED = "unshifted_mask+padded_lengths+eos_as_padding+micro_batch_means+rank0_loss"
"""All defects of the update but its type."""


@dataclass
class PlainEngine:
    """What a step needs of an engine, with torch's own gradients."""

    module: torch.nn.Module
    gradients_can_be_kept: bool = True

    def forward(self, **inputs: Any) -> Any:
        return self.module(**inputs)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def gradients(self) -> list[torch.Tensor]:
        return [p.grad.detach().float().clone() for p in self.module.parameters()]


@dataclass(frozen=True)
class World:
    """A model folder, prompts, and the rollouts drawn for them."""

    folder: Path
    prompts: list[str]
    base: BaseModel
    encoded: list[list[int]]
    rollouts: Rollouts
    order: list[int]
    """Rollouts as the published loader deals them out."""

    @property
    def dealt(self) -> list[tuple[int, tuple[int, ...]]]:
        """Prompt and completion at each place."""
        r = self.rollouts
        return [(r.prompt[d], tuple(r.completion[d])) for d in (r.distinct[k] for k in self.order)]


def world(folder: Path, prompts: list[str], *, pad_is_eos: bool) -> World:
    shutil.copytree(package_file("trainers/tiny/models/tiny-64"), folder)
    if pad_is_eos:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings["pad_token"] = settings["eos_token"]
        path.write_text(json.dumps(settings))
    spec = published_spec(prompts)
    base = load_base(tiny_spec(model={"path": str(folder)}).model)
    assert (base.pad_id in base.eos_ids) is pad_is_eos
    encoded = [base.tokenizer(prompt)["input_ids"] for prompt in prompts]
    each = NUM_ROLLOUTS // len(prompts)
    said = [base.tokenizer(text)["input_ids"] for text in COMPLETIONS]
    completions = [(*ids, *([] if k in CUT_OFF else base.eos_ids)) for k, ids in enumerate(said)]
    completions[1] = completions[0]  # drawn twice, and merged by us
    rollouts = merge([p for p in range(len(prompts)) for _ in range(each)], completions)
    order = dealing(spec.objective, NUM_ROLLOUTS, len(prompts), spec.seed, 0).order
    return World(folder, prompts, base, encoded, rollouts, list(order))


def published_spec(prompts: list[str], compat: str = "upstream") -> RunSpec:
    return tiny_spec(
        example={"prompts": prompts},
        objective={"compat": compat, "compat_world_size": 1, "temperature": 0.5},
        sampling={"num_rollouts": NUM_ROLLOUTS},
        seed=4,
    )


def loaded(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def ours(world: World, compat: str) -> Gradient:
    """Loss and gradient of our step on the world's rollouts."""
    spec = published_spec(world.prompts, compat)
    engine = PlainEngine(loaded(world.folder))
    context = TrainContext(
        spec=spec,
        base=world.base,
        prompts=world.encoded,
        engine=engine,  # type: ignore[arg-type]
        rewards=None,  # type: ignore[arg-type]
        references=None,  # type: ignore[arg-type]
        gang=Gang(WorkerContext()),
    )
    experience = gather(context, lambda _: world.rollouts)
    return gradient_of(spec.objective, engine, experience, context.gang)  # type: ignore[arg-type]


def written_down(world: World) -> tuple[float, list[torch.Tensor]]:
    """The published loss of the last micro batch, and the gradient of the mean over micro batches."""
    model = loaded(world.folder)
    pad, pairs = world.base.pad_id, world.dealt
    micro_batches = [pairs[k : k + 2] for k in range(0, len(pairs), 2)]
    for members in micro_batches:
        widest = max(len(world.encoded[p]) for p, _ in members)
        longest = max(len(c) for _, c in members)
        rows = [
            [pad] * (widest - len(world.encoded[p])) + world.encoded[p] + [*c] + [pad] * (longest - len(c))
            for p, c in members
        ]
        logits = model(torch.tensor(rows), attention_mask=torch.tensor(rows) != pad).logits
        terms = []
        for row, scores in zip(rows, logits, strict=True):
            begins = sum(token != pad for token in row[:widest])
            for index in range(begins, len(row)):
                if row[index] != pad:
                    p = torch.softmax(scores[index] / 0.5, -1)
                    terms.append(-(p * torch.log(p + 1e-12)).sum())
        loss = sum(terms, torch.zeros((), requires_grad=True)) / max(1, len(terms))
        (loss / len(micro_batches)).backward()
    return float(loss.detach()), [p.grad.float() for p in model.parameters()]


WORLDS = {
    "one prompt": (["47+38="], True),
    "two lengths": (["47+38=", "1+2=3;4+5="], True),
    "an end inside": (["47+38=", f"1+2={END}4+5="], True),
    "padding of its own": (["47+38=", f"1+2={END}4+5="], False),
    "four prompts": (["47+38=", "1=", f"{END}3+4=", "55+66=77+"], True),
}


@pytest.fixture(params=WORLDS)
def any_world(request, tmp_path) -> World:
    prompts, pad_is_eos = WORLDS[request.param]
    return world(tmp_path / "model", prompts, pad_is_eos=pad_is_eos)


def difference(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Norm of the difference of two gradients over that of the second."""
    one, two = (torch.cat([t.flatten() for t in tensors]) for tensors in (a, b))
    return float((one - two).norm() / two.norm())


def test_the_update_is_the_published_formula(any_world):
    loss, gradient = written_down(any_world)
    if any_world.base.pad_id in any_world.base.eos_ids:
        mine = ours(any_world, UNROUNDED)
        assert mine.seen.loss == pytest.approx(loss, rel=1e-5)
        assert difference(mine.tensors, gradient) < ROUNDING
    rounded = ours(any_world, "upstream")
    assert rounded.seen.loss == pytest.approx(loss, rel=5e-2)
    assert difference(rounded.tensors, gradient) < 8e-2  # 5e-2 was measured: what three digits cost


def test_each_defect_moves_the_update(tmp_path):
    prompts, pad_is_eos = WORLDS["four prompts"]
    drawn = world(tmp_path / "model", prompts, pad_is_eos=pad_is_eos)
    exact = ours(drawn, "exact")
    for name in ("padded_lengths", "unshifted_mask", "eos_as_padding", "micro_batch_means", "bf16_entropy"):
        assert difference(ours(drawn, name).tensors, exact.tensors) > 1e-3, name
    logged = ours(drawn, "rank0_loss")
    assert difference(logged.tensors, exact.tensors) < 1e-6
    assert logged.seen.loss != pytest.approx(exact.seen.loss, rel=1e-3)


@dataclass
class Accelerate:
    """Stands in for ``Accelerator`` on DeepSpeed: one process, gradients averaged over micro batches.

    The model computes in float32: in bfloat16 the side of the padding alone moves its gradient by a tenth.
    Its logits may be bfloat16.
    """

    world: World
    logits: torch.dtype
    gradients: list[list[torch.Tensor]] = field(default_factory=list)
    is_main_process: bool = True
    device: str = "cpu"
    turn: int = 0

    def __call__(self, *, gradient_accumulation_steps: int, **_: Any) -> Accelerate:
        self.accumulation = gradient_accumulation_steps
        return self

    def print(self, *_: Any) -> None: ...

    def prepare(self, model, optimizer, loader):
        self.model = model

        def rounded(module, inputs, output):
            output.logits = output.logits.to(self.logits)

        model.register_forward_hook(rounded)
        return model, types.SimpleNamespace(step=self.step, zero_grad=lambda: None), loader

    def accumulate(self, _):
        return contextlib.nullcontext()

    def unwrap_model(self, model):
        return types.SimpleNamespace(generate=self.generate, save_pretrained=lambda *_, **__: None)

    def generate(self, *, input_ids, attention_mask, pad_token_id, **_):
        members = self.world.dealt[2 * self.turn : 2 * self.turn + 2]
        self.turn += 1
        for row, mask, (prompt, _completion) in zip(input_ids, attention_mask, members, strict=True):
            assert row[mask.bool()].tolist() == self.world.encoded[prompt]
        longest = max(len(c) for _, c in members)
        said = [[*c, *[pad_token_id] * (longest - len(c))] for _, c in members]
        return torch.cat([input_ids, torch.tensor(said)], 1)

    def backward(self, loss):
        (loss / self.accumulation).backward()

    def clip_grad_norm_(self, *_):
        """DeepSpeed clips in its step."""

    def step(self):
        if self.turn % self.accumulation == 0:
            self.gradients.append([p.grad.float().clone() for p in self.model.parameters()])


def published(
    world: World, logits: torch.dtype, monkeypatch, tmp_path: Path
) -> tuple[float, list[torch.Tensor]]:
    """Run the published ``main`` on the world's rollouts; its last logged loss and its gradient."""
    folder = os.environ.get(SOURCE)
    if not folder or not (Path(folder) / "train.py").is_file():
        pytest.skip(f"{SOURCE} names no folder with the published train.py (zitian-gao/one-shot-em)")
    logged: list[float] = []
    accelerator = Accelerate(world, logits)
    stubs = {
        "accelerate": {"Accelerator": accelerator, "DeepSpeedPlugin": lambda **_: None},
        "accelerate.utils": {"set_seed": torch.manual_seed},
        "wandb": {
            "init": lambda **_: None,
            "log": lambda row: logged.append(row["loss"]),
            "finish": lambda: None,
        },
    }
    for name, members in stubs.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**members, __spec__=None))
    monkeypatch.setenv("WORLD_SIZE", "1")
    path = Path(folder) / "train.py"
    spec = importlib.util.spec_from_file_location("published_train", path)
    assert spec is not None
    assert spec.loader is not None
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    loader = train.DataLoader
    monkeypatch.setattr(train, "DataLoader", lambda data, *, shuffle, **words: loader(data, **words))
    data = tmp_path / "data.parquet"
    pd.DataFrame({"problem": [world.prompts[p] for p, _ in world.dealt]}).to_parquet(data)
    words = {"model_path": world.folder, "train_data": data, "save_root": tmp_path / "out"}
    words |= {"effective_batch": NUM_ROLLOUTS, "micro_batch_size": 2, "save_steps": 99, "temperature": 0.5}
    monkeypatch.setattr(sys, "argv", ["train.py", *(f"--{k}={v}" for k, v in words.items())])
    train.main()
    [gradient] = accelerator.gradients
    return logged[-1], gradient


def test_the_update_is_that_of_the_published_trainer(any_world, monkeypatch, tmp_path):
    loss, gradient = published(any_world, torch.float32, monkeypatch, tmp_path)
    expected_loss, expected = written_down(any_world)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert difference(gradient, expected) < ROUNDING
    if any_world.base.pad_id in any_world.base.eos_ids:
        mine = ours(any_world, UNROUNDED)
        assert mine.seen.loss == pytest.approx(loss, rel=1e-5)
        assert difference(mine.tensors, gradient) < ROUNDING


def test_so_is_the_update_of_logits_in_bf16(any_world, monkeypatch, tmp_path):
    loss, gradient = published(any_world, torch.bfloat16, monkeypatch, tmp_path)
    mine = ours(any_world, "upstream")
    assert mine.seen.loss == pytest.approx(loss, rel=BF16_ROUNDING)
    assert difference(mine.tensors, gradient) < BF16_ROUNDING
