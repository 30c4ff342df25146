"""TRL's ``SFTTrainer`` on equal batches: the same masks, and the same loss at every step."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.training_rows import rows_used
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import RunSpec, group_from_dict
from tests.trainers.comparing import column
from tests.trainers.model.test_target_encoding import MARKED
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import load_base, load_weights
from trainers.model.target_encoding import encode_given
from trainers.protocol import RunContext
from trainers.step.prompts import Prompts
from trainers.tiny import DATA_DIR
from trainers.tiny.items import SOLVED_FILE

pytestmark = pytest.mark.filterwarnings("ignore")

LR = 2e-4

SMALL_LR = 2e-5
"""TRL's own: where gradients of single weights are next to nothing, Adam turns their rounding into steps."""


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl", reason="trl is a test extra")


def uneven_rows(num: int) -> list[dict[str, str]]:
    """Solved problems with careful and with hasty solutions, so that completions differ in length."""
    rows = [json.loads(line) for line in (DATA_DIR / SOLVED_FILE).read_text().splitlines()[:num]]
    return [
        {"prompt": row["problem"], "completion": row["chosen"] if n % 3 else row["rejected"]}
        for n, row in enumerate(rows)
    ]


def spec_of(folder: Path, rows: list[dict], steps: int, size: int, lr: float = LR, **objective) -> RunSpec:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(file), "prompts_per_step": size, "order": "file", "targets": "completions"}
    return tiny_spec(
        example={"prompts": [], "name": ""},
        data=resolve_data(data | {"format": "plain"})[0],
        objective=preset_dict("sft") | objective,
        optim={"lr": lr, "weight_decay": 0.01, "grad_clip": 1.0},
        eval={"path": None},
        steps=steps,
    )


def trl_trainer(
    trl: Any, folder: Path, spec: RunSpec, rows: list[dict], micro_batch: int, **config: Any
) -> Any:
    """TRL's trainer on the rows that our steps take, in their order."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback

    size, schedule = spec.data.prompts_per_step, RowSchedule(spec.data, spec.seed)
    order = [row for step in range(spec.steps) for row in schedule.batch(step)]
    base = load_base(spec.model)
    losses: list[float] = []

    class Recorder(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(logs["loss"])

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def train_and_tell(self) -> list[float]:
            """The loss that is logged at each step."""
            self.train()
            return losses

    arguments = trl.SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size // micro_batch,
        max_steps=spec.steps,
        learning_rate=spec.optim.lr,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        **config,
    )
    trainer = InOrder(
        model=load_weights(spec.model, precision="fp32", attention="sdpa"),
        args=arguments,
        train_dataset=Dataset.from_list([rows[number] for number in order]),
        processing_class=base.tokenizer,
        callbacks=[Recorder()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def require_parity(
    trl: Any,
    trainer: Any,
    folder: Path,
    steps: int,
    objective: dict,
    config: dict,
    lr: float = LR,
    micro_batch: int = 2,
) -> None:
    rows = uneven_rows(4 * steps)
    spec = spec_of(folder, rows, steps, 4, lr, **objective)
    ours = column(trainer.run(spec, RunContext()).to_json(), "loss")
    theirs = trl_trainer(trl, folder, spec, rows, micro_batch, **config).train_and_tell()
    assert len(ours) == len(theirs) == steps
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert len({round(loss, 4) for loss in ours}) > steps // 2


def test_three_steps_have_the_losses_of_trl(trl, trainer, tmp_path):
    require_parity(trl, trainer, tmp_path, 3, {}, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "config", "lr"),
    [
        ({}, {}, LR),
        ({"nll_dft": True}, {"loss_type": "dft"}, SMALL_LR),
        ({"label_smoothing": 0.1}, {"label_smoothing_factor": 0.1, "loss_type": "nll"}, SMALL_LR),
    ],
    ids=["sft", "dft", "smoothed"],
)
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_twenty_steps_have_the_losses_of_trl(trl, trainer, tmp_path, objective, config, lr, micro_batch):
    require_parity(trl, trainer, tmp_path, 20, objective, config, lr, micro_batch)


def trl_rows(trl: Any, folder: Path, spec: RunSpec, rows: list[dict], tokenizer: Any, **config: Any) -> Any:
    """TRL's token ids and labels of some rows."""
    from datasets import Dataset

    arguments = trl.SFTConfig(
        output_dir=str(folder / "trl"), report_to=[], use_cpu=True, bf16=False, **config
    )
    return trl.SFTTrainer(
        model=load_weights(spec.model, precision="fp32", attention="sdpa"),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train_dataset


def require_equal_rows(given: Any, theirs: Any) -> None:
    assert len(given) == len(theirs)
    for sequence, row in zip(given, theirs, strict=True):
        counted = [k for k, label in enumerate(row["labels"]) if label != -100]
        assert (list(sequence.ids), list(sequence.counted)) == (row["input_ids"], counted)


def test_tokens_and_masks_are_those_of_trl(trl, tmp_path):
    rows = uneven_rows(6)
    spec = spec_of(tmp_path, rows, 1, 6)
    base = load_base(spec.model)
    given = Prompts(spec, base).at(1).given
    require_equal_rows(given, trl_rows(trl, tmp_path, spec, rows, base.tokenizer))


@pytest.mark.parametrize("several", [False, True], ids=["one answer", "several answers"])
def test_tokens_and_masks_of_conversations_are_those_of_trl(trl, tmp_path, several):
    base = load_base(tiny_spec().model)
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = MARKED
    base = dataclasses.replace(base, tokenizer=tokenizer)
    solved = uneven_rows(4)
    turns = [
        ({"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]})
        for row in solved
    ]
    if several:
        rows = [{"messages": [*one, *two]} for one, two in itertools.pairwise(turns)]
    else:
        rows = [{"prompt": [user], "completion": [said]} for user, said in turns]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = group_from_dict("data", resolve_data({"path": str(file), "targets": "completions"})[0])
    given = encode_given(list(rows_used(data)), data, base)
    spec = spec_of(tmp_path, solved, 1, 4)
    config = {"assistant_only_loss": True} if several else {}
    require_equal_rows(given, trl_rows(trl, tmp_path, spec, rows, tokenizer, **config))
