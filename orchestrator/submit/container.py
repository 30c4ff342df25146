"""``cluster.job.container``: the image that a Slurm job runs in, by Apptainer or by pyxis. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.spec import nearest
from sweeps.spec.errors import UserError

RUNTIMES = ("apptainer", "singularity", "pyxis")
"""What runs images under Slurm; singularity takes the words of apptainer."""

KEYS = ("runtime", "image", "mounts")

IMAGE = re.compile(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*")
"""A file, or a name in a registry as the runtime writes it."""

MOUNT = re.compile(r"/[^\x00-\x20\x7f:,\"'$`\\]*(:/[^\x00-\x20\x7f:,\"'$`\\]*)?(:(ro|rw))?")
"""A folder of the node, optionally its place inside, optionally how."""

OWN_VARIABLES = ("HF_HOME", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED")
"""Variables that the job sets and that an image's own must not replace."""

TERM = {"notice": "TERM"}
"""The signal that tells of the end: Apptainer passes it on; srun would kill the step, and passes on USR1."""

PYXIS_STEP = "srun --overlap --nodes=1 --ntasks=1"
"""A step beside that of Ray."""


def check_container(container: Any) -> None:
    """Find a container to be whole and each of its values to stay in its place.

    Raises:
        UserError: naming the key, the rule and what to write.
    """
    name = "cluster.job.container"
    if container is None:
        return
    if not isinstance(container, Mapping) or (unknown := set(container) - set(KEYS)):
        what = f".{min(unknown)}" if isinstance(container, Mapping) else f"={container!r}"
        raise UserError(f"{name}{what}: a container has {', '.join(KEYS)}")
    runtime, image = container.get("runtime"), container.get("image")
    if runtime is not None and runtime not in RUNTIMES:
        raise UserError(
            f"{name}.runtime={runtime!r}: choose one of {', '.join(RUNTIMES)}"
            f"{nearest(str(runtime), RUNTIMES)}"
        )
    if image is not None and not IMAGE.fullmatch(str(image)):
        raise UserError(f"{name}.image={image!r}: must be one word, such as /shared/emsweep.sif")
    mounts = container.get("mounts") or []
    if isinstance(mounts, str) or not isinstance(mounts, Sequence):
        raise UserError(
            f"{name}.mounts={mounts!r}: must be a list of folders, such as [/data, /home/me:/me:ro]"
        )
    for mount in mounts:
        if not MOUNT.fullmatch(str(mount)):
            raise UserError(
                f"{name}.mounts={mount!r}: must be /folder, /folder:/inside or /folder:/inside:ro"
            )
    if (runtime is None) != (image is None) or (mounts and image is None):
        missing = "runtime" if runtime is None else "image"
        example = "apptainer" if missing == "runtime" else "/shared/emsweep.sif"
        raise UserError(f"{name}.{missing}: is missing; give {name}.{missing}={example}, or none of its keys")


def container_values(
    job: Mapping[str, Any], *, directory: str, variables: Sequence[str]
) -> Mapping[str, str]:
    """What fills in a job of Slurm: the definition of the container, and what goes before its commands.

    Args:
        job: the values of ``cluster.job``, checked.
        directory: of the sweep, which the container must see.
        variables: names of variables that the job is given.
    """
    container = job.get("container") or {}
    runtime = container.get("runtime")
    health = 'ray health-check --address "$address" >/dev/null 2>&1'
    if runtime is None:
        return {
            **dict.fromkeys(("container", "step", "inside", "here", "alone"), ""),
            "is_up": health,
            **TERM,
        }
    for key, folder in (("cluster.job.scratch", job["scratch"]), ("--dir", directory)):
        if re.search("[:,]", folder):
            raise UserError(f"{key}={folder!r}: a folder that a container sees must have no colon or comma")
    folders = [job["scratch"], *([directory] if directory.startswith("/") else [])]
    mounts = [str(mount) for mount in container.get("mounts") or ()]
    image = shlex.quote(str(container["image"]))
    head = (
        "# Every process of the sweep runs in this image and sees the folders that it writes to.\n"
        f"mkdir -p {shlex.quote(directory)}\n"
        f"written=$(realpath {shlex.quote(directory)})\n"
    )
    if runtime == "pyxis":
        pairs = ["$PWD:$PWD", "$written:$written", *(_in_quotes(_pair(text)) for text in (*folders, *mounts))]
        names = ",".join((*OWN_VARIABLES, *variables))
        words = [f"--container-image={image}", f'"--container-mounts={",".join(pairs)}"']
        words += ['--container-workdir="$PWD"', f'"--container-env={names}"']
        return {
            "container": f"{head}container=({' '.join(words)})",
            "step": '"${container[@]}" ',
            "inside": "",
            "here": f'{PYXIS_STEP} --nodelist="$head" "${{container[@]}}" ',
            "alone": f'{PYXIS_STEP} "${{container[@]}}" ',
            # A container only for this question would be made anew each time.
            "notice": "USR1",
            "is_up": '(: <"/dev/tcp/$ip/${address##*:}") 2>/dev/null',
        }
    words = [runtime, "exec", *(["--nv"] if job["gpus_per_node"] else []), '--pwd "$PWD"']
    seen = ['"$PWD"', '"$written"', *(shlex.quote(text) for text in (*folders, *mounts))]
    words += [*(f"--bind {folder}" for folder in seen), image]
    inside = '"${container[@]}" '
    return {
        "container": f"{head}container=({' '.join(words)})",
        "step": "",
        "inside": inside,
        "here": inside,
        "alone": inside,
        **TERM,
        "is_up": inside + health,
    }


def _in_quotes(text: str) -> str:
    """A text as it stands between double quotes of a shell."""
    return re.sub(r'([\\"$`])', r"\\\1", text)


def _pair(mount: str) -> str:
    """A mount as pyxis wants it: always with its place inside."""
    folder, _, rest = mount.partition(":")
    return mount if rest.startswith("/") else f"{folder}:{folder}" + (f":{rest}" if rest else "")
