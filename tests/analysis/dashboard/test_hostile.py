"""A crafted table is shown as it is: no query writes or reads a file that is not the sweep's."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.dashboard import slow_clients
from analysis.dashboard.server import Server
from tests.analysis.dashboard.conftest import client_of

PAGES = (
    "/",
    "/runs",
    "/runs.csv",
    "/runs?group=model",
    "/cells",
    "/compare",
    "/panel/coverage",
    "/panel/failures",
)


def crafted(source, folder, column, value):
    """A copy of a sweep whose table of runs has ``value`` in every row of a column."""
    directory = shutil.copytree(source, folder / "crafted")
    table = pq.read_table(directory / "runs.parquet")
    position = table.column_names.index(column)
    filled = pa.array([value] * table.num_rows, pa.string())
    pq.write_table(table.set_column(position, column, filled), directory / "runs.parquet")
    return directory


@pytest.mark.parametrize("column", ["index", "run_id", "name", "outcome", "cell"])
def test_a_value_that_is_sql_writes_no_file(ragged, tmp_path, column):
    target = tmp_path / "written"
    value = f"0; COPY (SELECT 1) TO '{target}'; SELECT 0 AS index"
    directory = crafted(ragged, tmp_path, column, value)
    client = client_of(directory)
    run_id = pq.read_table(ragged / "runs.parquet")["run_id"][0].as_py()
    for page in (*PAGES, f"/run/{run_id}", f"/run/{run_id}/steps.csv", f"/run/{run_id}/curves"):
        assert client.get(page).status_code < 600
    assert not target.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{0}/written'",
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH '{0}/written'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET GLOBAL allowed_paths = ['/etc/passwd']",
    ],
)
def test_the_database_of_an_open_sweep_touches_no_other_file(ragged, tmp_path, sql):
    sweep = open_sweep(ragged)
    with pytest.raises(duckdb.Error):
        sweep.arrow(sql.format(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert sweep.arrow("SELECT count(*) AS n FROM runs")["n"][0].as_py() > 0


def test_an_axis_named_twice_is_one(client):
    twice, once = (client.get(f"/runs?group={words}") for words in ("model,model", "model"))
    assert twice.status_code == once.status_code == 200
    assert client.get("/runs.csv?group=model,model").text == client.get("/runs.csv?group=model").text


def cut_off_after_s(port):
    """Time until a client that sends a byte now and then is refused."""
    started_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as trickling, contextlib.suppress(OSError):
        while time.monotonic() - started_s < 20:
            trickling.sendall(b"G")
            time.sleep(0.2)
    return time.monotonic() - started_s


def test_a_client_that_says_nothing_or_trickles_is_cut_off_and_others_are_served(ragged, monkeypatch):
    monkeypatch.setattr(slow_clients, "REQUEST_S", 1.0)
    server = Server(ragged, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        assert cut_off_after_s(server.port) < 20
        silent.settimeout(20)
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.port)) as polite:
        polite.sendall(b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert polite.recv(64).startswith(b"HTTP/1.1 200")
