"""Which exceptions a run is tried again for."""

from __future__ import annotations

import errno
import socket
import subprocess
import urllib.error
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest

from orchestrator.scheduling.passing_errors import may_pass
from orchestrator.scheduling.retry import classify


def of_library(name, text="", base=Exception, **attributes):
    return type(name, (base,), attributes)(text)


PASSES = [
    ConnectionResetError("peer went away"),
    TimeoutError("no answer"),
    socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError("We couldn't connect to 'https://huggingface.co' to load this file"),
    urllib.error.HTTPError("http://h", 503, "busy", {}, None),
    of_library("HfHubHTTPError", response=SimpleNamespace(status_code=429)),
    of_library("ReadTimeout"),
    of_library("DistBackendError", "NCCL error: unhandled system error", base=RuntimeError),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuBLAS error: CUBLAS_STATUS_EXECUTION_FAILED"),
    RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."),
    subprocess.CalledProcessError(-9, ["train"]),
    subprocess.CalledProcessError(137, ["train"]),
    BrokenProcessPool("a child died"),
    of_library("MyOwn", may_pass=True),
]

IS_FINAL = [
    TypeError("train() got an unexpected keyword"),
    ValueError("the connection string timed out"),
    AssertionError(),
    KeyError("lr"),
    ImportError("No module named 'x'"),
    ZeroDivisionError(),
    RuntimeError("shapes do not match"),
    Exception("anything"),
    SystemExit(1),
    FileNotFoundError(errno.ENOENT, "No such file"),
    PermissionError(errno.EACCES, "Permission denied"),
    urllib.error.HTTPError("http://h", 404, "missing", {}, None),
    of_library("HfHubHTTPError", base=ConnectionError, response=SimpleNamespace(status_code=401)),
    RuntimeError("CUDA error: device-side assert triggered"),
    subprocess.CalledProcessError(1, ["train"]),
    of_library("MyOwn", base=ConnectionError, may_pass=False),
]


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_what_the_world_outside_raises_may_pass(error):
    assert may_pass(error)
    assert classify(error).may_pass


@pytest.mark.parametrize("error", IS_FINAL, ids=repr)
def test_what_the_program_raises_is_final(error):
    assert not may_pass(error)
    assert not classify(error).may_pass


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_exception_counts_as_the_one_that_it_was_raised_from():
    def explicit():
        try:
            raise ConnectionError("gone")
        except ConnectionError as error:
            raise ValueError("no data") from error

    def implicit():
        try:
            raise ConnectionError("gone")
        except ConnectionError:
            raise RuntimeError("no data")  # noqa: B904

    def mistake_in_the_handler():
        try:
            raise ConnectionError("gone")
        except ConnectionError:
            len(5)

    def on_purpose():
        try:
            raise ConnectionError("gone")
        except ConnectionError:
            raise RuntimeError("no data") from None

    assert [may_pass(raised(a)) for a in (explicit, implicit)] == [True, True]
    assert [may_pass(raised(a)) for a in (mistake_in_the_handler, on_purpose)] == [False, False]


def test_an_exception_that_cannot_be_read_is_final():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    assert not may_pass(Mute())
