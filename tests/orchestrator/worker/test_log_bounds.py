from __future__ import annotations

import subprocess
import sys

from orchestrator.store.layout import Layout
from orchestrator.worker.log_bounds import bounded, keep_bounded
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


def test_a_log_keeps_its_two_ends_and_is_written_on(tmp_path):
    log = tmp_path / "w.log"
    log.write_bytes(b"first\n" + b"x" * 60 + b"\n" + b"y" * 5_000 + b"last\n")
    with log.open("ab", buffering=0) as writer:
        assert keep_bounded(log, most=1_000, kept=100)
        writer.write(b"after\n")
    text = log.read_text()
    assert text.startswith("first\n")
    assert text.endswith("last\nafter\n")
    assert "bytes left out here" in text
    assert len(text) < 400
    assert not keep_bounded(log, most=1_000, kept=100)


def test_a_process_that_prints_without_end_leaves_a_small_log(tmp_path):
    log = tmp_path / "w.log"
    with log.open("ab") as out:
        writer = subprocess.Popen([sys.executable, "-c", "while True: print('z' * 1000)"], stdout=out)
    try:
        cuts = 0
        while cuts < 20:
            cuts += keep_bounded(log, most=10**6, kept=10**5)
    finally:
        writer.kill()
        writer.wait()
    keep_bounded(log, most=10**6, kept=10**5)
    assert log.stat().st_size <= 10**6


def test_a_link_in_a_logs_place_is_not_cut(tmp_path):
    (tmp_path / "mine").write_bytes(b"m" * 5_000)
    (tmp_path / "w.log").symlink_to(tmp_path / "mine")
    assert not keep_bounded(tmp_path / "w.log", most=1_000, kept=100)
    assert (tmp_path / "mine").stat().st_size == 5_000


def test_a_text_within_bounds_is_as_it_was():
    assert bounded("short") == "short"
    assert len(bounded("a" * 10**6 + "end", most=1_000)) < 1_200


def test_secrets_and_endless_messages_of_exceptions_reach_neither_journal_nor_log(tmp_path, capsys):
    run(tmp_path, noop_manifest(1, target=f"{HERE}.Telling"))
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in stored
    assert b"[hidden]" in stored
    [log] = Layout(tmp_path).root.glob("logs/*/attempt_0.log")
    assert log.stat().st_size < 300_000
