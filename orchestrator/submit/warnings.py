"""What is likely to go wrong with a job though its queue will take it. Pure but for the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.submit.options import QueueOptions, checked_options


def warnings_of(cluster: Mapping[str, Any]) -> list[str]:
    """Warnings about the job of a queue; none where a launch has no queue.

    Args:
        cluster: the ``cluster`` options.

    Raises:
        UserError: for a value that would not stay within its line of the job.
    """
    if not cluster.get("submit"):
        return []
    options = checked_options(cluster, os.environ)
    if options.system == "kuberay":
        return _about_image(options.job["image"])
    return _about_bucket(options.job["bucket"]) if options.system == "skypilot" else _about_notice(options)


def _about_notice(options: QueueOptions) -> list[str]:
    grace_s = options.grace_s or 0
    if options.notice_s > grace_s:
        return []
    return [
        f"cluster.notice_s={options.notice_s}: is not longer than cluster.grace_s={grace_s:g}, so that runs "
        "in progress are cut off when the machines are taken away; raise it, or lower cluster.grace_s"
    ]


def _about_image(image: str) -> list[str]:
    if names_registry(image):
        return []
    return [
        f"cluster.job.image={image!r}: names no registry, and nodes would look for it on Docker Hub; push "
        "the image to a registry that the cluster pulls from and give "
        f"cluster.job.image=registry.example/{image}"
    ]


def _about_bucket(bucket: str) -> list[str]:
    if bucket:
        return []
    return [
        "cluster.job.bucket=null: the sweep directory stays on its node's disk and goes with it, at a "
        "preemption and at the end; give a bucket for its copy, such as cluster.job.bucket=s3://lab-sweeps"
    ]


def names_registry(image: str) -> bool:
    """Whether an image's name begins with a host, by Docker's rule: one with a dot, a port, or localhost."""
    host, slash, _ = image.partition("/")
    return bool(slash) and (host == "localhost" or "." in host or ":" in host)
