"""The verb that picks training examples from a pool: select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import echo, print_json
from orchestrator.cli.shared_options import AsJson

TINY_MODEL = "tiny-64"
"""Shipped model that judges a pool unless another is named."""

TINY_PATTERN = r"[;?](\d+)$"
"""Where the shipped models write their answer."""

TINY_TOKENS = 16
"""Longest completion of the shipped models."""

SHOWN_CHARACTERS = 60
"""Characters of a problem that are shown."""


def register(app: typer.Typer) -> None:
    app.command()(select)


def select(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="JSON lines or Parquet.", show_default=False)],
    rule: Annotated[
        str,
        typer.Option(
            "--by",
            help="length, random, entropy, majority_p1p, boosting (what fails though trained on alone, each "
            "time from the base model); with labels pass_variance, accuracy_std.",
            show_default=False,
        ),
    ],
    num: Annotated[int, typer.Option("--top", help="Problems wanted.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option(help="Example file; POOL-by-RULE.jsonl here unless given.", show_default=False),
    ] = None,
    lowest: Annotated[bool, typer.Option("--lowest", help="Prefer low scores.")] = False,
    text_field: Annotated[str, typer.Option(help="Column of the prompt.")] = "problem",
    answer_field: Annotated[
        str | None,
        typer.Option(help="Column of the right answer; reading it is supervision.", show_default=False),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model folder, hub id, or a shipped model that draws rollouts.")
    ] = TINY_MODEL,
    samples: Annotated[int, typer.Option(help="Rollouts of each problem.")] = 16,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest completion; 16 for shipped models, 512 otherwise.", show_default=False),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression that finds the answer; math-verify unless given."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Keys every draw.")] = 0,
    k: Annotated[int, typer.Option(help="pass_variance: rollouts that count together.")] = 1,
    passes: Annotated[int, typer.Option(help="accuracy_std: passes of training over the pool.")] = 8,
    lr: Annotated[float, typer.Option(help="accuracy_std, boosting: learning rate.")] = 2e-4,
    steps: Annotated[int, typer.Option(help="boosting: optimizer steps on a problem.")] = 5,
    rounds: Annotated[int, typer.Option(help="boosting: rounds, none of which trains on.")] = 4,
    per_round: Annotated[int, typer.Option(help="boosting: problems drawn in a round.")] = 8,
    eta: Annotated[float, typer.Option(help="boosting: how strongly failures are preferred.")] = 1.0,
    gamma: Annotated[float, typer.Option(help="boosting: the filter's error rate.")] = 0.1,
    beta: Annotated[float, typer.Option(help="boosting: how often the labeller mends a rejection.")] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Pick the problems of a pool that a rule prefers, and write them as an example that a sweep can use."""
    from sweeps.spec.selection_rules import Curation, WeakSignal
    from trainers.selection.select import SelectionRequest, pick

    path, shipped = _model_path(model)
    picks = pick(
        SelectionRequest(
            pool=str(pool),
            rule=rule,
            num=num,
            lowest=lowest,
            text_field=text_field,
            answer_field=answer_field,
            k=k,
            passes=passes,
            seed=seed,
            probing={
                "model": path,
                "samples": samples,
                "temperature": temperature,
                "max_new_tokens": max_new_tokens or (TINY_TOKENS if shipped else 512),
                "pattern": pattern or (TINY_PATTERN if shipped else None),
                "lr": lr,
                "steps": steps,
            },
            curation=Curation(
                rounds=rounds, per_round=per_round, eta=eta, signal=WeakSignal(gamma=gamma, beta=beta)
            ),
        )
    )
    out = out or Path(f"{pool.stem}-by-{picks.label}.jsonl")
    picks.write(out)
    use = f"example=file example.path={out} example.rows={','.join(f'[{i}]' for i in range(len(picks.rows)))}"
    shown = [{"problem": row[text_field], "id": row.get("id"), **row["selection"]} for row in picks.rows]
    if as_json:
        print_json(
            {
                "pool": str(pool),
                "rule": rule,
                "label": picks.label,
                "supervised": picks.supervised,
                "num_problems": picks.num_problems,
                "out": str(out),
                "use": use,
                "picked": shown,
            }
        )
        return
    note = " · reads right answers: a form of supervision" if picks.supervised else ""
    echo(f"{picks.label}: {len(shown)} of {picks.num_problems:,} problems{note}")
    echo(f"{'rank':>4}  {'row':>6}  {'score':>10}  problem")
    for row in shown:
        text = " ".join(str(row["problem"]).split())
        cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
        echo(f"{row['rank']:>4}  {row['row']:>6}  {row['score']:>10.4g}  {cut}")
    echo(f"Written to {out}; train on each with:\n  {use}")


def _model_path(model: str) -> tuple[str, bool]:
    """The model's folder or hub id, and whether it is a shipped one."""
    from sweeps.manifest.data_files import local_path

    shipped = f"pkg://trainers/tiny/models/{model}"
    return (shipped, True) if "/" not in model and local_path(shipped).is_dir() else (model, False)
