"""References to the environment are stored as written."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.cli import main
from orchestrator.planning.cluster import cluster_of
from sweeps.compose import compose_sweep
from sweeps.spec import SpecError

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Writes a sweep file with more lines, and returns its word."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("SITE_POOL", "inline")
    monkeypatch.chdir(tmp_path)

    def write(more: str, about: str = "x") -> str:
        text = f"# @package _global_\n{more}\nsweep: {{about: '{about}', axes: {{seed: range(1)}}}}\n"
        (tmp_path / "s.yaml").write_text(text)
        return "sweep=s.yaml"

    return write


def test_a_key_in_the_question_is_not_stored(sweep, tmp_path):
    word = sweep("cluster: {pool: '${oc.env:SITE_POOL}'}", "why ${oc.env:WANDB_API_KEY}")
    assert main(["launch", word, "trainer=noop", "--dir", "d", "--json"]) == 0
    document = yaml.safe_load((tmp_path / "d" / "sweep.yaml").read_text())
    assert document["about"] == "why ${oc.env:WANDB_API_KEY}"
    assert document["options"]["cluster"]["pool"] == "${oc.env:SITE_POOL}"
    assert not any(SECRET.encode() in p.read_bytes() for p in (tmp_path / "d").rglob("*") if p.is_file())


def test_what_the_cluster_refers_to_is_looked_up_when_it_is_used(sweep, monkeypatch):
    options = compose_sweep(
        [sweep("cluster: {pool: '${oc.env:SITE_POOL}', address: '${oc.env:NONE,auto}'}")]
    ).options
    assert (cluster_of(options).pool, cluster_of(options).address) == ("inline", "auto")
    monkeypatch.setenv("SITE_POOL", "local")
    assert cluster_of(options).pool == "local"
    monkeypatch.delenv("SITE_POOL")
    with pytest.raises(SpecError, match="the variable is not set"):
        cluster_of(options)


@pytest.mark.parametrize(
    ("more", "about"),
    [
        ("trainer: {params: {key: '${oc.env:WANDB_API_KEY}'}}", "x"),
        ("model: {name: '${oc.env:WANDB_API_KEY}'}", "x"),
    ],
)
def test_a_secret_in_a_runs_configuration_is_refused(sweep, more, about):
    with pytest.raises(SpecError, match="would write a secret into the sweep directory"):
        compose_sweep([sweep(more, about)])


def test_other_variables_of_a_run_are_looked_up_at_once(sweep):
    composed = compose_sweep([sweep("model: {name: '${oc.env:SITE_POOL}'}")])
    assert composed.base["model"]["name"] == "inline"
