"""Takes secrets out of text: of the support bundle, of logs, of what a terminal shows and what is stored.

What is hidden: values of this process's variables whose names are a secret's; credentials in the forms that
services give them; a value behind a name, a flag or a header that says it is one. What such names look like
in our field and are none (``pad_token``, ``max_new_tokens``, ``tokenizer``) is left alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE|NETRC", re.IGNORECASE)
"""Names of variables whose values are secrets."""

MIN_SECRET = 6
"""Shortest value that is taken for a secret: shorter ones, such as ``1`` or ``token``, are switches."""

HIDDEN = "[hidden]"

_PEM = r"-----BEGIN (?P<pem>[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]*?(?:-----END (?P=pem)-----|\Z)"

TOKENS = re.compile(
    "|".join(
        (
            _PEM,
            r"\bgh[opsur]_[A-Za-z0-9]{16,}",
            r"\bgithub_pat_[A-Za-z0-9_]{20,}",
            r"\bhf_[A-Za-z0-9]{16,}",
            r"\b(?:sk|rk|pk)-(?=[\w-]*\d)[A-Za-z0-9_-]{16,}",
            r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,}",
            r"\bglpat-[\w-]{10,}",
            r"\bxox[abeoprs]-[\w-]{10,}",
            r"https://hooks\.slack\.com/services/[\w/]+",
            r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
            r"\bAIza[\w-]{35}",
            r"\bya29\.[\w-]{20,}",
            r"\bnpm_[A-Za-z0-9]{30,}",
            r"\bpypi-[A-Za-z0-9_-]{16,}",
            r"\bSG\.[\w-]{16,}\.[\w-]{16,}",
            r"\bdop_v1_[0-9a-f]{32,}",
            r"\bwandb_v1_\w{16,}",
            r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
            r"(?i:(?<=\bbearer )|(?<=\bbearer\t))(?=[\w~+/=-]*[\d.])[\w.~+/=-]{6,}",
            r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)",
            r"(?<=://)[^/\s:@\"']{16,}(?=@)",
        )
    )
)
"""Credentials that tell by their form."""

HEXADECIMAL = re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b")
"""Keys in hexadecimal, as W&B has them; commits and digests look the same."""

HEADER = re.compile(
    r"(?i)(?<![\w-])((?:proxy-)?authorization|x-api-key|x-auth-token|api-key|(?:set-)?cookie)"
    r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)([^\r\n\"']+)"
)
"""A header with its value, to the end of its line."""

_KEYS = (
    r"(?:api|access|secret|private|signing|encryption|account|auth|ssh|storage|shared|subscription|master|service|"
    r"wandb|comet|openai|anthropic|azure|aws)[_-]?key(?:[_-]?id)?"
)

NAMED = re.compile(
    rf"(?<![A-Za-z0-9])(?P<name>(?:{_KEYS}|secret(?:[_-]?(?:access[_-]?)?key)?|"
    r"(?:access|auth|refresh|session|bearer|id|api|hub|security|bot|csrf|user)?[_-]?token|"
    r"passw(?:or)?d|passphrase|passwd|pwd|credentials?|sig|signature|x-amz-signature))"
    r"(?P<between>\\?[\"']?\s*(?:=>|:=|[:=])\s*)"
    r"(?P<value>\\?\"[^\"\n]*\"?|'[^'\n]*'?|<[^>\n]*>|[^\s\"',;&)\]}]+)",
    re.IGNORECASE,
)
"""A name that is a secret's, then its value."""

VARIABLE = re.compile(
    r"\b(?P<name>[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:KEY|TOKEN|SECRET|PASS|PAT))"
    r"(?P<between>=)(?P<value>\"[^\"\n]*\"?|'[^'\n]*'?|[^\s\"',;&)\]}]+)"
)
"""An environment variable that is a secret's, as a shell writes it."""

FLAG = re.compile(
    r"(?i)(?P<name>(?<!\w)--?(?:[a-z0-9]{1,32}-){0,4}(?:token|password|passwd|passphrase|secret|api-?key|access-?key|secret-?key))"
    r"(?P<between>[ \t]+)(?P<value>\"[^\"\n]*\"?|'[^'\n]*'?|[^\s\"',;]+)"
)
"""An option of a command line and the word after it."""

NETRC = re.compile(r"(?i)(\bmachine\s+\S+\s+login\s+\S+\s+password\s+)(\S+)")
"""An entry of ``.netrc``."""

BASIC = re.compile(r"(?i)(\bbasic[ \t]+)([A-Za-z0-9+/]{8,}={0,2})")
"""Perhaps credentials of HTTP's basic scheme."""

NOT_SECRET = re.compile(
    r"(?i)(?:none|null|true|false|nil|undefined|token|password|secret|required|missing|optional|invalid|expired|"
    r"\d{1,12}|\d+\.\d+|\[hidden\]|\*+|…|\.{3}|<[^>]*>|\$\{?[\w.:]+\}?.*|%\(?\w+\)?s?|\{\w*\})"
)
"""Values that are none: switches, numbers, places to fill in."""

MAX_FIRST_WORD = 8
"""Characters before a name that may say what kind of token it is."""

OF_TEXT = re.compile(
    r"(?i)(?:^|[^A-Za-z])(?:pad|eos|bos|unk|sep|cls|mask|next|special|stop|image|first|last|new|per|begin|end|start)"
    r"[_-]?token$"
)
"""Names of tokens of text."""


def redact(text: str, environment: Mapping[str, str], *, hexadecimal: bool = True) -> str:
    """The text without this process's secrets and whatever looks like one.

    Args:
        text: any text.
        environment: variables of this process.
        hexadecimal: also hide what may be a key or a commit, 40 or 64 hexadecimal digits.
    """
    secrets = {v for k, v in environment.items() if SECRET_NAME.search(k) and len(v) >= MIN_SECRET}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = TOKENS.sub(HIDDEN, text)
    text = HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = NETRC.sub(rf"\1{HIDDEN}", text)
    text = BASIC.sub(_basic, text)
    for pattern in (FLAG, VARIABLE, NAMED):
        text = pattern.sub(_value, text)
    return HEXADECIMAL.sub(HIDDEN, text) if hexadecimal else text


def _value(found: re.Match[str]) -> str:
    value = found["value"]
    name = found.string[max(0, found.start() - MAX_FIRST_WORD) : found.start()] + found["name"]
    bare = value.strip("\\\"'")
    least = 3 if "pass" in name.lower() or "pwd" in name.lower() else MIN_SECRET
    if len(bare) < least or NOT_SECRET.fullmatch(bare) or OF_TEXT.search(name):
        return found[0]
    opening = re.match(r"\\?[\"']?", value)
    quote = opening[0] if opening else ""
    closing = quote if quote and value.endswith(quote) and len(value) > len(quote) else ""
    return f"{found['name']}{found['between']}{quote}{HIDDEN}{closing}"


def _basic(found: re.Match[str]) -> str:
    """Hide what decodes to ``user:password``."""
    padded = found[2] + "=" * (-len(found[2]) % 4)
    try:
        decoded = base64.b64decode(padded, validate=True)
    except binascii.Error:
        return found[0]
    return f"{found[1]}{HIDDEN}" if b":" in decoded and decoded.isascii() else found[0]
