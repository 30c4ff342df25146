"""What the command line allows: the words themselves, ``--allow-target``, ``--trust``, and one variable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.trust.needs import HYDRA_JOB, allows_command, is_within
from orchestrator.trust.trusted import Need

VARIABLE = "EMSWEEP_ALLOW_TARGETS"
"""Further packages whose trainers may be named, parted by commas."""

SETTINGS = {"address": "cluster.address", "node_spools": "cluster.node_spools"}
"""Needs that a word of the command line can name, and that word's key."""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What this user says now."""

    packages: tuple[str, ...] = ()
    """Packages whose trainers may be named by files."""
    named: frozenset[Need] = frozenset()
    """What words of the command line name themselves."""
    command: bool = False
    """A word gives the command, all of it."""
    remote_code: bool = False
    """A word switches ``model.trust_remote_code`` on."""
    everything: bool = False
    """``--trust``, or a program of this user's own that launches itself."""
    launched: bool = False
    """This user asks for these runs, rather than for those that a directory holds."""

    def covers(self, need: Need) -> bool:
        if self.everything or need in self.named:
            return True
        if need.key == "command":
            return self.command or allows_command(need.value, self.packages)
        if need.key in ("target", "pickle"):
            target = HYDRA_JOB if need.key == "pickle" else need.value
            return is_within(target, self.packages)
        return need.key == "remote_code" and self.remote_code


def consent_of(
    words: Sequence[str] = (),
    *,
    allowed: Sequence[str] = (),
    address: str | None = None,
    trust: bool = False,
    launched: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Consent:
    """Read the command line.

    Args:
        words: overrides as this user typed them, never those that a directory tells of.
        launched: whether the words are what makes the sweep.
        environment: where :data:`VARIABLE` is looked up.
    """
    further = (part.strip() for part in environment.get(VARIABLE, "").split(","))
    named = {Need("target", v) for key in ("trainer.target", "trainer._target_") for v in values(words, key)}
    named |= {Need(kind, v) for kind, key in SETTINGS.items() for v in values(words, key)}
    if address:
        named.add(Need("address", address))
    return Consent(
        packages=tuple(p for p in (*allowed, *further) if p),
        named=frozenset(named),
        command=any("${" not in word for word in words if word.lstrip("+").startswith(f"{COMMAND_KEY}=")),
        remote_code=any(v.lower() in ("true", "on", "yes", "1") for v in values(words, REMOTE_CODE)),
        everything=trust,
        launched=launched,
    )


COMMAND_KEY = "trainer.command"
"""Key of the words that a run is."""

REMOTE_CODE = "model.trust_remote_code"
"""Key by which a model may bring code."""


def values(words: Sequence[str], key: str) -> Iterator[str]:
    """The values that words give to a key, several where a word is an axis."""
    for word in words:
        name, _, written = word.lstrip("+").partition("=")
        if name == key:
            yield from (value.strip().strip("'\"") for value in written.strip("[]").split(","))


def names(words: Sequence[str], key: str) -> bool:
    """Whether a word sets a key, or something below or above it."""
    given = (word.lstrip("+").partition("=")[0] for word in words)
    return any(g == key or key.startswith(f"{g}.") or g.startswith(f"{key}.") for g in given if "." in g)
