"""What KubeRay's operator takes: the fields of its resources that our manifests use, and its own rules.

The operator's resource definitions are in no package registry. These are written from version 1.5.1, the
first that gives pods a token; 1.6.2 and 1.7.0 have the same fields. Pods are Kubernetes' own and checked so.
"""

from __future__ import annotations

import re
from typing import Any

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""A DNS label that starts with a letter, as services are named."""

LONGEST_NAME = {"RayCluster": 53, "RayJob": 47}
"""What leaves room for the names that the operator makes of it."""

QUEUE = "kueue.x-k8s.io/queue-name"
"""Label of a job that Kueue admits. Its webhook wants the cluster shut down at the end and of a fixed size;
``suspend`` it sets itself.
"""

TOKEN_SINCE = (2, 52)
"""Ray's first version with tokens."""


def _object(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {
            name: {"type": kind} if isinstance(kind, str) else kind for name, kind in fields.items()
        },
    }


_COUNT = {"type": "integer", "minimum": 0}
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}

_CLUSTER = _object(
    ("headGroupSpec",),
    rayVersion="string",
    enableInTreeAutoscaling="boolean",
    authOptions=_object(mode={"enum": ["disabled", "token"]}),
    autoscalerOptions=_object(
        idleTimeoutSeconds=_COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources="object",
    ),
    headGroupSpec=_object(
        ("template",),
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        rayStartParams=_WORDS,
        template="object",
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            ("groupName", "minReplicas", "maxReplicas", "template"),
            groupName="string",
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            rayStartParams=_WORDS,
            template="object",
        ),
    },
)

_JOB = _object(
    ("entrypoint", "rayClusterSpec"),
    entrypoint="string",
    backoffLimit=_COUNT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes="boolean",
    ttlSecondsAfterFinished=_COUNT,
    rayClusterSpec=_CLUSTER,
)


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a ``RayCluster`` or a ``RayJob``."""
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_object(("name",), name="string", namespace="string", labels=_WORDS),
        spec=_JOB if kind == "RayJob" else _CLUSTER,
    )


def broken_rules(document: dict[str, Any]) -> list[str]:
    """What the operator refuses although the schema allows it."""
    spec, name = document["spec"], document["metadata"]["name"]
    cluster = spec.get("rayClusterSpec", spec)
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]
    rules = {
        "the name is no label": not NAME.fullmatch(name),
        "the name is too long": len(name) > LONGEST_NAME[document["kind"]],
        "a time to live needs a cluster that is shut down": spec.get("ttlSecondsAfterFinished", 0) > 0
        and not spec.get("shutdownAfterJobFinishes"),
        "this version of Ray knows no token": cluster.get("authOptions", {}).get("mode") == "token"
        and tuple(map(int, cluster["rayVersion"].split(".")[:2])) < TOKEN_SINCE,
        "a group has no container": any(not g["template"]["spec"]["containers"] for g in groups),
        "a group has more replicas at least than at most": any(
            g.get("minReplicas", 0) > g.get("maxReplicas", 0) for g in groups[1:]
        ),
        "a job beside the head needs a head that is never restarted": spec.get("submissionMode")
        == "SidecarMode"
        and groups[0]["template"]["spec"].get("restartPolicy", "Never") != "Never",
        "a job in a queue of Kueue has a fixed number of nodes": QUEUE
        in document["metadata"].get("labels", ())
        and (cluster.get("enableInTreeAutoscaling") or not spec.get("shutdownAfterJobFinishes")),
        "labels belong into the group": any("labels" in g.get("rayStartParams", ()) for g in groups),
    }
    return [rule for rule, broken in rules.items() if broken]
