"""``report`` in the training loops of other libraries, each on a real tiny run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from emsweep import Decision
from emsweep.integrations.scalars import scalars
from torch.utils.data import DataLoader, TensorDataset

import trainers
from trainers.reporting import reporting_to

TINY = Path(trainers.__file__).parent / "tiny" / "models" / "tiny-32"


class Listener:
    """Takes reports, and says stop from a step on."""

    def __init__(self, stop_at: int = 1_000_000) -> None:
        self.rows: dict[int, dict] = {}
        self._stop_at = stop_at

    def report(self, /, step: int, **metrics: object) -> Decision:
        self.rows.setdefault(step, {}).update(metrics)
        return Decision(stop=step >= self._stop_at, reason="enough")


def test_scalars_are_kept_and_everything_else_is_left_out():
    logged = {
        "loss": torch.tensor(0.5),
        "n": 3,
        "ok": True,
        "hist": torch.zeros(3),
        "text": "x" * 501,
        "step": 1,
    }
    assert scalars(logged | {"none": None}) == {"loss": 0.5, "n": 3, "ok": True}


# --- Hugging Face ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    """A real small model and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return lambda: transformers.AutoModelForCausalLM.from_pretrained(TINY), tokenizer


def settings(kind, folder, **more):
    return kind(
        output_dir=str(folder), max_steps=4, logging_steps=1, per_device_train_batch_size=2, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, **more,
    )  # fmt: skip


def test_a_trainer_of_transformers_reports_what_it_logs_and_ends_when_it_is_to_stop(tiny, tmp_path):
    from emsweep.integrations import HuggingFaceCallback
    from transformers import Trainer, TrainingArguments

    make, tokenizer = tiny
    ids = tokenizer("1+2=3", return_tensors="pt")["input_ids"][0]
    data = [{"input_ids": ids, "labels": ids}] * 8
    args = settings(TrainingArguments, tmp_path, eval_strategy="steps", eval_steps=2)
    for stop_at, last in ((1_000_000, 4), (2, 2)):
        listener = Listener(stop_at)
        with reporting_to(listener.report):
            Trainer(
                make(), args, train_dataset=data, eval_dataset=data[:2], callbacks=[HuggingFaceCallback()]
            ).train()
        assert set(listener.rows) == set(range(1, last + 1))
        assert {"loss", "grad_norm", "learning_rate", "eval_loss"} <= set(listener.rows[2])
        assert all(type(value) in (int, float) for row in listener.rows.values() for value in row.values())


def test_sft_of_trl_reports_its_losses(tiny, tmp_path):
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    from datasets import Dataset
    from emsweep.integrations import HuggingFaceCallback

    make, tokenizer = tiny
    data = Dataset.from_list([{"text": "1+2=3"}] * 8)
    rows = _trained(
        trl.SFTTrainer(
            make(), settings(trl.SFTConfig, tmp_path), train_dataset=data, processing_class=tokenizer,
            callbacks=[HuggingFaceCallback()],
        )
    )  # fmt: skip
    assert all("loss" in rows[step] for step in range(1, 5))


def test_dpo_of_trl_reports_its_rewards(tiny, tmp_path):
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    from datasets import Dataset
    from emsweep.integrations import HuggingFaceCallback

    make, tokenizer = tiny
    data = Dataset.from_list([{"prompt": "1+2=", "chosen": "3", "rejected": "4"}] * 8)
    rows = _trained(
        trl.DPOTrainer(
            make(), ref_model=make(), args=settings(trl.DPOConfig, tmp_path), train_dataset=data,
            processing_class=tokenizer, callbacks=[HuggingFaceCallback()],
        )
    )  # fmt: skip
    assert all("rewards/margins" in rows[step] for step in range(1, 5))


def test_grpo_of_trl_reports_its_reward(tiny, tmp_path):
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    from datasets import Dataset
    from emsweep.integrations import HuggingFaceCallback

    make, tokenizer = tiny
    data = Dataset.from_list([{"prompt": "1+2="}] * 8)

    def reward(completions, **_):
        return [float(len(text)) for text in completions]

    args = settings(trl.GRPOConfig, tmp_path, num_generations=2, max_completion_length=4)
    rows = _trained(
        trl.GRPOTrainer(
            make(), reward, args, train_dataset=data, processing_class=tokenizer,
            callbacks=[HuggingFaceCallback()],
        )
    )  # fmt: skip
    assert all(rows[step]["reward"] > 0 for step in range(1, 5))


def _trained(trainer):
    listener = Listener()
    with reporting_to(listener.report):
        trainer.train()
    return listener.rows


# --- Lightning and Accelerate ---------------------------------------------------------------------------


@pytest.fixture
def fit(tmp_path):
    """Fit a line with Lightning: ten steps an epoch."""
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is a test extra")

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, _):
            self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x = torch.linspace(0, 1, 20).unsqueeze(1)
    data = DataLoader(TensorDataset(x, 2 * x), batch_size=2)

    def run(listener, **options):
        trainer = lightning.Trainer(
            max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=tmp_path, log_every_n_steps=2, **options,
        )  # fmt: skip
        torch.manual_seed(1)
        with reporting_to(listener.report):
            trainer.fit(Line(), data, data)
        return trainer.global_step

    return run


def test_a_callback_of_lightning_reports_each_epoch_and_stops_the_trainer(fit):
    from emsweep.integrations import LightningCallback

    listener = Listener()
    assert fit(listener, callbacks=[LightningCallback()], logger=False) == 30
    assert set(listener.rows) == {10, 20, 30}
    assert all({"loss", "val_loss"} <= set(row) for row in listener.rows.values())
    assert fit(Listener(stop_at=10), callbacks=[LightningCallback()], logger=False) == 10


def test_a_logger_of_lightning_reports_what_a_module_logs(fit):
    from emsweep.integrations import LightningLogger

    listener = Listener()
    fit(listener, logger=LightningLogger())
    losses = {step: row["loss"] for step, row in listener.rows.items() if "loss" in row}
    assert len(losses) == 15
    assert losses[max(losses)] < losses[min(losses)]
    assert sum("val_loss" in row for row in listener.rows.values()) == 3


def test_a_tracker_of_accelerate_reports_what_is_logged_and_holds_the_decision():
    accelerate = pytest.importorskip("accelerate", reason="accelerate comes with the test extras")
    from emsweep.integrations import AccelerateTracker

    accelerator = accelerate.Accelerator(cpu=True, log_with=AccelerateTracker())
    accelerator.init_trackers("mine", config={"lr": 0.1})
    layer = torch.nn.Linear(1, 1)
    layer, optimizer = accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), lr=0.1))
    x = torch.linspace(0, 1, 8).unsqueeze(1)
    listener = Listener(stop_at=2)
    with reporting_to(listener.report):
        for step in range(10):
            loss = torch.nn.functional.mse_loss(layer(x), 2 * x)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            accelerator.log({"loss": loss, "hist": x}, step=step)
            if accelerator.get_tracker("emsweep").decision.stop:
                break
    accelerator.end_training()
    assert {step: set(row) for step, row in listener.rows.items()} == {0: {"loss"}, 1: {"loss"}, 2: {"loss"}}
    assert listener.rows[2]["loss"] < listener.rows[0]["loss"]
