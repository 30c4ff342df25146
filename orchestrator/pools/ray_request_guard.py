"""Takes back what a driver asked a cluster's autoscaler for, once the driver has ended without doing so.

Run as a module with the head's address and the driver's pid; holds nothing of Ray while it waits.
"""

from __future__ import annotations

import sys

from orchestrator.pools.marked import wait_for_end


def main() -> None:
    """Wait for the driver to end without having ended this process."""
    address, pid = sys.argv[1:]
    wait_for_end(int(pid))
    import ray
    from ray.autoscaler.sdk import request_resources

    ray.init(address=address, log_to_driver=False)
    request_resources(bundles=[])


if __name__ == "__main__":
    main()
