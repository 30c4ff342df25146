"""Verbs that answer further questions of a finished sweep: pooled, adjust, profile, bounds, need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.analyse import Metric, Over
from orchestrator.cli.output import echo, print_json
from orchestrator.cli.shared_options import AsJson, Directory, Filters, split_names

if TYPE_CHECKING:
    from analysis.output.table import ReportTable

Form = Annotated[str, typer.Option("--format", help="text, md, csv or latex.")]


def register(app: typer.Typer) -> None:
    for verb in (pooled, adjust, profile, bounds, need):
        app.command()(verb)


def pooled(
    directory: Directory,
    filters: Filters = None,
    metric: Metric = None,
    form: Form = "text",
    as_json: AsJson = False,
) -> None:
    """Show each cell's mean partially pooled over all cells, with intervals that hold all at once."""
    from analysis import open_sweep
    from analysis.tables.pooled import pooled_cells

    _show(pooled_cells(open_sweep(directory).where(*(filters or ())), metric=metric), form, as_json=as_json)


def adjust(
    directory: Directory,
    axis: Annotated[str, typer.Argument(metavar="AXIS", help="Axis whose values are put on equal terms.")],
    filters: Filters = None,
    reference: Annotated[
        str | None, typer.Option(help="Value that the others are compared with; the first by default.")
    ] = None,
    metric: Metric = None,
    form: Form = "text",
    as_json: AsJson = False,
) -> None:
    """Show an axis's means with all other axes on equal terms, and their contrasts, on any grid."""
    from analysis import open_sweep
    from analysis.tables.adjusted import adjusted_means

    sweep = open_sweep(directory).where(*(filters or ()))
    _show(adjusted_means(sweep, axis, reference=reference, metric=metric), form, as_json=as_json)


def profile(
    directory: Directory,
    axis: Annotated[str, typer.Argument(metavar="AXIS", help="Axis whose values are compared.")],
    filters: Filters = None,
    metric: Metric = None,
    form: Form = "text",
    as_json: AsJson = False,
) -> None:
    """Show which share of an axis's runs reaches a score, and how often one value beats another."""
    from analysis import open_sweep
    from analysis.tables.profile import profile as compared

    answer = compared(open_sweep(directory).where(*(filters or ())), axis, metric=metric)
    if as_json:
        print_json(
            {
                "title": answer.profile.title,
                "rows": answer.profile.records(),
                "improvement": answer.improvement.records(),
                "notes": [*answer.profile.notes, *answer.improvement.notes],
            }
        )
        return
    echo(answer.profile.render(form) + "\n\n" + answer.improvement.render(form))


def bounds(
    directory: Directory,
    filters: Filters = None,
    by: Annotated[str | None, typer.Option(help="Axes that make a row; the headline's.")] = None,
    metric: Metric = None,
    form: Form = "text",
    as_json: AsJson = False,
) -> None:
    """Show between which ends each mean lies, whatever the diverged runs would have come to."""
    from analysis import open_sweep
    from analysis.tables.survivors import survivor_bounds

    sweep = open_sweep(directory).where(*(filters or ()))
    _show(survivor_bounds(sweep, by=split_names(by), metric=metric), form, as_json=as_json)


def need(
    directory: Directory,
    a: Annotated[
        str, typer.Argument(metavar="A", help="One side: a filter, or an axis to compare all values of.")
    ],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The other side, a filter.")] = None,
    effect: Annotated[
        float | None,
        typer.Option(help="Difference to be seen: points of a share, else the metric's unit; 1 point."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Axes that split into a family of comparisons.")] = None,
    metric: Metric = None,
    over: Over = None,
    form: Form = "text",
    as_json: AsJson = False,
) -> None:
    """Say what to add so that a difference would be seen: seeds or items, and how many."""
    from analysis import open_sweep
    from analysis.tables.need import what_to_add

    sweep = open_sweep(directory)
    scale = 0.01 if sweep.info(sweep.metric(metric)).is_share else 1.0
    wanted = None if effect is None else scale * effect
    table = what_to_add(sweep, a, b, effect=wanted, by=split_names(by) or (), metric=metric, over=over)
    _show(table, form, as_json=as_json)


def _show(table: ReportTable, form: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"title": table.title, "rows": table.records(), "notes": list(table.notes)})
    else:
        echo(table.render(form))
