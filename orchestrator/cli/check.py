"""The verb that holds models and benchmarks against each other before anything runs: check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from orchestrator.cli.output import echo, print_json
from orchestrator.cli.shared_options import AsJson, ConfigDir, Overrides, with_config_dir
from sweeps.spec.errors import EXIT_NOT_OK, shown

DEFAULTS = ("sweep=quickstart", "example=carry-1", "optim.lr=1e-4", "seed=0")
"""What is asked where the command line does not say it: one run."""


def register(app: typer.Typer) -> None:
    app.command()(check)


def check(overrides: Overrides = None, config_dir: ConfigDir = None, as_json: AsJson = False) -> None:
    """Put one prompt and every gold answer through model folder, template, stop ids and grader; starts
    nothing.
    """
    from orchestrator.planning.model_folders import examine, examine_golds, model_uses
    from orchestrator.planning.search_question import asked_runs
    from sweeps.compose import compose_sweep

    words = with_config_dir(_with_defaults(overrides or ()), config_dir)
    manifest = asked_runs(compose_sweep(words)).checked
    uses = [use for use in model_uses(manifest, shipped=True) if not use.model.trust_remote_code]
    (found, checked), (bad_golds, golds) = examine(uses), examine_golds(manifest)
    found, checked = [*found, *bad_golds], [*checked, *golds]
    refused = [problem for problem in found if not problem["mended"]]
    if as_json:
        print_json({"ok": not refused, "problems": found, "checked": checked, "models": len(uses)})
    else:
        _show(found, checked)
        echo("ok" if not refused else f"{len(refused)} problem{'s' if len(refused) != 1 else ''}")
    if refused:
        raise typer.Exit(EXIT_NOT_OK)


def _show(problems: Sequence[Mapping[str, Any]], checked: Sequence[Mapping[str, str]]) -> None:
    """Print what was looked at as one table, then what is wrong or only said."""
    rows = [("model", "what", "found"), *((c["model"], c["what"], c["found"]) for c in checked)]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    for model, what, found in rows:
        echo(f"{model:{first}}  {what:{second}}  {found}")
    for p in problems:
        of = f" (model {p['model']})" if p["model"] else ""
        echo(f"\n{p['key']}={shown(p['value'])}{of}: {p['rule']}")
        echo(f"  {'note' if p['mended'] else 'fix'}: {p['fix']}")
    if problems:
        echo("")


def _with_defaults(words: Sequence[str]) -> list[str]:
    """The words of the command line after what they leave open."""
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    defaults = [word for word in DEFAULTS if word.partition("=")[0] not in keys]
    if "sweep" in keys:
        defaults = []
    return [*defaults, *words]
