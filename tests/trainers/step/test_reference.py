"""What the loss compares with: the base model, or the model that training starts from."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from sweeps.spec import InitSpec, RunSpec, SpecError, group_to_dict
from tests.trainers.comparing import column, numbers
from tests.trainers.step import preference_rows
from tests.trainers.worlds import package_file
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext
from trainers.step.prompts import Prompts

START = "objective.reference=start"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return preference_rows.files(tmp_path_factory.mktemp("rows"))


def tuned(files, *words: str) -> RunSpec:
    """Fine-tuning that moves the model well away from its base."""
    return preference_rows.spec_of(files, "sft", "optim.lr=5e-4", *words)


def after(earlier: RunSpec, spec: RunSpec) -> RunSpec:
    """The run of ``spec`` from the result of ``earlier``."""
    groups = ("objective", "data", "sampling", "optim", "init")
    changes = {g: group_to_dict(getattr(earlier, g)) for g in groups}
    scalars = {"steps": earlier.steps, "seed": earlier.seed}
    return dataclasses.replace(spec, init=InitSpec(changes=changes | scalars))


def preferring(files, earlier: RunSpec, *words: str) -> RunSpec:
    return after(earlier, preference_rows.spec_of(files, "dpo", *words))


def kept(trainer, spec: RunSpec, folder) -> InitSpec:
    """A run as one of another sweep whose weights lie on disk."""
    keeping = dataclasses.replace(spec.resources, keep_checkpoints="last")
    trainer.run(dataclasses.replace(spec, resources=keeping), RunContext(checkpoint_dir=folder))
    return InitSpec(runs=(spec.run_id,), folders=(str(folder / f"step-{spec.steps}"),))


def result(trainer, spec: RunSpec) -> dict:
    return numbers(trainer.run(spec, RunContext()).to_json())


@pytest.mark.parametrize("name", ["dpo", "kto", "sft"])
def test_the_start_of_a_run_from_the_base_model_is_the_base_model_bit_for_bit(trainer, files, name):
    kl = ["objective.kl_on=completions", "objective.kl=js", "objective.kl_coef=0.5"] if name == "sft" else []
    base, start = (preference_rows.spec_of(files, name, *kl, *words) for words in ([], [START]))
    assert base.run_id != start.run_id
    assert result(trainer, base) | {"run_id": ""} == result(trainer, start) | {"run_id": ""}


def test_the_default_reference_is_the_base_model_and_changes_no_identity(files):
    plain, said = (preference_rows.spec_of(files, "dpo", *w) for w in ([], ["objective.reference=base"]))
    assert plain.run_id == said.run_id


@pytest.mark.parametrize("reference", ["base", "start"])
def test_after_fine_tuning_the_loss_is_that_of_a_plain_torch_loop(trainer, files, tmp_path, reference):
    """Policy and reference are loaded by transformers from the folder that the fine-tuned run kept."""
    earlier = tuned(files)
    spec = preferring(files, earlier, f"objective.reference={reference}", "optim.lr=1e-4")
    [folder] = kept(trainer, earlier, tmp_path).folders
    base_folder = package_file("trainers/tiny/models/tiny-64")
    policy, frozen = (
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32)
        for f in (folder, folder if reference == "start" else base_folder)
    )
    o = spec.optim
    stepper = torch.optim.AdamW(
        policy.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay
    )

    def log_prob(model, sequence):
        logits = torch.log_softmax(model(input_ids=torch.tensor([sequence.ids])).logits[0], -1)
        return torch.stack([logits[t - 1, sequence.ids[t]] for t in sequence.counted]).sum()

    prompts, losses = Prompts(spec, trainer.load_base(spec.model)), []
    for step in range(1, spec.steps + 1):
        given = prompts.at(step).given
        with torch.no_grad():
            anchor = [log_prob(frozen, s) for s in given]
        r = [log_prob(policy, s) - a for s, a in zip(given, anchor, strict=True)]
        pairs = [r[k] - r[k + 1] for k in range(0, len(given), 2)]
        loss = -logsigmoid(0.1 * torch.stack(pairs)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), o.grad_clip)
        stepper.step()
        stepper.zero_grad()
        losses.append(loss.item())
    found = column(trainer.run(spec, RunContext()).to_json(), "loss")
    assert found == pytest.approx(losses, rel=1e-5, abs=1e-6)
    assert (found[0] == pytest.approx(math.log(2), abs=1e-6)) == (reference == "start")


@pytest.mark.parametrize(
    "engine",
    [[], ["engine.zero_stage=1"], ["engine.zero_stage=2", "engine.precision=bf16"], ["engine.zero_stage=3"]],
)
def test_in_memory_and_from_kept_weights_the_start_is_the_same_bit_for_bit(trainer, files, tmp_path, engine):
    earlier = tuned(files, *engine)
    spec = preferring(files, earlier, START, *engine)
    from_disk = dataclasses.replace(spec, init=kept(trainer, earlier, tmp_path))
    recorded = result(trainer, spec)
    assert recorded | {"run_id": ""} == result(trainer, from_disk) | {"run_id": ""}
    # The policy is its own reference at the first step, whose ratios are then 1 to the bit.
    assert column(recorded, "reward_margin")[0] == 0.0
    assert column(recorded, "loss")[0] == pytest.approx(math.log(2), rel=1e-7)
    assert column(recorded, "reward_margin")[-1] != 0.0


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_an_adapter_is_part_of_the_start(trainer, files, zero_stage):
    lora = ["model.adapter=lora", "model.adapter_rank=4", f"engine.zero_stage={zero_stage}"]
    earlier = tuned(files, *lora)
    started, based = (
        result(trainer, preferring(files, earlier, f"objective.reference={r}", *lora))
        for r in ("start", "base")
    )
    assert column(started, "reward_margin")[0] == 0.0
    assert abs(column(based, "reward_margin")[0]) > 1e-3


@pytest.mark.slow
def test_two_ranks_agree_with_one(trainer, files, two_ranks):
    recorded = result(trainer, preferring(files, tuned(files), START))
    ranks = ["resources.world_size=2"]
    layouts = [[*ranks, f"engine.zero_stage={stage}"] for stage in (0, 2, 3)]
    specs = [preferring(files, tuned(files, *layout), START, *layout) for layout in layouts]
    for other in two_ranks.run(specs):
        assert column(other, "reward_margin")[0] == 0.0
        for name in ("loss", "reward_margin", "grad_norm"):
            assert column(other, name) == pytest.approx(column(recorded, name), rel=5e-5, abs=2e-5), name


def test_every_phase_compares_with_its_own_start_shared_and_alone(trainer, files):
    """A tree that forks within phases and after them: two horizons and two βs after fine-tuning, a third
    phase after one of those, fine-tuning that goes on, and the other reference.
    """
    one_engine = ["engine.max_hot_engines=1"]
    earlier = tuned(files, *one_engine)
    seconds = [
        preferring(files, earlier, *one_engine, *words)
        for words in (
            [START, "optim.lr=1e-4", "schedule=wsd"],
            [START, "optim.lr=1e-4", "schedule=wsd", "steps=6"],
            [START, "optim.lr=1e-4", "objective.beta=0.3"],
            ["optim.lr=1e-4"],
        )
    ]
    third = after(seconds[0], preference_rows.spec_of(files, "kto", START, *one_engine))
    specs = [earlier, tuned(files, "steps=6", *one_engine), *seconds[:1], third, *seconds[1:]]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        fresh = PolicyTrainer(WorkerContext())
        assert numbers(together[position].to_json()) == result(fresh, spec)
        fresh.close()


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_a_killed_run_goes_on_with_the_reference_it_started_from(trainer, files, tmp_path, zero_stage):
    engine = [f"engine.zero_stage={zero_stage}"]
    spec = preferring(files, tuned(files, *engine), START, "steps=4", "resources.save_every_steps=1", *engine)
    spec = dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, save_every_steps=1))

    class Killed(Exception):
        pass

    def die(words: str) -> None:
        if words == "step 3 of 4":
            raise Killed

    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=die))
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-3"]
    fresh = PolicyTrainer(WorkerContext())
    resumed = fresh.run(spec, RunContext(attempt=1, checkpoint_dir=tmp_path)).to_json()
    fresh.close()
    assert numbers(resumed) == result(trainer, spec)


def test_a_start_that_nothing_compares_with_is_refused(files):
    with pytest.raises(SpecError, match=r"objective.reference='start': is compared with by no part"):
        preference_rows.spec_of(files, "sft", START)
