import json
import re
import shutil

import pytest

from analysis.data.sweep import SweepData
from orchestrator.cli import main
from orchestrator.driver.session import Session
from orchestrator.planning.estimates import num_items, observations, parameters_of
from orchestrator.planning.make_plan import make_plan, require_budget
from orchestrator.planning.plan_text import axes_tree
from orchestrator.scheduling.cluster_model import parse_cluster
from orchestrator.store.layout import Layout
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import EvalSpec, ModelSpec, SpecError
from tests.orchestrator.sweeping import run
from tests.trainers.made_models import save_as_mistral, save_random_model
from trainers.tiny import MODELS_DIR

SMALL = ["sweep=quickstart", "model=tiny-64", "example=carry-1", "optim.lr=1e-4,2e-4", "steps=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory in which a small real sweep has run."""
    folder = tmp_path_factory.mktemp("plans") / "small"
    words = [*SMALL, "seed=0,1", "eval.limit=20"]
    assert main(["launch", *words, "--pool", "inline", "--dir", str(folder), "--json"]) == 0
    return folder


def test_a_fresh_directory_has_everything_to_do(tmp_path):
    plan = make_plan(["sweep=quickstart"], tmp_path / "x").to_json()
    assert (plan["runs"], plan["cells"], plan["new"], plan["done"], plan["duplicates"]) == (96, 24, 96, 0, 0)
    assert plan["steps_naive"] == plan["steps_shared"] == 960
    assert plan["rollout_batches_shared"] < plan["rollout_batches_naive"]
    assert plan["eta_low_s"] < plan["eta_s"] < plan["eta_high_s"]
    assert plan["disk_bytes"] > 0
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_this_machine_can_never_run_has_no_time_here_but_on_as_many_gpus_as_said(
    tmp_path,
):
    words = ["sweep=paper", "model=qwen2.5-math-1.5b", "seed=0"]
    plan = make_plan(words, tmp_path / "x")
    assert re.search(
        r"time      cannot run here: .*a run takes 1 x 1 GPUs.* cluster=slurm .*GPU-hours", plan.to_text()
    )
    told = plan.to_json()
    assert (told["eta_s"], told["eta_low_s"], told["eta_high_s"]) == (None,) * 3
    assert "a run takes 1 x 1 GPUs" in told["cannot_run"]
    assert told["gpu_hours"] > 0
    there = make_plan([*words, "cluster.max_gpus=16"], tmp_path / "x").to_json()
    assert there["cannot_run"] is None
    assert there["eta_s"] > 0


def test_the_machines_are_those_of_the_job_that_a_launch_would_submit(tmp_path):
    words = ["sweep=paper", "model=qwen2.5-math-1.5b", "seed=0"]
    small, large = (
        make_plan([*words, "cluster=slurm", f"cluster.job.nodes={nodes}"], tmp_path / "x") for nodes in (2, 8)
    )
    assert (small.num_gpus, large.num_gpus) == (16, 64)
    assert small.price.gpu_hours == large.price.gpu_hours
    assert small.price.eta_s == pytest.approx(4 * large.price.eta_s, rel=0.05)
    assert "on 64 GPUs" in large.to_text()
    capped = make_plan([*words, "cluster=slurm", "cluster.max_gpus=16"], tmp_path / "x")
    assert capped.price.eta_s == small.price.eta_s


def test_what_is_done_is_not_planned_again(finished):
    again = make_plan([*SMALL, "seed=0,1", "eval.limit=20"], finished)
    assert (again.new, again.done, again.left, list(again.drift)) == (0, 4, 0, [])
    assert again.to_json()["eta_s"] == 0
    more = make_plan([*SMALL, "seed=range(4)", "eval.limit=20"], finished)
    assert (more.new, more.done) == (4, 4)
    assert [str(d) for d in more.drift] == ["seed: 2, 3 added"]


def test_drift_names_the_key_that_makes_runs_on_disk_useless(finished):
    plan = make_plan([*SMALL, "seed=0,1", "eval.limit=20", "optim.weight_decay=0.5"], finished)
    assert (plan.new, plan.done, plan.left) == (4, 0, 4)
    assert [str(d) for d in plan.drift] == ["optim.weight_decay: 0.01 on disk, 0.5 asked for"]
    assert "optim.weight_decay: 0.01 on disk" in plan.to_text()


def test_measured_seconds_come_from_the_directory_itself_a_neighbour_or_where_one_says(finished, tmp_path):
    [(_, observed)] = observations(finished).items()
    assert len(observed) == 4
    assert all(o.wall_s > 0 and o.steps == 2 for o in observed)
    for directory, like in ((finished, None), (finished.parent / "new", None), (tmp_path / "new", finished)):
        assert make_plan(SMALL, directory, like).price.measured == {"tiny-64": 4}
    assert make_plan(SMALL, tmp_path / "new").price.measured == {"tiny-64": 0}
    assert make_plan([*SMALL, "eval.limit=500"], finished).price.measured == {"tiny-64": 4}
    for word in ("eval.max_new_tokens=3072", "sampling.num_rollouts=32", "engine.zero_stage=1"):
        other = make_plan([*SMALL, word], finished.parent / "new")
        assert other.price.measured == {"tiny-64": 0}
        assert "guessed from its size: tiny-64 (no run measured with" in other.to_text()
    with pytest.raises(SpecError, match="holds no finished run"):
        make_plan(SMALL, tmp_path / "new", tmp_path)


def test_a_launch_over_budget_is_refused_and_nothing_is_written(tmp_path, capsys):
    target = tmp_path / "x"
    words = [*SMALL, "budget.disk_gib=1e-9", "--dir", str(target)]
    assert main(["launch", *words]) == 2
    assert "budget.disk_gib=1e-09" in capsys.readouterr().err
    assert not target.exists()
    assert "budget.disk_gib" in make_plan([*SMALL, "budget.disk_gib=1e-9"], target).over_budget
    require_budget(build_manifest(compose_sweep([*SMALL, "budget.disk_gib=1"])), target)


def test_the_command_prints_text_or_one_json_object(tmp_path, capsys):
    assert main(["plan", *SMALL, "--dir", str(tmp_path / "x")]) == 0
    text = capsys.readouterr().out
    assert "8 runs in 2 cells" in text
    assert "├─ model" in text
    assert main(["plan", *SMALL, "--dir", str(tmp_path / "x"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 8


@pytest.mark.parametrize("word", ["optim.lrr=1", "model=tiny-65", "optim.lr=0", "sweep=nothing", "optim.lr="])
def test_bad_input_is_one_line_and_status_two(word, capsys):
    words = [word] if word.startswith("sweep=") else ["sweep=quickstart", word]
    assert main(["plan", *words]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message


def test_models_on_the_hub_are_planned_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("EMSWEEP_DATA", str(tmp_path))
    plan = make_plan(["sweep=paper"], tmp_path / "x").to_json()
    assert (plan["runs"], plan["duplicates"]) == (13_440, 0)
    assert plan["gpu_hours"] > 0
    assert len(plan["needs"]) == 5


def test_the_large_grid_has_13440_runs_and_horizons_share_most_of_their_steps(tmp_path):
    grid = make_plan(["sweep=grid13440"], tmp_path / "x").to_json()
    assert (grid["runs"], grid["duplicates"], grid["cells"]) == (13_440, 0, 840)
    horizons = make_plan(["sweep=horizons"], tmp_path / "x").to_json()
    assert horizons["steps_naive"] / horizons["steps_shared"] >= 4.8


def test_the_tree_shows_every_axis_and_cuts_long_ones():
    lines = axes_tree(build_manifest(compose_sweep(["sweep=noop", "sweep.n=100", "steps=1,2"])))
    assert [line.split() for line in lines] == [
        ["├─", "seed", "100", "0", "1", "2", "…", "99"],
        ["└─", "steps", "2", "1", "2"],
    ]


def test_sizes_are_read_from_headers_or_names(tmp_path):
    tiny = ModelSpec(path="pkg://trainers/tiny/models/tiny-64", digest="x")
    assert 50_000 < parameters_of(tiny) < 200_000
    assert parameters_of(ModelSpec(path="a/b-1.5B", hub_id="a/b-1.5B", revision="main")) == 1_500_000_000
    assert parameters_of(ModelSpec(path="a/b", hub_id="a/b", revision="main")) is None
    items = "pkg://trainers/tiny/data/addition_eval.jsonl"
    assert num_items(EvalSpec(path=items)) == 500
    assert num_items(EvalSpec(path=items, limit=7)) == 7
    assert num_items(EvalSpec()) == 0


def test_a_damaged_neighbour_is_no_obstacle(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "broken")
    (tmp_path / "broken" / "runs.parquet").write_text("oops")
    assert make_plan(SMALL, tmp_path / "new").price.measured == {"tiny-64": 0}


def test_a_launch_that_needs_the_hub_without_a_network_says_what_is_missing(tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    words = [*SMALL, "model=qwen2.5-math-1.5b", "--dir", str(tmp_path / "x")]
    assert main(["launch", *words]) == 2
    message = capsys.readouterr().err
    assert "hub model Qwen/Qwen2.5-Math-1.5B at main: no network" in message
    assert "missing config.json, tokenizer.json, model.safetensors" in message
    assert "model=hf model.path=FOLDER" in message
    assert not (tmp_path / "x").exists()


def test_an_imaginary_cluster_runs_the_plan_with_the_real_scheduler(tmp_path):
    words = ["sweep=paper", "seed=0,1"]
    few = make_plan(words, tmp_path / "none", imagined=parse_cluster("gpus=64"))
    many = make_plan(words, tmp_path / "none", imagined=parse_cluster("gpus=512"))
    assert few.simulated is not None
    assert many.simulated is not None
    assert few.simulated.runs == many.simulated.runs == len(few.manifest)
    assert many.simulated.makespan_s < few.simulated.makespan_s
    assert few.simulated.makespan_s >= few.simulated.lower_bound_s
    answer = few.to_json()
    assert answer["eta_s"] == pytest.approx(few.simulated.makespan_s)
    assert answer["eta_low_s"] < answer["eta_s"] < answer["eta_high_s"]
    assert "lower bound" in few.to_text()


def test_toy_settings_of_another_model_are_named_by_plan_launch_and_every_table(tmp_path, capsys):
    model = tmp_path / "own-model"
    shutil.copytree(MODELS_DIR / "tiny-32", model)
    told = json.loads((model / "tokenizer_config.json").read_text())
    del told["auto_map"]
    (model / "tokenizer_config.json").write_text(json.dumps(told))
    words = ["sweep=quickstart", "model=hf", f"model.path={model}", "example=carry-1", "optim.lr=1e-4"]
    words += ["seed=0", "steps=1", "eval.limit=4", "--dir", str(tmp_path / "own")]
    plan = make_plan(words[:-2], tmp_path / "own")
    named = (
        "sampling.max_new_tokens=16 for own-model: a rollout is cut off after 16 tokens; give sampling=paper"
    )
    assert f"settings  {named}" in plan.to_text()
    assert len(plan.to_json()["settings"]) == 4
    assert main(["launch", *words, "budget.disk_gib=1e-9"]) == 2
    assert f"made for the tiny models: {named}" in capsys.readouterr().err
    frozen = Layout(tmp_path / "frozen")
    with Session(frozen) as session:
        session.freeze(build_manifest(compose_sweep(words[:-2])), pool="inline", address=None)
    assert f"Made for the tiny models: {named}." in SweepData.open(frozen.root).warnings


OWN = ["sweep=noop", "trainer.target=tests.orchestrator.trainers.Sleepy"]


@pytest.fixture(scope="module")
def slept(tmp_path_factory):
    """A directory in which a trainer of somebody's own has run: twelve runs, of which three have failed."""
    folder = tmp_path_factory.mktemp("own") / "slept"
    manifest = build_manifest(compose_sweep([*OWN, "sweep.n=12", "+trainer.params.every=4"]))
    run(folder, manifest, pool="local", num_workers=1)
    return folder


def test_a_trainer_of_ones_own_has_no_rollouts_and_no_time_before_a_run_was_measured(tmp_path):
    plan = make_plan([*OWN, "sweep.n=12", "+trainer.params.every=4"], tmp_path / "x")
    text, told = plan.to_text(), plan.to_json()
    for word in ("rollouts", "tokens", "steps ", "judging", "guessed", "tiny-64"):
        assert word not in text
    assert "unknown, on" in text
    assert "no run of tests.orchestrator.trainers.Sleepy has been measured; --like D" in text
    assert (told["eta_s"], told["eta_low_s"], told["eta_high_s"], told["busy_s"]) == (None,) * 4
    assert (told["steps_naive"], told["completion_tokens_max"], told["gpu_hours"]) == (0, 0, 0.0)
    assert told["measured_runs"] == {"tests.orchestrator.trainers.Sleepy": 0}


def test_then_its_time_is_that_of_measured_runs_whatever_their_parameters(slept, tmp_path):
    words = [*OWN, "sweep.n=200", "+trainer.params.every=7", "cluster.num_workers=1"]
    for directory, like in ((slept.parent / "new", None), (tmp_path / "x", slept)):
        plan = make_plan(words, directory, like)
        told = plan.to_json()
        assert told["measured_runs"] == {"tests.orchestrator.trainers.Sleepy": 8}, (
            "the first one starts a process"
        )
        assert told["eta_low_s"] < told["eta_s"] < told["eta_high_s"]
        assert 0.1 * 200 < told["busy_s"] < 1.0 * 200
        assert "measured runs: tests.orchestrator.trainers.Sleepy 8" in plan.to_text()


def test_quarantined_runs_have_a_count_of_their_own_and_what_runs_them_again(slept):
    plan = make_plan([*OWN, "sweep.n=14", "+trainer.params.every=4"], slept)
    told = plan.to_json()
    assert (told["new"], told["done"], told["quarantined"], told["failed"]) == (2, 9, 3, 0)
    assert "2 new · 9 done · 3 quarantined" in plan.to_text()
    assert f"again, once mended: emsweep rerun {slept} --failed" in plan.to_text()


def test_a_budget_of_gpus_needs_a_measured_run_and_says_so(tmp_path):
    words = [*OWN, "sweep.n=4", "resources=gpu", "budget.gpu_hours=1", "+trainer.params.every=4"]
    with pytest.raises(SpecError, match=r"no run of .*Sleepy has been measured; launch a few first"):
        require_budget(build_manifest(compose_sweep(words)), tmp_path / "x")
    with pytest.raises(SpecError, match=r"--simulate: no run of .*Sleepy has been measured"):
        make_plan(words, tmp_path / "x", imagined=parse_cluster("gpus=8"))


def test_the_time_of_a_short_sweep_has_an_interval_that_says_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no neighbouring sweep was measured
    plan = make_plan(["sweep=quickstart", "model=tiny-64", "example=carry-1", "optim.lr=1e-4", "seed=0"])
    assert "time      9 s (2 s to 21 s)" in plan.to_text()


def test_a_plan_says_how_many_runs_are_packed_and_why_others_are_not(tmp_path):
    words = ["sweep=quickstart", "model=tiny-64", "objective=em,majority", "engine.pack=16"]
    plan = make_plan(words, tmp_path / "x")
    told = plan.to_json()
    each = told["runs"] // 2
    assert told["packed"] == each
    assert told["not_packed"] == {"objective.trained_per_prompt=32": each}
    assert f"packs     {each} runs in packs of up to 16 · trained by themselves: " in plan.to_text()
    assert "packs" not in make_plan(words[:3], tmp_path / "x").to_text()
    alone = make_plan([*words, "sharing=off"], tmp_path / "x").to_json()
    assert alone["packed"] == 0
    assert alone["not_packed"]["sharing=off (a pack of one)"] == each
    other = [f"model.path={save_as_mistral(tmp_path / 'other')}", "model.name=other"]
    told = make_plan([*words, *other], tmp_path / "x").to_json()
    assert (told["packed"], told["not_packed"]["model=other of type mistral"]) == (0, each)


def test_every_family_that_packs_know_is_packed_with_additions_to_its_own_layers(tmp_path):
    models = ["tiny-64", "tiny-64-llama", "tiny-64-gemma", "tiny-64-gpt-neox"]
    words = ["sweep=quickstart", f"model={','.join(models)}", "example=carry-1", "engine.pack=16"]
    told = make_plan(words, tmp_path / "x").to_json()
    assert (told["packed"], told["not_packed"]) == (told["runs"], {})
    lora = ["model.adapter=lora", "model.adapter_targets=[query_key_value]"]
    told = make_plan([*words, *lora], tmp_path / "x").to_json()
    assert told["packed"] == told["runs"] // 4
    assert told["not_packed"] == {"model.adapter_targets=query_key_value": told["runs"] * 3 // 4}


def test_runs_of_long_prompts_and_large_vocabularies_are_announced_as_packed(tmp_path):
    wide = tmp_path / "wide"
    save_random_model(
        wide,
        vocab_size=5000,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    long = "1+1=" * 17
    words = ["sweep=quickstart", "model=tiny-64", "example=carry-1", "engine.pack=16"]
    for more in ([f"example.template='{long}{{problem}}'"], [f"model.path={wide}", "model.name=wide"]):
        told = make_plan([*words, *more], tmp_path / "x").to_json()
        assert (told["packed"], told["not_packed"]) == (told["runs"], {})
