"""Starts commands for one worker, one at a time, and ends all that they leave: ``shepherd.py FD``, its end
of a socket pair.

It is the parent of the command and, as a subreaper, of whatever the command leaves behind, also of processes
in sessions of their own. They end with the attempt; when the worker goes, however it goes, its end of the
socket closes, and they end with it. Run by ``python -I -S`` as a file: it imports nothing of ours, so that it
starts in a few milliseconds and holds little.

To the worker it says one JSON object a line: ``{"pid": 5}`` or ``{"error": "…"}`` when it was asked to start
something, ``{"exit": -9, "left": 2}`` when that has ended, with the number of processes it left behind.
"""

import array
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEFT_GRACE_S = 1.0
"""Time that processes which a command left behind get to end by themselves once told to."""

END_S = 10.0
"""Time that killed processes get to vanish; one that the kernel holds on to is given up."""

PAUSE_S = 0.005
"""Pause between looks at processes that are on their way out."""

prctl = ctypes.CDLL(None).prctl


def main() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # it ends with its worker, not before; commands ignore none
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    worker = socket.socket(fileno=int(sys.argv[1]))
    child = 0
    kill_at = None
    while True:
        wait_s = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        readable, _, _ = select.select([worker, wake], [], [], wait_s)
        if kill_at is not None and time.monotonic() >= kill_at:
            signal_all(signal.SIGKILL)
            kill_at = None
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                wake.recv(4096)
        if worker in readable:
            request = receive(worker)
            if request is None:
                end_all(0.0)
                return
            what, fds = request
            if "end" in what:
                signal_all(signal.SIGTERM)
                kill_at = time.monotonic() + what["end"]
            else:
                child = start(worker, what, fds)
        status = reap(child) if child else None
        if status is not None:
            child, kill_at = 0, None
            left = end_all(LEFT_GRACE_S)
            tell(worker, {"exit": status, "left": left})


def receive(worker):
    """The next request and its file descriptors; ``None`` when the worker has gone."""
    try:
        data, ancillary, _, _ = worker.recvmsg(4, socket.CMSG_SPACE(8 * array.array("i").itemsize))
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        size = struct.unpack("!I", data)[0] if len(data) == 4 else 0
        text = b""
        while len(text) < size:
            part = worker.recv(size - len(text))
            if not part:
                return None
            text += part
    except OSError:
        return None
    return (json.loads(text), list(fds)) if size else None


def start(worker, what, fds):
    """Start a command and tell its pid, or why it did not start."""
    stdout, stderr = fds
    shepherd = os.getpid()

    def end_with_shepherd():
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != shepherd:
            os._exit(1)

    try:
        process = subprocess.Popen(
            what["words"],
            cwd=what["folder"],
            env=what["environment"],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=end_with_shepherd,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        tell(worker, {"error": reason})
        return 0
    finally:
        for fd in fds:
            os.close(fd)
    process.returncode = 0  # reaped below, together with what it leaves behind
    tell(worker, {"pid": process.pid})
    return process.pid


def tell(worker, what):
    with contextlib.suppress(OSError):  # a worker that has gone is seen by the next read
        worker.sendall(json.dumps(what).encode() + b"\n")


def reap(child):
    """Take the status of all that has ended; returns that of ``child`` if it is among it."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == child:
                found = os.waitstatus_to_exitcode(status)
    return found


def end_all(grace_s):
    """End every process below this one and return how many there were.

    All that are left are below this process, so none is once it has no children: the usual case, which costs
    one system call.
    """
    began_s = time.monotonic()
    seen: set[int] = set()
    told = grace_s <= 0
    while time.monotonic() - began_s < END_S + grace_s:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return len(seen)
        if pid:
            continue
        if not told:
            seen |= signal_all(signal.SIGTERM)
            told = True
        elif time.monotonic() - began_s >= grace_s:
            seen |= signal_all(signal.SIGKILL)
        time.sleep(PAUSE_S)
    return len(seen)


def signal_all(number):
    """Signal every process below this one; returns their pids."""
    pids = below(os.getpid())
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
    return pids


def below(root):
    """Pids of the living processes below one, to any depth."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes longer to import than all of this
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(name))
    found, waiting = set(), [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            found.add(pid)
            waiting.append(pid)
    return found


if __name__ == "__main__":
    main()
