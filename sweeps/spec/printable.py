"""Text as a terminal may show it. Names, messages and logs are other people's: an escape sequence in one
could move the cursor, rename the window or hide what was printed.
"""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C0 but tab and line feed, delete, C1, and what turns the direction of writing."""


def printable(text: str) -> str:
    """The text with every control character spelt out, as its code in hexadecimal."""
    return CONTROL.sub(_spelt, text)


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def half_character(text: str) -> int | None:
    """Position of the first lone surrogate, which no encoding can write and no tokenizer reads; ``None``
    without one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
