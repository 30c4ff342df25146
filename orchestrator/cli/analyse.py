"""Verbs that explain a sweep: table, compare, report, dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import echo, print_json, say, writing
from orchestrator.cli.shared_options import AsJson, Directory, Filters, split_names
from sweeps.spec.errors import UserError
from sweeps.spec.text import size

if TYPE_CHECKING:
    from analysis.dashboard.queue_job import JobTold

Metric = Annotated[
    str | None,
    typer.Option(help="Column of runs() to summarise; sampled accuracy, else greedy, else the first."),
]

Over = Annotated[
    str | None,
    typer.Option(
        help="What intervals and tests generalise over: seeds, items or both; both where items are recorded."
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(table)
    app.command()(compare)
    app.command()(report)
    app.command()(dashboard)


def table(
    directory: Directory,
    filters: Filters = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Axes that make a row, separated by commas; all but the seed. trial: those of a search."
        ),
    ] = None,
    metric: Metric = None,
    over: Over = None,
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or parquet.")] = "text",
    output: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show each cell: mean with interval over seeds, gain over base, best and worst seed, peak, fall."""
    from analysis import open_sweep
    from analysis.tables.cell_table import cell_table

    sweep = open_sweep(directory).where(*(filters or ()))
    made = cell_table(sweep, by=split_names(by), metric=metric, over=over)
    if output is not None:
        with writing(output):
            made.write(output, form if form != "text" else None)
        say(f"{len(made.frame):,} rows in {output}")
    elif as_json:
        print_json({"title": made.title, "rows": made.records(), "notes": list(made.notes)})
    else:
        echo(made.render(form))


def compare(
    directory: Directory,
    a: Annotated[
        str, typer.Argument(metavar="A", help="One side: a filter, or an axis to compare all values of.")
    ],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The other side, a filter.")] = None,
    by: Annotated[str | None, typer.Option(help="Axes that split into a family of comparisons.")] = None,
    match_on: Annotated[
        str | None, typer.Option(help="Axes on which pairs agree; all that A and B do not name.")
    ] = None,
    metric: Metric = None,
    over: Over = None,
    form: Annotated[str, typer.Option("--format", help="text, md, csv or latex.")] = "text",
    as_json: AsJson = False,
) -> None:
    """Test B against A on matched runs: difference with interval, p corrected for their number, effect size,
    power.
    """
    from analysis import open_sweep
    from analysis.tables.compare import compare as test
    from analysis.tables.compare import compare_levels

    sweep = open_sweep(directory)
    if b is not None:
        comparison = test(
            sweep,
            a,
            b,
            by=split_names(by) or (),
            match_on=split_names(match_on),
            metric=metric,
            over=over,
        )
    elif "=" in a:
        raise UserError(
            f"give a second filter to compare {a} with, or an axis alone, such as {a.split('=')[0]}"
        )
    else:
        comparison = compare_levels(sweep, a, metric=metric, over=over)
    if as_json:
        print_json(
            {
                "title": comparison.table.title,
                "rows": comparison.table.records(),
                "sentences": list(comparison.sentences),
                "notes": list(comparison.table.notes),
            }
        )
        return
    echo(comparison.table.render(form))
    if form == "text":
        echo("\n" + "\n".join(comparison.sentences))


def report(
    directory: Directory,
    filters: Filters = None,
    metric: Metric = None,
    over: Over = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write; report.html in the directory by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: question, grid, coverage, results, importance, curves, costs."""
    from analysis import open_sweep
    from analysis.report import REPORT_NAME, write_report

    sweep, path = open_sweep(directory).where(*(filters or ())), output or directory / REPORT_NAME
    with writing(path):
        write_report(sweep, path, metric=metric, over=over)
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size})
    else:
        echo(f"{path} ({size(path.stat().st_size)}); open it in any browser, no network needed")


def dashboard(
    directory: Directory,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's own asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.")] = 8050,
    next_port: Annotated[
        bool, typer.Option("--next-port", help="If the port is busy, try the next ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Review the sweep in the browser, finished or running: read-only, nothing loaded from outside."""
    from analysis.dashboard.server import Server

    server = Server(directory, host=host, port=port, next_port=next_port, ask_queue=_job_told)
    if as_json:
        print_json({"url": server.url, "token": server.token})
    else:
        echo(f"{directory}: {server.url}  (Ctrl-C stops it)")
        if server.token:
            echo(f"token, asked for by the page: {server.token}")
    server.run()


def _job_told(directory: Path) -> JobTold | None:
    """What the queue says of the job that the sweep was handed to, for the dashboard."""
    from analysis.dashboard.queue_job import JobTold
    from orchestrator.inspect.status import job_lines, job_of, waiting_state
    from orchestrator.store.layout import Layout

    job = job_of(Layout(directory))
    if job is None:
        return None
    return JobTold(words=job.words, state=waiting_state(job), lines=tuple(job_lines(job)))
