"""How many usual forms of secrets are hidden, and how many harmless texts are left alone."""

from __future__ import annotations

from typing import Any

from sweeps.spec.redaction import redact
from tests.sweeps.spec.secret_forms import HARMLESS, SECRETS


def measure() -> dict[str, Any]:
    """Count forms hidden and harmless texts changed."""
    shown = [text for text, secret in SECRETS if secret in redact(text, {}, hexadecimal=False)]
    changed = [text for text in HARMLESS if redact(text, {}, hexadecimal=False) != text]
    return {
        "forms": len(SECRETS),
        "redacted": len(SECRETS) - len(shown),
        "harmless": len(HARMLESS),
        "changed": len(changed),
        "wrong": [*shown, *changed],
    }
