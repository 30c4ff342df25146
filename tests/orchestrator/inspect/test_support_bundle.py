from __future__ import annotations

import json
import zipfile

import pytest

from orchestrator.inspect.doctor import Check
from orchestrator.inspect.log import records
from orchestrator.inspect.support_bundle import redact, write_bundle
from orchestrator.store.layout import Layout
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE

ENVIRONMENT = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "RAY_AUTH_TOKEN": "a-secret-of-our-own",
    "RAY_AUTH_MODE": "token",
    "NCCL_DEBUG": "WARN",
    "SOMETHING": "else entirely",
}


@pytest.fixture
def directory(tmp_path):
    """A sweep with a failure, whose logs hold secrets."""
    run(tmp_path / "s", noop_manifest(4, target=f"{HERE}.Faulty", every=4))
    log = Layout(tmp_path / "s").worker_logs / "e1-w9.log"
    log.write_text(
        f"key {ENVIRONMENT['WANDB_API_KEY']}\nAuthorization: Bearer abc.def\na-secret-of-our-own\n"
    )
    return tmp_path / "s"


def test_a_bundle_tells_what_happened_and_no_secret(directory, tmp_path):
    checks = [Check(name="network", ok=True, detail="https://me:hunter2@proxy.example answers")]
    names = write_bundle(tmp_path / "b.zip", directory, checks, ENVIRONMENT)
    bundle = zipfile.ZipFile(tmp_path / "b.zip")
    assert names == bundle.namelist()
    texts = {name: bundle.read(name).decode() for name in names}
    assert {"doctor.json", "packages.txt", "environment.json", "sweep.yaml", "log.jsonl"} <= set(names)
    assert any("does not please me" in text for name, text in texts.items() if "attempt_" in name)
    everything = "\n".join(texts.values())
    secrets = [v for k, v in ENVIRONMENT.items() if "KEY" in k or "TOKEN" in k]
    for secret in (*secrets, "hunter2", "abc.def", "else entirely"):
        assert secret not in everything
    shown = json.loads(texts["environment.json"])
    assert shown["NCCL_DEBUG"] == "WARN"
    assert shown["SOMETHING"] == shown["HF_TOKEN"] == "[hidden]"


@pytest.mark.parametrize(
    "text",
    [
        "api_key=abcdef123456",
        '"hf_token": "abcdef123456"',
        "AKIAABCDEFGHIJKLMNOP",
        "ghp_abcdefghijklmnop",
        "postgres://user:password@host/db",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    hidden = redact(text, {})
    assert "[hidden]" in hidden
    assert not any(secret in hidden for secret in ("abcdef123456", "AKIA", "ghp_abc", "password"))


def test_ordinary_text_is_left_alone():
    text = "run 0123456789abcdef0123456789abcdef: 96 tokens, key optim.lr, tokenizer.json, keys and locks"
    assert redact(text, {"RAY_AUTH_MODE": "token"}) == text


def test_the_log_has_run_and_attempt_of_every_result_and_failure(directory):
    found = records(Layout(directory))
    assert (found[0]["event"], found[-1]["event"]) == ("driver", "close")
    results = [r for r in found if r["event"] == "result"]
    failures = [r for r in found if r["event"] == "failure"]
    assert len({r["run_id"] for r in results}) == 3
    assert [r["attempt"] for r in failures] == [0]
    assert "does not please me" in failures[0]["message"]
    assert records(Layout(directory), {failures[0]["run_id"]})[-1]["event"] == "settle"
    times = [r["at"] for r in found if r["at"]]
    assert times == sorted(times)


def test_a_bundle_follows_no_link_out_of_the_sweep(directory, tmp_path):
    (tmp_path / "private.txt").write_text("my diary")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "attempt_0.log").write_text("my diary")
    layout = Layout(directory)
    (layout.worker_logs / "e9-w1.log").symlink_to(tmp_path / "private.txt")
    (layout.root / "logs" / "linked").symlink_to(tmp_path / "private")
    layout.status.unlink()
    layout.status.symlink_to(tmp_path / "private.txt")
    write_bundle(tmp_path / "b.zip", directory, [], {})
    bundle = zipfile.ZipFile(tmp_path / "b.zip")
    assert not any("diary" in bundle.read(name).decode() for name in bundle.namelist())
    assert "sweep.yaml" in bundle.namelist()
