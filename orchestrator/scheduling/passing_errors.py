"""Which exceptions may be over by the next attempt: the only ones that a run is tried again for. Pure.

================================================================== =====================================
an exception, or the one that it was raised from                   may pass
================================================================== =====================================
has an attribute ``may_pass``                                      as it says
``TypeError``, ``ValueError``, ``KeyError``, ``ImportError``, …    no: the same code does the same again
a connection, a timeout, a lock, a busy or failing disk or network yes
an answer of a server: 408, 425, 429, 500, 502, 503, 504           yes; any other no
CUDA, cuBLAS, cuDNN, NCCL, a collective of ``torch.distributed``   yes, but for a failed assertion
a process of the trainer's own that a signal ended                 yes
anything else, ``RuntimeError`` and exceptions of its own included no
================================================================== =====================================

An exception that is raised while another is handled is followed to that one where it is explicit
(``raise … from …``), and where it is not itself of a kind that tells of a mistake.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from subprocess import CalledProcessError, TimeoutExpired

MISTAKES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ImportError,
    AssertionError,
    NameError,
    ArithmeticError,
    SyntaxError,
    NotImplementedError,
    RecursionError,
    SystemExit,
)
"""What a program that is wrong raises, now and the next time."""

PASSING = (ConnectionError, TimeoutError, BlockingIOError, InterruptedError, TimeoutExpired, BrokenExecutor)
"""What the world outside the program raises."""

PASSING_NAMES = frozenset(
    {
        # requests, urllib3, http.client, httpx, aiohttp: none of them is imported to name its exceptions
        "ConnectTimeout", "ReadTimeout", "Timeout", "ConnectError", "ReadError", "TransportError",
        "ProtocolError", "IncompleteRead", "ChunkedEncodingError", "RemoteDisconnected", "MaxRetryError",
        "ClientConnectionError", "ServerDisconnectedError", "ServerTimeoutError", "SSLError", "gaierror",
        # torch.distributed
        "DistBackendError", "DistNetworkError", "DistStoreError",
    }
)  # fmt: skip
"""Classes of libraries, by name."""

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that ask to come again."""

PASSING_ERRNO = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EINTR, errno.EIO,
        errno.EMFILE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS,
        errno.ENOLCK, errno.ENOSPC, errno.EREMOTEIO, errno.ESTALE, errno.ETXTBSY,
    }
)  # fmt: skip
"""Reasons of an ``OSError`` of no class of its own: disk and network, quotas, what is in use."""

PASSING_SIGNS = (
    "cuda error", "cudnn", "cublas", "cufft", "cusolver", "nccl", "connection reset", "connection refused",
    "connection aborted", "couldn't connect", "timed out", "temporarily unavailable", "killed by signal",
    "exited unexpectedly", "database is locked", "disk i/o error", "too many open files",
)  # fmt: skip
"""What a ``RuntimeError`` or an ``OSError`` without a reason says then; in lower case."""

ASSERTION_SIGN = "device-side assert"
"""A CUDA error that is a mistake: an index out of range."""

KILLED_STATUS = (128 + 9, 128 + 15)
"""Exit statuses by which a shell tells of SIGKILL and SIGTERM."""

MAX_CHAIN = 8
"""Exceptions looked at, from the one that was raised to what it came from."""


def may_pass(error: BaseException) -> bool:
    """Whether the same attempt, made again, may end otherwise."""
    for link in _chain(error):
        own = getattr(link, "may_pass", None)
        if isinstance(own, bool):
            return own
        if _passes(link):
            return True
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if link is None:
            return
        yield link
        hidden = link.__suppress_context__ or isinstance(link, MISTAKES)
        link = link.__cause__ or (None if hidden else link.__context__)


def _passes(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return status in PASSING_STATUS
    if isinstance(error, CalledProcessError):
        return error.returncode < 0 or error.returncode in KILLED_STATUS
    if isinstance(error, PASSING) or any(c.__name__ in PASSING_NAMES for c in type(error).__mro__):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING_ERRNO
    if isinstance(error, MISTAKES):
        return False
    text = _text(error)
    return ASSERTION_SIGN not in text and any(sign in text for sign in PASSING_SIGNS)


def _status(error: BaseException) -> int | None:
    """The status of a server's answer that an exception tells of."""
    response = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status"), (error, "code")):
        found = getattr(holder, name, None)
        if isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600:
            return found
    return None


def _text(error: BaseException) -> str:
    try:
        return str(error).lower()
    except Exception:
        return ""
