"""The commit that a hub model's revision stood for when its sweep was first launched, frozen from then on.

A branch such as ``main`` moves. Its name is part of a run's identity, the commit behind it is not, so a sweep
writes the commit into its manifest and trainers load that one. Launching again where the branch has moved is
refused: half of the runs would start from other weights under the same name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from sweeps.manifest.hf_cache import resolve_commit
from sweeps.manifest.manifest import Manifest
from sweeps.spec import ModelSpec, SpecError, canonical_json, group_from_dict, group_to_dict


def pin_commits(
    manifest: Manifest,
    earlier: Manifest | None,
    resolve: Callable[[str, str], str | None] = resolve_commit,
) -> Manifest:
    """Return ``manifest`` with the commit of each hub model: the frozen one, else the present one.

    Args:
        earlier: the manifest on disk, ``None`` at the first launch.
        resolve: hub id and revision to the present commit, or ``None`` where nobody can tell.

    Raises:
        SpecError: if a revision stands for another commit than at the first launch, or for none at all.
    """
    models = [_model(text) for text in manifest.groups["model"]]
    if not any(m.hub_id for m in models):
        return manifest
    frozen = _commits(earlier) if earlier else {}
    texts = []
    for model in models:
        if model.hub_id:
            revision = model.revision or "main"
            now, then = resolve(model.hub_id, revision), frozen.get((model.hub_id, revision))
            _refuse_drift(model.hub_id, revision, then, now)
            model = dataclasses.replace(model, commit=then or now)
        texts.append(canonical_json(group_to_dict(model), "model"))
    return dataclasses.replace(manifest, groups={**manifest.groups, "model": tuple(texts)})


def _commits(manifest: Manifest) -> dict[tuple[str, str], str]:
    """Hub id and revision to the commit that is frozen in a manifest."""
    models = (_model(text) for text in manifest.groups["model"])
    return {(m.hub_id, m.revision or "main"): m.commit for m in models if m.hub_id and m.commit}


def _model(text: str) -> ModelSpec:
    model: ModelSpec = group_from_dict("model", json.loads(text))
    return model


def _refuse_drift(hub_id: str, revision: str, then: str | None, now: str | None) -> None:
    if then and now and then != now:
        raise SpecError(
            f"hub model {hub_id} at {revision}: is commit {now[:12]} now, but the sweep was launched with "
            f"{then[:12]}; finish it as it is with resume, or launch into a new directory"
        )
