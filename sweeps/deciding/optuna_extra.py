"""The one place that imports Optuna, an extra: its samplers propose, its pruners stop."""

from __future__ import annotations

import importlib
from typing import Any

from sweeps.spec.errors import SpecError


def optuna_for(asked: str, *more: str) -> Any:
    """Optuna, quiet.

    Args:
        asked: what needs it, for the message.
        more: further packages that it needs.

    Raises:
        SpecError: where one of them is not installed.
    """
    try:
        optuna, *_ = [importlib.import_module(name) for name in ("optuna", *more)]
    except ImportError as error:
        raise SpecError(
            f"{asked}: needs {error.name}, which is not installed: pip install 'emsweep[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
