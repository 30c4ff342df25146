"""The state of a view as a URL: every choice is a word of the query string, and nothing else holds state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sweeps.spec import nearest
from sweeps.spec.errors import UserError

SNAPSHOT = "snapshot"
"""Parameter that names the state of the sweep a link was made at."""

MAX_QUERY = 8_000
"""Characters of a query string: what any browser and proxy carries."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A view: its path and what was chosen in it."""

    path: str
    params: Mapping[str, str]
    """Choices; absent means the default."""

    def to(self, path: str | None = None, /, **changes: Any) -> str:
        """URL with some choices changed; ``None`` and an empty text take one away.

        A dot cannot be in a Python name, so ``at__optim_lr`` style names are not offered: pass a mapping as
        ``more`` for such keys.
        """
        more = changes.pop("more", {})
        chosen = {**self.params, **changes, **more}
        chosen.pop(SNAPSHOT, None)
        return join(path or self.path, chosen)

    def ending(self, ending: str) -> str:
        return self.to("/" + self.path.strip("/") + "." + ending, page=None)

    def cited(self, snapshot_id: str) -> str:
        """URL of this very view that says at which state of the sweep it was seen."""
        return join(self.path, {**self.params, SNAPSHOT: snapshot_id})


def join(path: str, params: Mapping[str, Any]) -> str:
    kept = {key: text for key, value in params.items() if value is not None and (text := str(value)) != ""}
    return f"{path}?{urlencode(kept)}" if kept else path


def plain(value: Any) -> Any:
    """A value of a frame as a Python value; what is missing is ``None``."""
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value != value else value


def whole_number(params: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query string.

    Raises:
        UserError: when it is none, or outside ``low`` to ``high``.
    """
    text = params.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text[:18]) <= high:
        raise UserError(f"{name}={text[:40]!r}: give a whole number from {low} to {high}")
    return int(text)


def one_of(params: Mapping[str, str], name: str, choices: Mapping[str, Any] | tuple[str, ...]) -> str:
    """One word out of ``choices``, the first by default.

    Raises:
        UserError: for another word; names the nearest.
    """
    word = params.get(name, "") or next(iter(choices))
    if word not in choices:
        close = nearest(word, choices)
        raise UserError(f"{name}={word[:80]!r}{close}: choose one of {', '.join(choices)}")
    return word
