"""A command as a run: real processes, started, read and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from orchestrator.scheduling.retry import classify
from sweeps.manifest.code_files import resolve_trainer
from sweeps.spec import OptimSpec, RunSpec, SpecError, TrainerSpec
from sweeps.spec.command_words import COMMAND
from trainers.command import Command
from trainers.command.output import MAX_BYTES
from trainers.command.process import CommandDied
from trainers.command.trainer import CommandFailed
from trainers.protocol import Cancelled, RunContext, WorkerContext

RUN = "a" * 32
ROOT = Path(__file__).parents[3]


class Sweep:
    """Runs commands for one folder of scripts and one sweep directory, and keeps what they reported."""

    def __init__(self, folder: Path) -> None:
        self.scripts, self.directory = folder / "scripts", folder / "out"
        self.scripts.mkdir()
        self.trainer = Command(WorkerContext())
        self.reported: list[tuple[int, dict[str, object]]] = []

    def spec(self, *words: object, lr: float = 0.5, **more: object) -> RunSpec:
        config = {"target": COMMAND, "command": list(words), **more}
        trainer = TrainerSpec(**resolve_trainer(config, self.scripts))
        return RunSpec(trainer=trainer, seed=7, optim=OptimSpec(lr=lr))

    def script(self, text: str, name: str = "train.py") -> str:
        (self.scripts / name).write_text(textwrap.dedent(text))
        return name

    def context(self, attempt: int = 0, **more: object) -> RunContext:
        def report(step, **metrics):
            self.reported.append((step, metrics))

        return RunContext(run_id=RUN, attempt=attempt, sweep_dir=self.directory, report=report, **more)

    def run(self, *words: object, context: RunContext | None = None, **more: object) -> dict[str, object]:
        return dict(self.trainer.run(self.spec(*words, **more), context or self.context()).metrics)

    def python(self, text: str, *words: object, **more: object) -> dict[str, object]:
        return self.run("python", self.script(text), *words, **more)

    @property
    def log(self) -> str:
        return (self.directory / "logs" / RUN / "attempt_0.log").read_text()

    @property
    def work(self) -> Path:
        return self.directory / "work" / RUN / "attempt_0"


@pytest.fixture
def sweep(tmp_path):
    made = Sweep(tmp_path)
    yield made
    made.trainer.close()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def gone_within(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


DAEMON = """
import os, subprocess, sys, time
from pathlib import Path
# forked twice, in a session of its own, deaf to SIGTERM, without any of our variables
code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork() and os._exit(0); "
code += "os.setsid(); open(%r, 'w').write(str(os.getpid())); time.sleep(600)" % sys.argv[1]
subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True, env={})
while not (Path(sys.argv[1]).exists() and Path(sys.argv[1]).read_text()):
    time.sleep(0.01)
"""


def test_words_are_filled_in_and_the_command_runs_in_its_own_folder(sweep):
    text = """
        import json, os, sys
        from pathlib import Path
        import beside
        said = {"words": sys.argv[1:], "folder": os.getcwd(), "python": sys.executable, "n": beside.N}
        said["input"] = sys.stdin.read()
        said["run"] = os.environ["EMSWEEP_RUN_ID"]
        Path("said.json").write_text(json.dumps(said))
    """
    sweep.script("N = 5", "beside.py")
    sweep.python(
        text, "--lr", "{optim.lr}", "seed={seed}", 3, "{run_id}", "{output_dir}", "{{seed}}", "{eval.greedy}"
    )
    said = json.loads((sweep.work / "said.json").read_text())
    assert said["words"] == ["--lr", "0.5", "seed=7", "3", RUN, str(sweep.work), "{seed}", "true"]
    assert said["folder"] == str(sweep.work)
    assert (said["python"], said["n"], said["input"], said["run"]) == (sys.executable, 5, "", RUN)


def test_a_module_is_found_in_the_folder_of_the_sweep_file(sweep):
    sweep.script("import beside\nopen('n', 'w').write(str(beside.N))", "pack.py")
    sweep.script("N = 5", "beside.py")
    sweep.run("python", "-m", "pack")
    assert (sweep.work / "n").read_text() == "5"


def test_a_command_that_says_nothing_is_done_with_its_seconds_alone(sweep):
    assert list(sweep.run("true")) == ["wall_s"]
    assert not (sweep.directory / "work" / RUN).exists()  # it left nothing there
    assert not (sweep.directory / "logs").exists()


def test_a_new_attempt_has_a_folder_of_its_own_and_one_of_a_dead_driver_is_made_anew(sweep):
    sweep.run("touch", "a")
    sweep.run("touch", "b", context=sweep.context(attempt=1))
    sweep.run("touch", "c")
    assert [f.name for f in sweep.work.iterdir()] == ["c"]
    assert [f.name for f in sweep.work.with_name("attempt_1").iterdir()] == ["b"]


def test_metrics_are_read_off_what_is_printed_while_it_runs(sweep):
    text = """
        import time
        from pathlib import Path
        for step in (3, 5):
            print(f"step {step}: loss={1 / step} note=ok", end="\\r", flush=True)
        while not Path("go").exists():
            time.sleep(0.01)
        print("step 7: loss=0.25")
    """

    def report(step, **metrics):
        sweep.reported.append((step, metrics))
        if step == 5:
            (sweep.work / "go").touch()

    patterns = {"step": r"step (\d+)", "loss": r"loss=(\S+)", "note": r"note=(\w+)"}
    context = RunContext(run_id=RUN, sweep_dir=sweep.directory, report=report)
    metrics = sweep.python(text, patterns=patterns, context=context)
    assert [(s, m["loss"]) for s, m in sweep.reported] == [(3, 1 / 3), (5, 0.2), (7, 0.25)]
    assert (metrics["loss"], metrics["note"]) == (0.25, "ok")


def test_matches_are_counted_where_no_step_is_printed(sweep):
    sweep.run("printf", "a=1\\nb=5\\na=2\\na=3", patterns={"a": "a=(.*)", "b": "b=(.*)"})
    assert sweep.reported == [(1, {"a": 1}), (1, {"b": 5}), (2, {"a": 2}), (3, {"a": 3})]


def test_json_lines_are_read_while_they_grow_and_a_json_file_at_the_end(sweep):
    text = """
        import json, time
        with open("m.jsonl", "w") as lines:
            for step in range(3):
                print(json.dumps({"step": step, "eval": {"loss": step / 2}}), file=lines, flush=True)
                time.sleep(0.3)
            lines.write('{"final": 9}')
        open("result.json", "w").write('{"accuracy": 0.5, "loss": 1}')
    """
    metrics = sweep.python(text, metrics_from=["jsonl:m.jsonl", "json:result.json"])
    assert [step for step, _ in sweep.reported] == [0, 1, 2]
    assert (metrics["accuracy"], metrics["final"], metrics["loss"]) == (0.5, 9, 1)


def test_a_script_reports_through_the_channel_also_from_a_shell(sweep):
    metrics = sweep.run("sh", "-c", 'echo \'{"step": 3, "loss": 0.5}\' > "$EMSWEEP_REPORT/rows"')
    assert sweep.reported == [(3, {"loss": 0.5})]
    assert metrics["loss"] == 0.5


def test_tensorboards_events_become_metrics(sweep):
    pytest.importorskip("tensorboard")
    text = """
        from torch.utils.tensorboard import SummaryWriter
        with SummaryWriter("runs") as writer:
            for step in range(3):
                writer.add_scalar("loss", 1 / (step + 1), step)
    """
    metrics = sweep.python(text, metrics_from=["tensorboard:runs"])
    assert metrics["loss"] == pytest.approx(1 / 3)
    assert len(sweep.reported) == 3


def test_wandb_is_offline_and_its_run_becomes_metrics(sweep):
    pytest.importorskip("wandb")
    text = """
        import wandb
        with wandb.init(project="p") as run:
            for step in range(3):
                run.log({"loss": 1 / (step + 1)})
    """
    metrics = sweep.python(text, metrics_from=["wandb"])
    assert metrics["loss"] == pytest.approx(1 / 3)
    assert [step for step, _ in sweep.reported] == [0, 1, 2]


def test_an_exit_status_is_an_error_with_the_last_lines_of_standard_error(sweep):
    with pytest.raises(CommandFailed) as failed:
        sweep.python("def train():\n    raise ValueError('bad lr')\ntrain()\n")
    failure = classify(failed.value)
    assert failure.message == "CommandFailed: exit status 1: ValueError: bad lr"
    assert "line 3, in <module>" in failure.details
    assert not failure.may_pass
    assert "ValueError: bad lr" in sweep.log


def test_failures_of_different_kinds_are_told_apart_and_equal_ones_are_not(sweep):
    def fingerprint(text):
        with pytest.raises(CommandFailed) as failed:
            sweep.python(text)
        return classify(failed.value).fingerprint

    alike = [fingerprint(f"raise ValueError('{n}')") for n in range(2)]
    others = [fingerprint("raise KeyError(1)"), fingerprint("import sys; sys.exit(3)")]
    assert alike[0] == alike[1]
    assert len({alike[0], *others}) == 3


def test_a_command_that_a_signal_ended_may_pass_the_next_time(sweep):
    with pytest.raises(CommandFailed, match="killed by SIGKILL") as failed:
        sweep.run("sh", "-c", "kill -9 $$")
    assert classify(failed.value).may_pass


@pytest.mark.parametrize(
    "more",
    [{"patterns": {"loss": "loss=(.*)"}}, {"metrics_from": ["jsonl:m.jsonl"]}, {"metrics_from": ["wandb"]}],
)
def test_a_command_that_gives_none_of_the_metrics_asked_for_is_an_error(sweep, more):
    with pytest.raises(
        CommandFailed, match=r"gave no metric: nothing was found by (trainer.patterns.loss|\w+)"
    ):
        sweep.run("echo", "hello", **more)


def test_a_metric_that_no_table_can_hold_is_the_runs_error_and_ends_the_command(sweep):
    with pytest.raises(ValueError, match="write one JSON object a line"):
        sweep.run("sh", "-c", 'echo nonsense > "$EMSWEEP_REPORT/rows"; exec sleep 600')
    assert sweep.run("true")  # the next one is started as usual


def test_a_program_that_is_not_there_is_named(sweep):
    with pytest.raises(SpecError, match=r"'no-such-program' cannot be started \(No such file"):
        sweep.run("no-such-program")


def test_a_script_that_has_changed_is_not_run(sweep):
    spec = sweep.spec("python", sweep.script("print(1)"))
    sweep.script("print(2)")
    with pytest.raises(SpecError, match=r"train\.py has changed since its runs were asked for"):
        sweep.trainer.run(spec, sweep.context())


@pytest.mark.slow
def test_output_is_kept_with_both_ends_and_never_without_bound(sweep):
    sweep.python("print('first')\nfor n in range(3_000_000): print(n)\nprint('last')\n")
    assert len(sweep.log) < MAX_BYTES + (1 << 20)
    assert sweep.log.split("\n")[1:3] == ["first", "0"]
    assert sweep.log.endswith("2999999\nlast\n")
    assert "bytes left out here" in sweep.log


def test_processes_that_a_command_leaves_behind_end_with_the_attempt(sweep, tmp_path):
    note = tmp_path / "pid"
    sweep.python(DAEMON, str(note))
    assert not alive(int(note.read_text()))


def test_kill_9_of_a_worker_ends_its_command_and_all_that_it_left_behind(sweep, tmp_path):
    note, script = tmp_path / "pid", tmp_path / "script"
    sweep.script(DAEMON + f"Path({str(script)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n")
    worker = textwrap.dedent(
        f"""
        from pathlib import Path
        from tests.trainers.command.test_command import Sweep
        sweep = Sweep.__new__(Sweep)
        sweep.scripts, sweep.directory = Path({str(sweep.scripts)!r}), Path({str(sweep.directory)!r})
        sweep.reported = []
        sweep.trainer = __import__("trainers.command").command.Command(None)
        sweep.run("python", "train.py", {str(note)!r})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", worker], env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 60
    while not (script.exists() and script.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    pids = [int(note.read_text()), int(script.read_text())]
    assert all(map(alive, pids))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(gone_within(pid, 5) for pid in pids)


def test_a_cancelled_command_is_told_to_end_and_may_save_first(sweep):
    text = """
        import signal, sys, time
        from pathlib import Path
        def save(*_):
            Path("saved").touch()
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        Path("ready").touch()
        time.sleep(600)
    """
    with pytest.raises(Cancelled):
        sweep.python(text, context=sweep.context(cancelled=lambda: (sweep.work / "ready").exists()))
    assert (sweep.work / "saved").exists()


def test_a_script_hears_that_it_should_stop(sweep):
    from trainers.reporting import GO_ON, Decision

    text = """
        import time
        from trainers.reporting import report
        step = 0
        while not report(step, loss=1.0).stop:
            step += 1
            time.sleep(0.01)
    """
    asked = []

    def decision():
        asked.append(1)
        return Decision(stop=True, reason="enough") if len(asked) > 3 else GO_ON

    assert sweep.python(text, context=sweep.context(decision=decision))["loss"] == 1.0


def test_a_computing_command_beats_though_it_says_nothing_and_a_sleeping_one_does_not(sweep, monkeypatch):
    monkeypatch.setattr("trainers.busy.LOOK_S", 0.3)
    beats: list[str] = []
    context = sweep.context(heartbeat=beats.append)
    sweep.python("import time\nend = time.time() + 2\nwhile time.time() < end: pass\n", context=context)
    assert len(beats) >= 2
    beats.clear()
    sweep.run("sleep", "2", context=context)
    assert len(beats) <= 1  # the first look finds what it took to start


def test_a_lost_shepherd_is_an_error_and_the_next_run_has_another(sweep, tmp_path):
    note = tmp_path / "pid"
    sweep.script(f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getppid()))\ntime.sleep(600)\n")

    def kill_shepherd():
        if note.exists() and note.read_text():
            os.kill(int(note.read_text()), signal.SIGKILL)
        return False

    with pytest.raises(CommandDied):
        sweep.run("python", "train.py", context=sweep.context(cancelled=kill_shepherd))
    sweep.trainer.close()
    assert sweep.run("true")
