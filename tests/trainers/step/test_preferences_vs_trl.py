"""Whole runs on pairs and labelled completions against TRL's trainers on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.comparing import column
from tests.trainers.step import preference_rows
from tests.trainers.worlds import package_file
from trainers.protocol import RunContext

ROWS_PER_STEP = 8

PLAIN = ("data.format=plain", f"data.prompts_per_step={ROWS_PER_STEP}")

FIGURES = {
    "loss": "loss",
    "log_prob_chosen": "logps/chosen",
    "log_prob_rejected": "logps/rejected",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "reward_margin": "rewards/margins",
    "entropy_nats": "entropy",
}
"""Columns of ours and what TRL calls them."""


def trl_run(kind: str, rows: list[dict[str, Any]], steps: int, lr: float, folder: Path) -> dict[str, list]:
    """Each step's figures of TRL's trainer on a file's rows in their order."""
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model_folder = str(package_file("trainers/tiny/models/tiny-64"))

    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

    logged: dict[str, list] = {name: [] for name in FIGURES.values()}
    base = {"dpo": trl.DPOTrainer, "kto": trl.KTOTrainer}[kind]

    class Recording(base):  # type: ignore[misc, valid-type]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            logged["loss"].append(loss.item())
            for name in FIGURES.values():
                if name != "loss" and self._metrics["train"][name]:
                    logged[name].append(self._metrics["train"][name][-1])
            return loss

    config = {"dpo": trl.DPOConfig, "kto": trl.KTOConfig}[kind](
        output_dir=str(folder),
        per_device_train_batch_size=ROWS_PER_STEP,
        max_steps=steps,
        learning_rate=lr,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        beta=0.1,
        train_sampling_strategy="sequential",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    Recording(
        model=model(),
        ref_model=model(),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model_folder, trust_remote_code=True),
    ).train()
    return logged


@pytest.mark.parametrize(
    ("steps", "lr"),
    [(3, 2e-4), pytest.param(20, 1e-5, marks=pytest.mark.slow)],
    ids=["few steps", "many, at ten times TRL's rate"],
)
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_trl_trains_with_the_same_losses(trainer, tmp_path, kind, steps, lr):
    """Rounding alone parts them: Adam makes a step of a gradient of 1e-9 that is as large as one of 1."""
    files = preference_rows.files(tmp_path, num=40)
    spec = preference_rows.spec_of(files, kind, *PLAIN, f"steps={steps}", f"optim.lr={lr}")
    recorded = trainer.run(spec, RunContext()).to_json()
    rows = {"dpo": preference_rows.pairs, "kto": preference_rows.labelled}[kind](40)
    theirs = trl_run(kind, rows, steps, lr, tmp_path / "trl")
    assert len(theirs["loss"]) == steps
    for ours, name in FIGURES.items():
        near = {"abs": 1e-5, "rel": 0} if ours == "loss" else {"abs": 2e-4, "rel": 1e-4}
        assert column(recorded, ours) == pytest.approx(theirs[name], **near), ours
    assert abs(theirs["loss"][-1] - theirs["loss"][0]) > 1e-2
