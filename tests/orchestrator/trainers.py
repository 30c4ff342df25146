"""Trainers that misbehave on purpose, as ``trainer.target`` names them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from trainers.noop import Noop
from trainers.protocol import Cancelled, RunResult

HERE = "tests.orchestrator.trainers"


class Bare:
    """The least that a trainer may be: it has neither ``close`` nor ``run_group``."""

    def __init__(self, context):
        self.num_runs = 0

    def run(self, spec, context):
        self.num_runs += 1
        return RunResult(outcome="done", metrics={"nth": self.num_runs})


class Closing(Bare):
    """Writes a line into ``params.folder`` whenever it is closed; fails for seed 1."""

    def run(self, spec, context):
        self._note = Path(spec.trainer.params["folder"]) / "closed"
        if spec.seed == 1:
            raise ArithmeticError("one does not please me")
        return super().run(spec, context)

    def close(self):
        with self._note.open("a") as note:
            note.write(f"after {self.num_runs}\n")


class Heavy(Noop):
    """Holds 300 MiB for a moment."""

    def run(self, spec, context):
        assert any(bytearray(b"x") * (300 << 20))
        return super().run(spec, context)


class Restless(Noop):
    """Draws a number that no seed keys."""

    def run(self, spec, context):
        return RunResult(outcome="done", metrics={"draw": random.random()})


class Wordless(Noop):
    """Forgets to return its result for seed 0, and returns what JSON cannot hold for seed 1."""

    def run(self, spec, context):
        result = super().run(spec, context)
        unstorable = RunResult(outcome="done", metrics={"draw": {1, 2}})
        return {0: None, 1: unstorable}.get(spec.seed, result)


class Misnaming(Noop):
    """Ends seed 0 in a word of its own."""

    def run(self, spec, context):
        result = super().run(spec, context)
        return RunResult(outcome="ok", metrics={"draw": 1.0}) if spec.seed == 0 else result


class Mixing(Noop):
    """Records under one name a number, a truth value, a text, a mapping and what needs more than 64 bits."""

    def run(self, spec, context):
        mixture = [1.5, True, "high", {"b": 1}, 2**70, None][spec.seed % 6]
        rows = [{"step": 0, "loss": mixture}]
        return RunResult(outcome="done", metrics={"draw": 1.0, "mixture": mixture}, steps=rows)


class Faulty(Noop):
    """Fails for seeds divisible by ``params.every``, always in the same way."""

    def run(self, spec, context):
        if spec.seed % int(spec.trainer.params["every"]) == 0:
            raise ArithmeticError(f"seed {spec.seed} does not please me")
        return super().run(spec, context)


class Talkative(Noop):
    """Prints its seed, on both streams and from a process of its own, and says it in a heartbeat; the first
    attempt of seed 1 loses a connection, and seed 2 waits ``params.wait_s`` after that.
    """

    def run(self, spec, context):
        print(f"print of {spec.seed}, attempt {context.attempt}")
        print(f"error of {spec.seed}", file=sys.stderr)
        subprocess.run(["echo", f"echo of {spec.seed}"], check=True)
        context.heartbeat(f"at seed {spec.seed}\nattempt {context.attempt}")
        if spec.seed == 1 and context.attempt == 0:
            raise ConnectionError("lost")
        if spec.seed == 2:
            time.sleep(float(spec.trainer.params.get("wait_s", 0)))
        return super().run(spec, context)


class Sleepy(Faulty):
    """Takes a fifth of a second; fails like :class:`Faulty`."""

    def run(self, spec, context):
        time.sleep(0.2)
        return super().run(spec, context)


class Moody(Noop):
    """Fails the first attempt of every third seed."""

    def run(self, spec, context):
        if spec.seed % 3 == 0 and context.attempt == 0:
            raise ConnectionError("not in the mood")
        return super().run(spec, context)


class Diverging(Noop):
    """Every fourth run diverges, with a loss that is not a number."""

    def run(self, spec, context):
        result = super().run(spec, context)
        if spec.seed % 4:
            return result
        return RunResult(
            outcome="diverged", metrics={"draw": float("nan")}, steps=[{"step": 0, "loss": float("inf")}]
        )


class Suicidal(Noop):
    """Kills its own process in the first attempt of seed ``params.seed``."""

    def run(self, spec, context):
        if spec.seed == int(spec.trainer.params["seed"]) and context.attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(spec, context)


class Hanging(Noop):
    """Falls silent in the first attempt of seed 2, though its process lives."""

    def run(self, spec, context):
        if spec.seed == 2 and context.attempt == 0:
            time.sleep(3600)
        return super().run(spec, context)


class Greedy(Noop):
    """Runs out of memory unless its micro batch is smaller than 64."""

    def run(self, spec, context):
        rows = spec.engine.micro_batch or spec.sampling.num_rollouts
        if rows >= 64:
            raise MemoryError("out of memory")
        return RunResult(outcome="done", metrics={"rows": rows}, layout={"micro_batch": rows})


class Sharing(Noop):
    """Shares work within a batch; seed 3 fails alone, the batch breaks at seed ``params.breaks``, and seed
    ``params.forgotten`` gets no outcome. Once closed it is of no more use.
    """

    is_closed = False

    def run_group(self, specs, contexts):
        for position in reversed(range(len(specs))):
            spec = specs[position]
            if spec.seed == int(spec.trainer.params.get("breaks", -1)) and contexts[position].attempt == 0:
                raise RuntimeError("the group broke")
            if spec.seed == int(spec.trainer.params.get("forgotten", -1)):
                continue
            if spec.seed == 3:
                yield position, ValueError("three is a crowd")
                continue
            assert not self.is_closed
            result = self.run(spec, contexts[position])
            yield position, RunResult(outcome="done", metrics={**result.metrics, "shared": len(specs)})

    def close(self):
        self.is_closed = True


class Keeping(Noop):
    """Leaves weights in its checkpoint folder."""

    def run(self, spec, context):
        if context.checkpoint_dir is not None:
            context.checkpoint_dir.mkdir(parents=True)
            (context.checkpoint_dir / "weights").write_text(str(spec.seed))
        return RunResult(outcome="done", metrics={"accuracy_sampled": float(spec.seed)})


class Endless(Noop):
    """Goes on for seeds below ``params.below`` until asked to stop."""

    def run(self, spec, context):
        while spec.seed < int(spec.trainer.params["below"]):
            if context.cancelled():
                raise Cancelled
            context.heartbeat("endless")
            time.sleep(0.01)
        return super().run(spec, context)


class Curable(Noop):
    """Fails for seeds divisible by ``params.every`` while the file ``params.cure`` is missing."""

    def run(self, spec, context):
        if (
            spec.seed % int(spec.trainer.params["every"]) == 0
            and not Path(spec.trainer.params["cure"]).exists()
        ):
            raise ArithmeticError("not cured")
        return super().run(spec, context)


class Placed(Noop):
    """Tells when and on which GPU it ran."""

    def run(self, spec, context):
        began_at = time.time()
        super().run(spec, context)
        return RunResult(
            outcome="done",
            metrics={
                "began_at": began_at,
                "ended_at": time.time(),
                "device": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
                "world_size": self._world_size,
            },
        )


class Telling(Noop):
    """Fails with a long message that holds a secret."""

    def run(self, spec, context):
        raise ValueError("cannot log in with password=hunter2 " + "x" * 10**6)


class Littering(Noop):
    """Starts a process in a session of its own and notes its pid in ``params.note``; then kills its worker,
    or with ``params.wait`` sleeps. Later runs say whether that process is alive.
    """

    def run(self, spec, context):
        note = Path(spec.trainer.params["note"])
        if note.exists():
            stat = Path(f"/proc/{note.read_text()}/stat")
            return {"left": stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"}
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        note.with_suffix(".new").write_text(str(process.pid))
        note.with_suffix(".new").rename(note)
        if spec.trainer.params["wait"]:
            time.sleep(600)
        return os.kill(os.getpid(), signal.SIGKILL)


class Forking(Noop):
    """Forks, and lets the copy come back with a result of its own, or with seed 1 raise."""

    def run(self, spec, context):
        if pid := os.fork():
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return RunResult(outcome="done", metrics={"status": status})
        if spec.seed == 1:
            sys.exit(3)
        return RunResult(outcome="done", metrics={"status": 77})


class Lucky(Noop):
    """Scores ``params.effect`` plus luck that depends on seed and effect."""

    def run(self, spec, context):
        time.sleep(spec.trainer.params["sleep_s"])
        effect = float(spec.trainer.params["effect"])
        luck = random.Random(f"{spec.seed}/{effect}").gauss(0, 1)
        if spec.seed in (spec.trainer.params.get("failing") or ()):
            raise ArithmeticError("bad luck")
        outcome = "diverged" if spec.seed in (spec.trainer.params.get("diverging") or ()) else "done"
        return RunResult(outcome=outcome, metrics={"score": effect + luck})


class Hill(Noop):
    """Scores how near ``params.x`` is to 0.3, plus luck of the seed, and a bonus for ``params.kind=good``."""

    def run(self, spec, context):
        params = spec.trainer.params
        if params.get("sleep_s"):
            time.sleep(params["sleep_s"])
        if params["x"] > params.get("fails_above", 9) or spec.seed in (params.get("fails_on") or ()):
            raise ArithmeticError("too far")
        outcome = "diverged" if params["x"] > params.get("diverges_above", 9) else "done"
        luck = random.Random(spec.seed).gauss(0, 0.01)
        bonus = 0.5 if params.get("kind") == "good" else 0.0
        return RunResult(outcome=outcome, metrics={"score": luck + bonus - (params["x"] - 0.3) ** 2})


class Curve(Noop):
    """Rises by ``params.height`` a step, and reports each; a run that is told to stop returns."""

    def run(self, spec, context):
        params = spec.trainer.params
        height = float(params["height"]) + 0.001 * spec.seed
        for step in range(1, int(params.get("steps", 2)) + 1):
            score = height * step
            context.report(step, **{params.get("called", "score"): score})
            until_s = time.monotonic() + float(params.get("step_s", 1.0))
            while time.monotonic() < until_s and not context.decision().stop:
                time.sleep(0.01)
            if context.decision().stop and not params.get("deaf"):
                break
        return RunResult(outcome="done", metrics={"score": score})
