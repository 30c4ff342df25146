import os

import pytest

import sweeps.manifest.data_files
from sweeps.manifest.data_files import file_digest, local_path, stable_path
from sweeps.spec import SpecError


def test_a_package_path_is_found_without_importing_the_package():
    import subprocess
    import sys

    code = (
        "import sys; from sweeps.manifest.data_files import local_path; "
        "p = local_path('pkg://trainers/tiny/models/tiny-64'); "
        "assert p.is_dir() and 'trainers' not in sys.modules and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert stable_path("pkg://trainers/x") == "pkg://trainers/x"


def test_a_relative_path_is_made_to_mean_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stable_path("a/b") == str(tmp_path / "a" / "b")
    assert local_path("~/x").is_absolute()


def test_a_large_file_is_hashed_again_only_when_size_or_time_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sweeps.manifest.data_files, "CACHE_FROM_BYTES", 4)
    path = tmp_path / "weights"
    path.write_bytes(b"12345678")
    first, stat = file_digest(path), path.stat()
    path.write_bytes(b"abcdefgh")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_digest(path) == first  # same size and time: remembered
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert file_digest(path) != first


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(sweeps.manifest.data_files, "CACHE_FROM_BYTES", 1)
    assert len(file_digest(tmp_path / "../" / tmp_path.name / "file")) == 64
    (tmp_path / "big").write_text("xx")
    assert len(file_digest(tmp_path / "big")) == 64


def test_looking_for_a_package_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SpecError, match="is not installed"):
        local_path("pkg://evil.inner/rows.jsonl")
    assert local_path("pkg://evil/rows.jsonl") == tmp_path / "evil" / "rows.jsonl"
