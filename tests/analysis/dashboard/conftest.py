from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from analysis.dashboard.app import build_app
from analysis.dashboard.snapshot import Store

BASE = "http://127.0.0.1:8050"


def client_of(directory, token=None):
    """A client of the dashboard of a directory, on this machine."""
    return TestClient(build_app(Store(directory), token=token), base_url=BASE, follow_redirects=False)


@pytest.fixture(scope="session")
def client(ragged):
    """A client on 96 runs of which some failed, diverged or have not run."""
    return client_of(ragged)
