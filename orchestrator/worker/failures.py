"""From what a trainer raised to a failure as it may be journalled, logged and shown."""

from __future__ import annotations

import os

from orchestrator.scheduling.retry import classify
from orchestrator.store.outcomes import Failure
from orchestrator.worker.log_bounds import bounded
from sweeps.origins import explained
from sweeps.spec.redaction import redact


def failure_of(error: BaseException) -> Failure:
    """The failure: bounded, without secrets, and with the fix where ours was imported for the user's."""
    return without_secrets(_explained(classify(error), error))


def without_secrets(failure: Failure) -> Failure:
    message = redact(failure.message, os.environ, hexadecimal=False)
    details = redact(bounded(failure.details), os.environ, hexadecimal=False)
    return failure._replace(message=message, details=details)


def _explained(failure: Failure, error: BaseException | None) -> Failure:
    while error is not None:
        if isinstance(error, ImportError) and (text := explained(error)):
            return failure._replace(message=f"{failure.message}; {text}")
        error = error.__cause__
    return failure
