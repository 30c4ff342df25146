"""Runs a command for each run; waits in one place for its output, its reports and its end."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeps.spec import RunSpec, SpecError
from sweeps.spec.errors import cut
from trainers import busy
from trainers.command.attempt import environment_of, made_folder, remove_if_empty, words_of
from trainers.command.metrics import CommandMetrics
from trainers.command.output import CommandLog
from trainers.command.process import Shepherd, how_it_ended, pipe
from trainers.protocol import Cancelled, RunContext, RunResult, WorkerContext
from trainers.reporting.channel import ReportChannel

LOOK_S = 0.25
"""Longest between two looks at files, the cancel flag and what was decided: what people see as at once."""

CANCEL_GRACE_S = 5.0
"""Time that a command which is called off gets to save what it wants to keep."""

SHOWN_LINES = 20
"""Last lines of standard error in the message of a failure."""

_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)?)(?::|$)")
_FRAME = re.compile(r'^\s*File "([^"]+)", line \d+, in (.+)$')


class CommandFailed(RuntimeError):
    """A command ended with another exit status than 0, or said nothing where it should have."""

    def __init__(self, message: str, words: Sequence[str], *, by_signal: bool = False) -> None:
        super().__init__(message)
        self.fingerprint_words = tuple(words)
        """What tells failures apart: status, exception and where it was raised."""
        if by_signal:
            self.may_pass = True


class Command:
    """Runs commands, one at a time."""

    def __init__(self, context: WorkerContext) -> None:
        self._shepherd: Shepherd | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Run the command of a run and gather what it measured.

        Raises:
            CommandFailed: for an exit status other than 0.
            SpecError: for a program that is not there, or a script that is another now.
            Cancelled: when it was called off.
        """
        started_s = time.perf_counter()
        run_id = context.run_id or spec.run_id
        folder = made_folder(context, run_id, self._elsewhere(context))
        words = words_of(spec, run_id, folder)
        log = CommandLog(_log_of(context, run_id), words)
        metrics = CommandMetrics(spec.trainer, folder, context.report)
        try:
            with ReportChannel() as channel:
                environment = environment_of(spec.trainer, run_id, folder) | dict(channel.environment)
                self._watch(words, folder, environment, channel, log, metrics, context)
            metrics.look(final=True)
        finally:
            log.close()
            remove_if_empty(folder)
        sources = [
            *(f"trainer.patterns.{name}" for name in spec.trainer.patterns),
            *spec.trainer.metrics_from,
        ]
        if sources and not metrics.num_rows:
            raise CommandFailed(
                f"exit status 0, but it gave no metric: nothing was found by {', '.join(sources)}", ["silent"]
            )
        found = {**metrics.values}
        found.setdefault("wall_s", time.perf_counter() - started_s)
        threads = os.environ.get("OMP_NUM_THREADS", "")
        return RunResult(
            outcome="done", metrics=found, layout={"threads": int(threads)} if threads.isdigit() else {}
        )

    def close(self) -> None:
        """End all that commands have left."""
        if self._shepherd is not None:
            self._shepherd.close()
            self._shepherd = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _elsewhere(self, context: RunContext) -> Path:
        """Where folders go of a worker that sees no sweep directory."""
        if context.sweep_dir is not None:
            return context.sweep_dir
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="emsweep-command-")
        return Path(self._scratch.name)

    def _watch(
        self,
        words: list[str],
        folder: Path,
        environment: Mapping[str, str],
        channel: ReportChannel,
        log: CommandLog,
        metrics: CommandMetrics,
        context: RunContext,
    ) -> None:
        """Start the command and see to it until it has ended well."""
        if self._shepherd is None:
            self._shepherd = Shepherd()
        shepherd = self._shepherd
        with contextlib.ExitStack() as stack:
            (stdout, theirs_out), (stderr, theirs_err) = pipe(), pipe()
            for fd in (stdout, stderr):
                stack.callback(os.close, fd)
            try:
                shepherd.start(words, folder, environment, theirs_out, theirs_err)
            except OSError as error:
                raise SpecError(
                    f"trainer.command: {words[0]!r} cannot be started ({error}); give a program that is on "
                    "this machine's PATH, or a script with a #! line that may be executed"
                ) from None
            finally:
                os.close(theirs_out)
                os.close(theirs_err)
            attention = _Attention(context, shepherd)
            selector = stack.enter_context(selectors.DefaultSelector())
            for source in (stdout, stderr, channel, shepherd):
                selector.register(source, selectors.EVENT_READ)
            try:
                ended = None
                while ended is None:
                    selector.select(LOOK_S)
                    ended = shepherd.ended()  # before the last look, so that nothing it wrote is missed
                    for fd in (stdout, stderr):
                        while data := _read(fd):
                            log.take(data, is_error=fd == stderr)
                            if fd == stdout:
                                metrics.printed(data)
                            attention.said(data)
                            if ended is None:
                                break
                        if data is None and fd in selector.get_map():
                            selector.unregister(fd)  # closed at the other end
                    metrics.take(channel.rows())
                    channel.show(context.decision())
                    if attention.is_due():
                        metrics.look()
            except BaseException:  # a metric that no table can hold, a worker that stops
                shepherd.end(0.0)
                shepherd.wait()
                raise
        status, _ = ended
        if attention.is_cancelled:
            raise Cancelled
        if status != 0:
            raise _failure(status, log.errors)


class _Attention:
    """Sees to what needs looking at from time to time."""

    def __init__(self, context: RunContext, shepherd: Shepherd) -> None:
        self._context, self._shepherd = context, shepherd
        self._looked_s = self._busy_s = time.monotonic()
        self._cpu_s = -1.0
        self._words = ""
        self.is_cancelled = False
        """Whether it was told to end."""

    def said(self, data: bytes) -> None:
        lines = data.decode(errors="replace").split("\n")
        self._words = next((line.strip() for line in reversed(lines) if line.strip()), self._words)

    def is_due(self) -> bool:
        """Whether it is time to look; beats if there was progress, ends a command that is called off."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        if self._words:
            self._context.heartbeat(self._words)
            self._words = ""
        elif now_s - self._busy_s >= busy.LOOK_S:
            self._busy_s = now_s
            used_s = busy.processor_seconds(self._shepherd.pid, with_root=False)
            if used_s != self._cpu_s:
                self._context.heartbeat("")
            self._cpu_s = used_s
        if not self.is_cancelled and self._context.cancelled():
            self.is_cancelled = True
            self._shepherd.end(CANCEL_GRACE_S)
        return True


def _read(fd: int) -> bytes | None:
    """What has come; empty where nothing has, ``None`` at the end."""
    try:
        return os.read(fd, 1 << 16) or None
    except BlockingIOError:
        return b""


def _log_of(context: RunContext, run_id: str) -> Path | None:
    if context.sweep_dir is None:
        return None
    return context.sweep_dir / "logs" / run_id / f"attempt_{context.attempt}.log"


def _failure(status: int, errors: str) -> CommandFailed:
    """What went wrong, in the words of the command's own last line."""
    lines = [line.rstrip() for line in errors.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing on standard error"
    exceptions = [match[1] for line in lines if (match := _EXCEPTION.match(line))]
    frames = [f"{Path(match[1]).name}:{match[2]}" for line in lines if (match := _FRAME.match(line))]
    shown = "\n".join(lines[-SHOWN_LINES:])
    text = f"{how_it_ended(status)}: {cut(last)}" + (f"\n{shown}" if len(lines) > 1 else "")
    return CommandFailed(text, [how_it_ended(status), *exceptions[-1:], *frames], by_signal=status < 0)
