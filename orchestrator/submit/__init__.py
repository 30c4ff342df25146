"""Hand a sweep to a queue: Slurm's, that of Kubernetes with the KubeRay operator, or clouds through SkyPilot.

What is submitted is one text, rendered from a template of this package and printed by ``launch --dry-run``.
The job it describes brings Ray up on what it is given and calls ``emsweep launch`` there with the same words;
as a launch runs only what is missing, the same job again goes on where it stopped.
"""

from orchestrator.submit.request import Request, request_of
from orchestrator.submit.submitting import render, render_nodes, submit
from orchestrator.submit.warnings import warnings_of

__all__ = ["Request", "render", "render_nodes", "request_of", "submit", "warnings_of"]
