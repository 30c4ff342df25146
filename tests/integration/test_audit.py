"""What the audit of dependencies says of a report, and that it never fails for want of an index."""

from __future__ import annotations

import runpy
from pathlib import Path

AUDIT = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "audit.py"))
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1", "3.0"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def verdict(*packages: dict) -> tuple[int, str]:
    return AUDIT["verdict"]({"dependencies": list(packages)})


def test_a_vulnerability_fails_the_audit_and_names_the_version_that_mends_it():
    status, text = verdict(SOUND, BAD, UNKNOWN)
    assert status == 1
    assert text.splitlines() == [
        "audit: 1 of 2 packages have known vulnerabilities; the index does not tell of 1 more",
        "  bad 2.0: CVE-1, mended in 2.1, 3.0",
    ]


def test_without_vulnerabilities_it_passes():
    assert verdict(SOUND) == (0, "audit: 0 of 1 packages have known vulnerabilities")


def test_an_index_that_knows_nothing_is_a_skip_that_is_seen():
    assert verdict(UNKNOWN, UNKNOWN) == (0, "audit: skipped, the index tells of none of 2 packages")
