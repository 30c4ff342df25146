"""A sweep directory, finished or still running, as tidy tables.

Tables are read by DuckDB from Parquet when they are asked for and only in the columns asked for; nothing is
written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import duckdb
import pandas as pd
import pyarrow as pa

from analysis.data import views
from analysis.data.axes import SEED, merge_axes
from analysis.data.chosen import told_chosen
from analysis.data.columns import RunArrays
from analysis.data.copies import told_copies
from analysis.data.filters_sql import selectable, to_sql
from analysis.data.frames import to_frame
from analysis.data.metrics import KnownMetrics, known_metrics
from analysis.data.mixed_texts import told_texts
from analysis.data.numerics import told_numerics
from analysis.data.reading import damage_named, read
from analysis.data.reported import reported_frame
from analysis.data.source import DETAILS, Source, find_source
from sweeps.grid.axes import Axis, resolve
from sweeps.grid.filters import Term, choose
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from trainers.protocol import TIMING_SUFFIX

DATABASE: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "2GB",
    "preserve_insertion_order": False,
    "allocator_flush_threshold": "1MB",
    "allocator_bulk_deallocation_flush_threshold": "1MB",
}
"""DuckDB's settings. Beyond its limit it spills to its temporary folder; frames come on top. It gives memory
back after each query instead of keeping up to 128 MB: a dashboard of 13,440 runs then needs 25 MiB less.
"""


class SweepData:
    """The runs of one or more sweep directories, perhaps narrowed by filters.

    What :mod:`analysis` opens is its subclass :class:`analysis.sweep.Sweep`, which has tables too.
    """

    @classmethod
    def open(cls, *directories: str | Path, live: bool = False) -> Self:
        """Open one sweep directory, or several that are then read as one.

        Args:
            *directories: sweep directories. Of several, a run found in more than one counts once, and an axis
                that one of them does not sweep takes its value from that sweep's configuration.
            live: look at the directory anew at every call, for a sweep that is still running.

        Raises:
            UserError: for a directory that is missing, is no sweep, or was written by a newer version.
        """
        if not directories:
            raise UserError("open_sweep needs a directory, such as outputs/quickstart")
        return cls([Path(directory) for directory in directories], live=live)

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        live: bool = False,
        filters: Sequence[str] = (),
        origin: SweepData | None = None,
    ) -> None:
        """Use :meth:`open`; with ``origin`` its files are looked at again, not looked for."""
        self.directories = tuple(directories)
        self.filters = tuple(filters)
        self.live = live
        self.sources: tuple[Source, ...]
        self.axes: tuple[Axis, ...]
        self._known: KnownMetrics | None = None
        self._database: duckdb.DuckDBPyConnection
        self._cursor: duckdb.DuckDBPyConnection | None
        self._wider = origin if origin is not None and len(origin.filters) < len(self.filters) else None
        if origin is None:
            self._refresh()
        else:
            self.sources, self.axes, self._database = origin.sources, origin.axes, origin._database
            self._known = origin._known
            self._forget()

    def _refresh(self) -> None:
        self.sources = tuple(find_source(d) for d in self.directories)
        self.axes = merge_axes(source.axes for source in self.sources)
        self._known = None
        self._database = duckdb.connect(config=DATABASE)
        self._database.execute("SET GLOBAL parquet_metadata_cache = true")  # 25 ms a query at a million runs
        for statement in views.confinement(self.sources):
            self._database.execute(statement)
        self._forget()
        self._cursor = self._with_views()  # now, so that files that cannot be read are named at once

    def _forget(self) -> None:
        self._predicate = self.condition(*self.filters)
        self._cursor = None
        self._columns: RunArrays | None = None
        self._metrics: list[str] | None = None
        self._names: dict[str, list[str]] = {}

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Has the views; made when first asked."""
        if self._cursor is None:
            self._cursor = self._with_views()
        return self._cursor

    def _with_views(self) -> duckdb.DuckDBPyConnection:
        """A connection with views of its own, so that several sweeps share one database."""
        self._require_intact("runs")
        cursor = self._database.cursor()
        cursor.execute("SET enable_progress_bar = false")
        try:
            for statement in views.definitions(cursor, self.sources, self.axes, self._predicate):
                cursor.execute(statement)
        except duckdb.Error:
            self._require_intact(*DETAILS)  # says which file it is
            raise
        return cursor

    def _require_intact(self, *tables: str) -> None:
        """Raise unless the files of these tables hold what was written to them."""
        for source in self.sources:
            source.require_intact(tables)

    def _require_intact_for(self, sql: str) -> None:
        self._require_intact(*(t for t in DETAILS if t == "runs" or re.search(rf"\b{t}\b", sql)))

    def __repr__(self) -> str:
        where = f" where {' '.join(self.filters)}" if self.filters else ""
        return f"<Sweep {', '.join(map(str, self.directories))}{where}>"

    @property
    def unreadable(self) -> tuple[Path, ...]:
        """Parquet files that were left out because they are damaged or half written."""
        return tuple(path for source in self.sources for path in source.unreadable)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of any table must know about the files behind it; empty as a rule."""
        found = []
        if self.unreadable:
            names = ", ".join(map(str, self.unreadable))
            found += [f"Left out as damaged or half written: {names}; `emsweep resume` writes tables anew."]
        found += told_numerics(self.arrow)
        if len(self.sources) > 1:
            found += told_copies(self._connection, self.metrics)
        found += told_texts(self._connection)
        found += told_chosen(self.sources)
        toys = dict.fromkeys(text for source in self.sources for text in source.toy_settings)
        return (*found, *(f"Made for the tiny models: {text}." for text in toys))

    @property
    def axis_keys(self) -> list[str]:
        """Hydra keys of the axes in YAML order, the seed last."""
        return [axis.key for axis in self.axes]

    @property
    def cell_keys(self) -> list[str]:
        """Hydra keys of every axis but the seed: together they name a cell."""
        return [key for key in self.axis_keys if key != SEED]

    @property
    def metrics(self) -> list[str]:
        """Numeric columns of ``runs()`` that are results, neither axes nor bookkeeping."""
        if self._metrics is None:
            wider = self._wider
            self._metrics = wider.metrics if wider else views.metric_columns(self._connection, self.axis_keys)
        return list(self._metrics)

    def axis(self, word: str) -> Axis:
        """Return the axis called ``word``: its Hydra key or an unambiguous last part of it (``lr``)."""
        key = resolve(word, self.axis_keys, "axis")
        return next(axis for axis in self.axes if axis.key == key)

    def metric(self, word: str | None = None) -> str:
        """Return the metric called ``word``; without a word the one that the sweep is about.

        That is the first that the sweep file says something of, else ``accuracy_sampled``, else
        ``accuracy_greedy``, else the first that a finished run names, timings apart.

        Raises:
            UserError: for an unknown word, with the nearest names, or when the runs have no metric.
        """
        if word is not None:
            return resolve(word, self.metrics, "metric")
        results = [name for name in self.metrics if not name.endswith(TIMING_SUFFIX)]
        if not results:
            damaged = f" ({' '.join(self.warnings)})" if self.unreadable else ""
            raise UserError(f"{', '.join(map(str, self.directories))}: no run has a metric yet{damaged}")
        return self._known_metrics().headline(results, self.arrow)

    def info(self, metric: str) -> MetricInfo:
        """Direction, unit and range of a metric of ``runs()`` or ``steps()``."""
        return self._known_metrics()[metric]

    @property
    def targets(self) -> tuple[str, ...]:
        """Import paths of the trainers that are not shipped: what a launch must be allowed to run."""
        return self._known_metrics().targets

    def infos(self) -> dict[str, MetricInfo]:
        """What is known of each metric of ``runs()``."""
        return {name: self.info(name) for name in self.metrics}

    def _known_metrics(self) -> KnownMetrics:
        if self._known is None:
            self._known = known_metrics(self.sources, lambda sql: read(self._connection, sql))
        return self._known

    def where(self, *filters: str) -> Self:
        """Narrow to runs that match every filter: ``axis=value``, ``!axis=value``, ``axis>=1`` and so on.

        The grammar is that of :mod:`sweeps.grid.filters`; the keys are the axes, ``outcome``, and
        ``sweep`` where several directories are open.

        Raises:
            UserError, SpecError: for an unknown axis or a value that no run has.
        """
        origin = None if self.live else self
        return type(self)(self.directories, live=self.live, filters=(*self.filters, *filters), origin=origin)

    def condition(self, *filters: str) -> str:
        """SQL over the columns of ``runs`` that holds where every filter does; errors as :meth:`where`."""
        return to_sql(self.terms(*filters), selectable(self.axes, views.labels(self.sources)))

    def terms(self, *filters: str) -> tuple[Term, ...]:
        """Filters as terms that name axes by their whole keys; errors as :meth:`where`."""
        return choose(filters, selectable(self.axes, views.labels(self.sources))).terms

    def runs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per run of the manifest: identity, outcome, axes, metrics, cost, attempts."""
        return self._frame("runs", columns, order=["index"])

    def steps(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per (run, step) with the run's axes; ``columns`` spares memory on a large sweep."""
        return self._frame("steps", columns, order=["index", "step"])

    def items(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per (run, evaluation) with the run's axes; verdicts are lists with one entry per item."""
        return self._frame("items", columns, order=["index", "step"])

    def rollouts(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per distinct recorded rollout with its multiplicity and the run's axes."""
        return self._frame("rollouts", columns, order=["index", "step"])

    def reported(self) -> pd.DataFrame:
        """What trainers reported while they trained, one row per (attempt, step), also of runs that go on or
        died: which run, its axes and outcome, which ``attempt``, how that ``ended`` (``None`` while it runs),
        ``step``, when, and the metrics. Rows of attempts that gave no result are in no other table.
        """
        return reported_frame(self.sources, self.runs(), self.axis_keys)

    def columns(self, metrics: Sequence[str] = ()) -> RunArrays:
        """The runs as arrays, kept until the sweep is looked at anew; these metrics are read together."""
        if self.live:
            self._refresh()
        if self._columns is None and self._wider is not None:
            added = self.filters[len(self._wider.filters) :]
            self._columns = self._wider.columns(metrics).where(self.terms(*added))
        elif self._columns is None:
            # What is read later must come from the same snapshot.
            still = SweepData(self.directories, filters=self.filters, origin=self) if self.live else self
            self._columns = RunArrays(still.arrow, still.batches, self.axes, views.labels(self.sources))
        self._columns.load(metrics)
        return self._columns

    def arrow(self, sql: str, *values: object) -> pa.Table:
        """Run SQL over the views ``runs``, ``steps``, ``items`` and ``rollouts``; return an Arrow table.

        Args:
            sql: the query, with a ``?`` for each of ``values``.
            *values: what stands there; what a file or a request says goes this way or as a ``literal``.
        """
        if self.live:
            self._refresh()
        self._require_intact_for(sql)
        return read(self._connection, sql, values)

    def batches(self, sql: str, rows: int) -> Iterator[pa.Table]:
        """Run SQL and yield its rows in Arrow tables of at most ``rows``."""
        if self.live:
            self._refresh()
        self._require_intact_for(sql)
        other = SweepData(self.directories, filters=self.filters, origin=self)  # queries may come in between
        with damage_named():
            for batch in other._connection.sql(sql).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])

    def frame(self, table: pa.Table) -> pd.DataFrame:
        """An Arrow table as a frame with typed axes."""
        return to_frame(table, self.axes)

    def query(self, sql: str) -> pd.DataFrame:
        """Run SQL over the same views as :meth:`arrow`; return a frame with typed axes."""
        return to_frame(self.arrow(sql), self.axes)

    def counts(self) -> dict[str, int]:
        """Number of runs per outcome."""
        table = self.arrow("SELECT outcome, count(*) AS n FROM runs GROUP BY outcome")
        return dict(zip(table["outcome"].to_pylist(), table["n"].to_pylist(), strict=True))

    def has(self, table: str) -> bool:
        """Whether any source holds rows of ``table``."""
        self._require_intact(table)
        return any(source.files[table] for source in self.sources)

    def _frame(self, view: str, columns: Sequence[str] | None, order: Sequence[str]) -> pd.DataFrame:
        if self.live:
            self._refresh()
        self._require_intact("runs", view)
        source = views.STORED if view == "runs" else view
        known = self._columns_of(source)
        chosen = known if columns is None else [resolve(c, known, f"column of {view}()") for c in columns]
        order = [name for name in ("sweep", *order) if name in known]
        sql = f"SELECT {views.quoted(chosen)} FROM {source} ORDER BY {views.quoted(order)}"
        return to_frame(read(self._connection, sql), self.axes)

    def _columns_of(self, view: str) -> list[str]:
        """Columns of a view in the order of its frame, asked once: a tenth of the time of a query."""
        if view not in self._names:
            names = views.column_names(self._connection, view)
            if len(self.sources) == 1:
                names = [name for name in names if name != "sweep"]
            self._names[view] = views.in_order(names, self.axis_keys) if view == views.STORED else names
        return self._names[view]
