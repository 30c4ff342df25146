"""The gate: a sweep's needs, less what this user granted before, less what the command line allows."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from orchestrator.store.layout import Layout
from orchestrator.trust.consent import Consent
from orchestrator.trust.needs import (
    HYDRA_JOB,
    OWN_PACKAGES,
    allows_command,
    code_of,
    files_of,
    links_of,
    places_of,
)
from orchestrator.trust.trusted import Need, Trusted, trusted_file
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import METADATA_KEY
from sweeps.spec import RUN_ID_LENGTH
from sweeps.spec.errors import UserError, cut
from sweeps.spec.plain_yaml import load_plain

SWEEP_ID = re.compile(r"[0-9a-f]{32}")
"""``id`` of ``sweep.yaml``: 128 random bits of whoever launched it."""

RUN_ID = re.compile(rf"[0-9a-f]{{{RUN_ID_LENGTH}}}")
"""Run ids name files and folders."""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What the gate gives for one sweep, and what every start of a run asks for."""

    sweep_id: str
    """Identity of the sweep, written into ``sweep.yaml``; empty for a directory of before there were any."""
    digest: str
    """Digest of the manifest that may run."""

    def require(self, manifest: Manifest) -> None:
        """Raise :class:`ValueError` unless it was given for this manifest."""
        if self.digest != manifest.digest:
            raise ValueError("the permission was given for another manifest")

    def extended(self, manifest: Manifest) -> Permission:
        """The permission for further runs of the space that it was given for, remembered like that."""
        Trusted(trusted_file()).grant(self.sweep_id, manifest.digest, manifest.sweep, ())
        return replace(self, digest=manifest.digest)


def permit(
    layout: Layout,
    manifest: Manifest,
    consent: Consent,
    *,
    address: str | None = None,
    node_spools: str = "",
    further: Sequence[Need] = (),
    runs_code: bool = True,
) -> Permission:
    """Let a sweep run, and remember what was granted; nothing in the directory is changed.

    Args:
        address: of the Ray cluster that the runs would go to.
        node_spools: folder on each node that they would write below.
        further: what else will be used, such as a pickle that is about to be written.
        runs_code: whether runs are to be started, rather than only files written.

    Raises:
        UserError: for anything that nobody allowed, naming it and the flag.
    """
    _require_plain_ids(manifest)
    needs = [*files_of(layout, manifest), *further]
    if runs_code:
        needs += [*code_of(manifest), *places_of(address, node_spools)]
    else:
        needs = [need for need in needs if need.key == "link"]
    known_id, trusted = stored_id(layout), Trusted(trusted_file())
    granted = trusted.grants(known_id, manifest.digest) if needs or consent.launched else None
    missing = [n for n in needs if n not in (granted or ()) and not consent.covers(n)]
    if missing:
        raise UserError(refusal(missing[0], layout.root))
    stays = not consent.launched or granted is not None or _stays(layout, manifest, trusted, known_id)
    sweep_id = known_id if stays else secrets.token_hex(16)
    if consent.launched or any(n not in (granted or ()) for n in needs):
        trusted.grant(sweep_id, manifest.digest, manifest.sweep, needs)
    return Permission(sweep_id=sweep_id, digest=manifest.digest)


def require_covered(manifest: Manifest, consent: Consent, root: Path) -> None:
    """Refuse a sweep that is only handed on unless the command line alone allows its code.

    Raises:
        UserError: naming what is not allowed, and the flag.
    """
    for need in code_of(manifest):
        if not consent.covers(need):
            raise UserError(refusal(need, root))


def require_no_links(layout: Layout) -> None:
    """Refuse a directory by whose links what is written into it would land elsewhere.

    Raises:
        UserError: naming the link and the flag.
    """
    for need in links_of(layout.root):
        raise UserError(refusal(need, layout.root))


def is_trusted(layout: Layout, manifest: Manifest) -> bool:
    """Whether this user launched, or was granted, exactly these runs."""
    return Trusted(trusted_file()).grants(stored_id(layout), manifest.digest) is not None


def refusal(need: Need, root: Path) -> str:
    """Why something may not be used, and what allows it."""
    where = f"directory {str(root)!r}"
    match need.key:
        case "target" | "pickle" if need.key == "pickle" or need.value == HYDRA_JOB:
            return (
                f"{where}: holds jobs of a Hydra application, pickled, that this user has not written; if "
                "you trust them, add --allow-target orchestrator, or set EMSWEEP_ALLOW_TARGETS=orchestrator"
            )
        case "target":
            return (
                f"trainer.target={need.value!r}: a file names code outside {', '.join(OWN_PACKAGES)}; if you "
                f"trust it, add --allow-target {re.split('[.:]', need.value)[0]}"
            )
        case "command":
            return (
                f"trainer.command: a file runs {cut(need.value)}; if you trust it, add --allow-target "
                f"{_word_for(need.value)}"
            )
        case "remote_code":
            return (
                f"model.trust_remote_code=true: a file lets the model {need.value!r} bring code of its own; "
                "if you trust it, add --trust, or to a launch model.trust_remote_code=true"
            )
        case "link":
            return f"{where}: {need.value} leads out of it; remove the link, or add --trust if you made it"
        case key:
            return (
                f"cluster.{key}={need.value!r}: a file sends work or files elsewhere; give it on the command "
                "line, or add --trust"
            )


def _word_for(command: str) -> str:
    """What allows a command: its script's name where that is enough, else its program."""
    program, second = [*shlex.split(command), "", ""][:2]
    script = program if "/" in program else second
    return Path(script).name if allows_command(command, [Path(script).name]) else program


def stored_id(layout: Layout) -> str:
    """The id that a directory claims; empty where it has none that is well formed."""
    try:
        document = load_plain(layout.config.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    sweep_id = document.get("id") if isinstance(document, dict) else None
    return sweep_id if isinstance(sweep_id, str) and SWEEP_ID.fullmatch(sweep_id) else ""


def _stays(layout: Layout, manifest: Manifest, trusted: Trusted, sweep_id: str) -> bool:
    """Whether a launch leaves ``sweep.yaml`` as it is, or widens a sweep that this user launched before."""
    try:
        header = json.loads(pq.read_schema(layout.manifest).metadata[METADATA_KEY])
        digest = str(header["digest"])  # only claimed, and no more than the id's fate depends on it
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    unchanged = digest == manifest.digest and layout.config.exists()
    return unchanged or (bool(sweep_id) and trusted.grants(sweep_id, digest) is not None)


def _require_plain_ids(manifest: Manifest) -> None:
    for run_id in manifest.run_ids:
        if not RUN_ID.fullmatch(run_id):
            raise UserError(
                f"run {run_id[:80]!r}: is no run id (an id has {RUN_ID_LENGTH} hexadecimal digits) and would "
                "name files elsewhere; the manifest is not one of ours"
            )
