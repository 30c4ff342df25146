"""Opens a sweep directory: its ``sweep.yaml`` and its manifest, held against their digests and identities."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.store.frozen import (
    damage_of_frozen,
    fix_of_frozen,
    frozen_damage,
    frozen_file,
    require_frozen,
)
from orchestrator.store.layout import FORMAT_VERSION, Layout
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from sweeps.manifest.run_ids import first_wrong_id
from sweeps.spec.errors import DamagedError, UserError
from sweeps.spec.plain_yaml import load_plain

_FORMAT = re.compile(r"""(?m)^\s*["']?format["']?:\s*(\d{1,9})\s*,?\s*$""")
"""How ``sweep.yaml`` says its format."""


@dataclass(frozen=True, kw_only=True)
class OpenedSweep:
    """A sweep directory, to be looked at."""

    layout: Layout
    manifest: Manifest
    damage: tuple[tuple[Path, str], ...]
    """Frozen files that are missing or damaged, and how; their content is then that of the journals."""


def open_manifest(folder: Path) -> tuple[Layout, Manifest]:
    """Open an existing sweep directory whose frozen files are whole.

    Raises:
        UserError: when it is not one, or was made by a newer version.
        DamagedError: naming the file that is missing or damaged, and the fix.
    """
    layout = Layout(folder)
    require_known_format(layout)
    require_frozen(layout)
    return layout, checked_manifest(layout, layout.manifest)


def open_to_look(folder: Path, *, prove_ids: bool = False) -> OpenedSweep:
    """Open a sweep directory to report on it: what is missing or damaged is read from the journals.

    Args:
        folder: the directory.
        prove_ids: hash every run again, which takes seconds for a million; its digest vouches for a manifest
            otherwise.

    Raises:
        UserError: when it is not one, or was made by a newer version.
        DamagedError: when the journals do not hold it either.
    """
    layout = Layout(folder)
    require_known_format(layout)
    damage = frozen_damage(layout)
    contents = {path: frozen_file(layout, path.name) for path, _ in damage}
    for path, why in damage:
        if contents[path] is None and path == layout.manifest:
            raise DamagedError(f"{path}: {why}; {fix_of_frozen(layout, path)}")
    stored = contents.get(layout.manifest)
    source = layout.manifest if stored is None else io.BytesIO(stored)
    manifest = checked_manifest(layout, source) if prove_ids else read_manifest(source)
    return OpenedSweep(layout=layout, manifest=manifest, damage=tuple(damage))


def checked_manifest(layout: Layout, source: Path | io.BytesIO) -> Manifest:
    """Read a manifest each of whose runs is the one that its id says.

    Raises:
        DamagedError: naming the first run that is not, and the fix.
    """
    manifest = read_manifest(source)
    wrong = first_wrong_id(manifest)
    if wrong is not None:
        raise DamagedError(
            f"{layout.manifest}: run {manifest.run_ids[wrong]} is not the one that its id says (its "
            f"configuration has changed); mend it with: emsweep repair {layout.root}"
        )
    return manifest


def read_config(layout: Layout) -> Mapping[str, Any]:
    """``sweep.yaml``.

    Raises:
        DamagedError: when it is missing, or not what was written.
    """
    if why := damage_of_frozen(layout, layout.config):
        raise DamagedError(f"{layout.config}: {why}; {fix_of_frozen(layout, layout.config)}")
    return _parsed(layout, layout.config.read_bytes())


def require_known_format(layout: Layout) -> None:
    """Raise :class:`UserError` for a directory that a newer version wrote, as far as it says so, and for one
    with a pipe or a device in it, whose reader would wait for ever.
    """
    layout.require_plain_files()
    try:
        told = _FORMAT.search(layout.config.read_text(errors="replace"))
    except OSError:
        return  # whoever reads it says what is wrong
    version = int(told[1]) if told else 0
    if version > FORMAT_VERSION:
        damaged = (
            ""
            if not damage_of_frozen(layout, layout.config)
            else (f", or, if no newer version wrote it, mend it with: emsweep repair {layout.root}")
        )
        raise UserError(
            f"directory {str(layout.root)!r}: has format {version}, newer than {FORMAT_VERSION}; "
            f"upgrade emsweep{damaged}"
        )


def _parsed(layout: Layout, text: bytes) -> Mapping[str, Any]:
    try:
        document = load_plain(text)
    except (yaml.YAMLError, ValueError):
        document = None
    if not isinstance(document, dict):
        raise DamagedError(f"{layout.config}: is damaged; {fix_of_frozen(layout, layout.config)}")
    return document
