"""Gives this machine to a sweep: joins its Ray, joins again when that has moved, and leaves with notice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from orchestrator.pools.ray_node import RayNode
from orchestrator.store.job_note import read_job
from orchestrator.store.layout import Layout
from orchestrator.store.meeting import Meeting, read_meeting
from orchestrator.store.status import read_status
from orchestrator.submit.membership import ASK_S, Seen, next_step, retry_wait_s
from orchestrator.submit.queued import queued_job

LOOK_S = 1.0
"""Period of looking around."""

NOTICES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What a person or a queue sends before it takes the machine away."""

Parting = Literal["over", "given back", "notice", "yielded"]
"""Why a machine is a node no more."""


@dataclass(frozen=True, kw_only=True)
class Stay:
    """What became of a machine's time with a sweep."""

    parting: Parting
    num_joined: int
    """Times that it joined: one more for each head after the first."""

    @property
    def returns(self) -> bool:
        """Whether it should be asked for again."""
        return self.parting in ("notice", "yielded")


class Notice:
    """Hears, inside a ``with``, that this machine will be taken away."""

    def __init__(self) -> None:
        self.heard = threading.Event()

    def __enter__(self) -> Notice:
        self._before = {number: signal.signal(number, self._hear) for number in NOTICES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.heard.set()


class Joining:
    """One machine's time with a sweep."""

    def __init__(
        self,
        layout: Layout,
        *,
        num_cpus: int | None,
        num_gpus: int | None,
        stays: bool,
        notice_s: float,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is joined before :meth:`run`.

        Args:
            layout: of the sweep, which may not be there yet.
            num_cpus: cores to offer; all of the machine's if ``None``.
            num_gpus: GPUs to offer, likewise.
            stays: whether to stay while there is no work.
            notice_s: seconds between a notice and the end.
            say: what people are told.
        """
        self._layout, self._stays, self._notice_s, self._say = layout, stays, notice_s, say
        self._offer = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._node: RayNode | None = None
        self._num_joined = self._num_failures = 0
        self._member_s = self._busy_s = time.monotonic()
        self._retry_s = 0.0
        self._was_member = False
        self._ask_s = self._member_s + ASK_S

    def run(self) -> Stay:
        """Be a node as long as the sweep wants one.

        Raises:
            UserError: when somebody else could say whose node.
        """
        with Notice() as notice:
            self._say(f"waiting for the sweep's Ray, as {self._layout.meeting} will tell where it is")
            try:
                while True:
                    if parting := self._turn(notice.heard.is_set()):
                        return Stay(parting=parting, num_joined=self._num_joined)
                    notice.heard.wait(LOOK_S)
            finally:
                self._part()

    def _turn(self, noticed: bool) -> Parting | None:
        meeting = read_meeting(self._layout)
        self._look_at_node()
        now_s = time.monotonic()
        seen = Seen(
            meeting=meeting,
            joined=self._node.address if self._node is not None else "",
            waiting=self._waiting(meeting),
            idle_s=now_s - self._busy_s,
            headless_s=now_s - self._member_s,
            retry_in_s=self._retry_s - now_s,
            job_ended=self._job_ended(now_s),
            noticed=noticed,
            stays=self._stays,
        )
        match next_step(seen):
            case "join" if meeting is not None:
                self._join(meeting)
            case "part":
                self._say("the sweep's Ray has moved: joining it anew")
                self._part()
            case "over":
                return "over"
            case "give back" if self._node is None or self._node.drain(if_idle=True):
                return "given back"
            case "drain":
                self._drain()
                return "notice"
            case "yield":
                self._say("no head to join: this machine is given to others meanwhile")
                return "yielded"
        return None

    def _join(self, meeting: Meeting) -> None:
        self._say(f"joining the sweep's Ray at {meeting.address}")
        self._was_member = False
        self._node = RayNode(meeting.address, environment=ray_environment(self._layout), **self._offer)

    def _look_at_node(self) -> None:
        """Take note of what Ray does here: that it runs, that it works, or that it has ended."""
        if self._node is None:
            return
        use, now_s = self._node.use(), time.monotonic()
        if use == "ended":
            self._part()
            self._num_failures += not self._was_member
            wait_s = retry_wait_s(self._num_failures)
            self._retry_s = now_s + wait_s
            how = "has ended" if self._was_member else "did not start"
            self._say(f"Ray {how} here; joining again in {wait_s:g} s")
        elif use != "starting":
            self._member_s = now_s
            if not self._was_member or use == "busy":
                self._busy_s = now_s
            if not self._was_member:
                self._was_member, self._num_failures = True, 0
                self._num_joined += 1
                self._say("joined: runs may come here now")

    def _waiting(self, meeting: Meeting | None) -> int | None:
        """Runs that wait, in the words of the driver that belongs to this meeting."""
        status = read_status(self._layout)
        if status is None or meeting is None or float(status.get("updated_at", 0.0)) < meeting.since:
            return None
        return int(status["counts"]["pending"])

    def _drain(self) -> None:
        """Let what runs here finish, and nothing begin, for as long as the notice lasts."""
        if self._node is None:
            return
        self._say(f"this machine is needed elsewhere: what runs here has {self._notice_s:g} s to finish")
        until_s = time.monotonic() + self._notice_s
        if not self._node.drain(if_idle=False, within_s=self._notice_s):
            return
        while self._node.use() == "busy" and time.monotonic() < until_s:
            time.sleep(LOOK_S)

    def _job_ended(self, now_s: float) -> bool:
        """Whether the job that should bring a head has ended; asked of its queue now and then without one."""
        if now_s < self._ask_s or now_s - self._member_s < ASK_S:
            return False
        self._ask_s = now_s + ASK_S
        note = read_job(self._layout)
        job = None if note is None else queued_job(note)
        if job is None or job.phase != "ended":
            return False
        self._say(f"{job.words}: it has ended; nobody is left to join")
        return True

    def _part(self) -> None:
        if self._node is not None:
            self._node.close()
            self._node = None


def ray_environment(layout: Layout) -> Mapping[str, str]:
    """Variables by which Ray's processes speak to the sweep's, and to nobody else's."""
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(layout.ray_token.resolve())}
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **secret}
