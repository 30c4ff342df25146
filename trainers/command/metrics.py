"""What a command measured: rows of all its sources, reported as they come, the last of each kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from sweeps.spec import TrainerSpec
from sweeps.spec.command_words import source_of
from trainers.command.json_files import JsonLines, LastJson
from trainers.command.printed import Printed, Row
from trainers.command.tracker_files import EventFiles, OfflineRuns
from trainers.reporting import Report


class _File(Protocol):
    def rows(self, *, final: bool) -> Iterator[Row]: ...


_FILES: Mapping[str, Callable[[Path], _File]] = {
    "jsonl": JsonLines,
    "json": LastJson,
    "wandb": OfflineRuns,
    "tensorboard": EventFiles,
}


class CommandMetrics:
    """One attempt's metrics."""

    def __init__(self, trainer: TrainerSpec, folder: Path, report: Report) -> None:
        sources = (source_of(written) for written in trainer.metrics_from)
        self._files: list[_File] = [_FILES[kind](folder / path) for kind, path in sources]
        self._printed = Printed(trainer.patterns) if trainer.patterns else None
        self._report = report
        self._last: dict[str, Any] = {}
        self._of_run: dict[str, Any] = {}
        self.num_rows = 0
        """Rows so far."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The last value of each metric; what a source gives for the whole run counts more."""
        return {**self._last, **self._of_run}

    def take(self, rows: Iterable[Row]) -> None:
        """Report rows.

        Raises:
            TypeError, ValueError: for what no table can hold; names it.
        """
        for step, values in rows:
            self.num_rows += 1
            if step is None:
                self._of_run |= values
            else:
                self._report(step, **values)
                self._last |= values

    def printed(self, data: bytes) -> None:
        """Look at a piece of standard output."""
        if self._printed is not None:
            self.take(self._printed.feed(data))

    def look(self, *, final: bool = False) -> None:
        """Read what has come into the files.

        Raises:
            TypeError, ValueError: for a file that holds something else.
        """
        for file in self._files:
            self.take(file.rows(final=final))
        if final and self._printed is not None:
            self.take(self._printed.finish())
