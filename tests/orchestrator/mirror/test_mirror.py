from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from orchestrator.mirror import mirror_sweep, reading, to_wandb
from orchestrator.mirror.reading import finished, read_runs
from orchestrator.mirror.target import Destination
from orchestrator.store.digest_writer import Replacement
from orchestrator.store.layout import Layout
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep
from tests.benchmarks.wandb_file import read_wandb_file

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def without_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def directory(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 1e-3), "seed": (0, 1, 2)}
    return write_sweep(tmp_path / "small", quickstart_world(axes=axes, num_items=8, failed=0.2, rng_seed=3))


def _offline(directory):
    return sorted((directory / "wandb").glob("offline-run-*/*.wandb"))


def test_every_finished_run_is_copied_exactly_once(directory):
    first = mirror_sweep(directory, project="p")
    finished = first.new
    assert 0 < finished < 6  # one failed: only results are mirrored
    assert first.already == 0
    assert len(_offline(directory)) == finished
    second = mirror_sweep(directory, project="p")
    assert (second.new, second.already) == (0, finished)
    assert len(_offline(directory)) == finished


def test_a_call_that_died_is_resumed_without_doubling(directory):
    total = mirror_sweep(directory, project="p").new
    ledger = directory / "wandb" / "mirrored.txt"
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join(lines[:2]) + "\n")  # as if killed while the third was open
    again = mirror_sweep(directory, project="p")
    assert (again.new, again.already) == (total - 2, 2)
    assert len(_offline(directory)) == total


def test_two_calls_at_once_make_no_double(directory):
    within = []

    def second_call(done, total):
        with pytest.raises(UserError, match="another call is copying"):
            mirror_sweep(directory, to="tensorboard", project="p")
        within.append(done)

    total = mirror_sweep(directory, to="tensorboard", project="p", progress=second_call).new
    assert within == list(range(1, total + 1))
    assert len(list((directory / "tensorboard").glob("cell-*/*"))) == total


def test_a_sweep_that_merges_its_tables_under_a_mirror_loses_nothing(directory, monkeypatch):
    expected = [row["run_id"] for row in finished(Layout(directory))]
    parts = {name: directory / "parts" / f"{name}-00000.parquet" for name in ("runs", "steps")}
    for name, part in parts.items():
        part.parent.mkdir(exist_ok=True)
        (directory / f"{name}.parquet").rename(part)
    read_table = reading.pq.read_table

    def merged_before(path, **options):
        for name, part in parts.items():
            if part.exists():  # the first read comes after looking
                part.rename(directory / f"{name}.parquet")
        return read_table(path, **options)

    monkeypatch.setattr(reading.pq, "read_table", merged_before)
    rows = finished(Layout(directory))
    assert [row["run_id"] for row in rows] == expected
    assert all(len(run.steps) == 11 for run in read_runs(Layout(directory), rows))


def test_a_table_that_has_not_taken_its_name_yet_is_not_missed(tmp_path):
    layout = Layout(tmp_path)
    table = layout.table("runs")
    table.mkdir()  # so that its digest is written and the file cannot take its name
    with pytest.raises(IsADirectoryError), Replacement(layout) as replacement:
        replacement.writing(table).write_bytes(b"")
    table.rmdir()
    assert finished(layout) == []


def test_a_copy_holds_group_tags_configuration_history_and_summary(directory):
    mirror_sweep(directory, project="p")
    records = list(read_wandb_file(_offline(directory)[0]))
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.run_group.startswith("cell ")
    assert any(tag.startswith("optim.lr=") for tag in run.tags)
    config = {c.key: json.loads(c.value_json) for c in run.config.update}
    assert config["axes"]["model"] == "tiny-64"
    assert config["optim"]["lr"] == config["axes"]["optim.lr"]
    history = [r.history for r in records if r.WhichOneof("record_type") == "history"]
    assert len(history) == 11


def test_progress_is_reported_run_by_run(directory):
    seen = []
    total = mirror_sweep(directory, project="p", progress=lambda done, of: seen.append((done, of))).new
    assert seen == [(k, total) for k in range(1, total + 1)]


def test_tensorboard_reads_back_what_was_copied(directory):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = mirror_sweep(directory, to="tensorboard", project="p")
    assert mirror_sweep(directory, to="tensorboard", project="p").already == first.new > 0
    folders = sorted((directory / "tensorboard").glob("cell-*/*"))
    assert len(folders) == first.new
    run = next(r for r in read_runs(Layout(directory), finished(Layout(directory))) if r.cell == 0)
    events = accumulator.EventAccumulator(str(directory / "tensorboard" / "cell-0" / run.run_id))
    events.Reload()
    losses = [(e.step, e.value) for e in events.Scalars("loss")]
    expected = [(row["step"], row["loss"]) for row in run.steps if "loss" in row]
    assert losses == [(step, pytest.approx(loss)) for step, loss in expected]
    assert events.Scalars("run/accuracy_sampled")[0].value == pytest.approx(run.summary["accuracy_sampled"])


def test_mlflow_reads_back_what_was_copied_and_nothing_of_a_call_that_died(directory, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow's client is not installed")
    from orchestrator.mirror import to_mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(to_mlflow, "PAGE", 2)  # fewer than there are open copies
    died = to_mlflow.open_target(Destination(folder=directory / "mlflow", project="p"))
    for row in finished(Layout(directory)):
        died._client.create_run(died._experiment, tags={to_mlflow.TAG: row["run_id"]})
    first = mirror_sweep(directory, to="mlflow", project="p")
    assert mirror_sweep(directory, to="mlflow", project="p").already == first.new > 0
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("p").experiment_id
    copies = {c.data.tags["emsweep.run_id"]: c for c in client.search_runs([experiment])}
    assert len(copies) == first.new
    for run in read_runs(Layout(directory), finished(Layout(directory))):
        copy = copies[run.run_id]
        assert copy.data.params["optim.lr"] == str(run.axes["optim.lr"])
        assert copy.data.metrics["run.accuracy_sampled"] == run.summary["accuracy_sampled"]
        history = client.get_metric_history(copy.info.run_id, "loss")
        losses = {row["step"]: row["loss"] for row in run.steps if "loss" in row}
        assert {m.step: m.value for m in history} == losses


def test_a_server_of_mlflow_that_is_not_there_is_one_line(directory, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow's client is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"does not take runs \(.*\); 0 were copied") as refused:
        mirror_sweep(directory, to="mlflow", project="p", url="http://127.0.0.1:9")
    assert "\n" not in str(refused.value)


def test_without_its_client_mlflow_is_refused_with_what_to_install(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="mlflow-skinny sqlalchemy alembic"):
        mirror_sweep(directory, to="mlflow", project="p")


def test_an_unknown_target_is_refused(directory):
    with pytest.raises(UserError, match='did you mean "tensorboard"'):
        mirror_sweep(directory, to="tensorbord", project="p")


def test_a_directory_that_is_no_sweep_is_refused(tmp_path):
    shutil.rmtree(tmp_path / "absent", ignore_errors=True)
    with pytest.raises(UserError, match="does not exist"):
        mirror_sweep(tmp_path / "absent", project="p")


def test_the_client_of_wandb_still_has_what_it_does_not_promise(directory):
    installed = wandb.__version__
    assert installed == to_wandb.CHECKED_VERSION, (
        f"look at orchestrator/mirror/to_wandb.py with wandb {installed}, then name it there"
    )
    settings = wandb.Settings(**to_wandb.UNPROMISED)
    assert {key: getattr(settings, key) for key in to_wandb.UNPROMISED} == to_wandb.UNPROMISED
    mirror_sweep(directory, project="p")
    mirrored = set((directory / "wandb" / "mirrored.txt").read_text().split())
    assert {path.parent.name.rsplit("-", 1)[-1] for path in _offline(directory)} == mirrored


@pytest.mark.parametrize("link", ["wandb", "wandb/mirrored.txt"])
def test_a_link_out_of_a_strangers_directory_is_refused_and_nothing_is_written_there(
    directory, tmp_path, link
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / link).parent.mkdir(exist_ok=True)
    (directory / link).symlink_to(outside if link == "wandb" else outside / "file")
    with pytest.raises(UserError, match="is a link out of the directory"):
        mirror_sweep(directory, project="p")
    assert not list(outside.iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
@pytest.mark.parametrize(
    ("verb", "fix"), [(("mirror", "--to", "tensorboard"), "mirror a copy"), (("report",), "--output")]
)
def test_in_another_users_directory_one_line_says_what_to_do(directory, verb, fix):
    """Another user who may read everything and write nothing."""
    rights = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    for folder in (directory, *directory.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)  # pytest's own are closed to others
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *rights]
    command = [*nobody, sys.executable, "-m", "orchestrator.cli", verb[0], directory, *verb[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "cannot be written" in line
    assert fix in line
    assert "Traceback" not in done.stderr
