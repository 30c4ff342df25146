"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sweeps.manifest.atomic import is_temporary, replacing, replacing_folder, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from sweeps.manifest.atomic import replacing
with replacing(Path(sys.argv[1]), durable=True) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_else_stays(tmp_path, durable):
    target = tmp_path / "table.parquet"
    target.write_bytes(b"old")
    write_atomically(target, b"new", durable=durable)
    assert (target.read_bytes(), names(tmp_path)) == (b"new", ["table.parquet"])


def test_a_writer_that_raises_leaves_the_old_file_alone(tmp_path):
    target = tmp_path / "f"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(target) as temporary:
        temporary.write_bytes("half")
    assert (target.read_bytes(), names(tmp_path)) == (b"old", ["f"])


def test_a_writer_that_is_killed_leaves_the_old_file_and_a_temporary_one_that_is_known_as_such(tmp_path):
    target = tmp_path / "f"
    target.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    (litter,) = [p for p in tmp_path.iterdir() if p != target]
    assert is_temporary(litter)
    assert not is_temporary(target)


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    target = tmp_path / "weights"
    target.mkdir()
    (target / "stale").touch()
    with replacing_folder(target, durable=True) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "model").write_bytes(b"new")
        assert names(target) == ["stale"]
    assert names(target) == ["inner"]
    assert names(tmp_path) == ["weights"]


def test_a_folder_whose_writer_raises_is_gone(tmp_path):
    with pytest.raises(TypeError), replacing_folder(tmp_path / "weights") as folder:
        (folder / "half").write_bytes("half")
    assert names(tmp_path) == []
