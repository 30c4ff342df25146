"""Looks the pinned packages up among known vulnerabilities: ``python .ci/audit.py``.

Exit 1 when one of them has a vulnerability. Where the package index does not tell, or too late, the audit is
skipped in a line that says so: it must not keep anybody from working without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

LONGEST_S = 90
"""Patience for the whole audit, which takes ten seconds for 180 packages."""

COMMAND = [sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt", "--no-deps"]
COMMAND += ["--disable-pip", "--progress-spinner", "off", "--timeout", "5", "--format", "json"]


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """Exit status and text for a report of pip-audit's."""
    found = report["dependencies"]
    known = [row for row in found if "skip_reason" not in row]
    bad = [row for row in known if row["vulns"]]
    if not known:
        return 0, f"audit: skipped, the index tells of none of {len(found)} packages"
    lines = [f"audit: {len(bad)} of {len(known)} packages have known vulnerabilities"]
    if len(known) < len(found):
        lines[0] += f"; the index does not tell of {len(found) - len(known)} more"
    for row in bad:
        for one in row["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            lines.append(f"  {row['name']} {row['version']}: {one['id']}, mended in {fixed}")
    return int(bool(bad)), "\n".join(lines)


def main() -> int:
    """Audit and print."""
    try:
        done = subprocess.run(
            COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"audit: skipped, the index has not answered for {LONGEST_S} s")
        return 0
    except ValueError:  # pip-audit prints no report when it cannot reach the index
        reason = done.stderr.strip().splitlines()
        print(f"audit: skipped, {reason[-1][:200] if reason else 'no report'}")
        return 0
    status, text = verdict(report)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
