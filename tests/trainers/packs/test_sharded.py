"""Over several ranks, members are dealt out and the model is held in shares; no bit knows of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sweeps.spec import RunSpec
from tests.trainers.comparing import numbers
from tests.trainers.packs.test_adapters import lora_spec
from tests.trainers.packs.test_forward import model_of
from tests.trainers.packs.test_given import LORA, set_spec
from tests.trainers.packs.test_trainer import told
from tests.trainers.step import preference_rows
from trainers.engine.checkpoint import check_weights
from trainers.engine.gang import Gang
from trainers.packs.adapters import AdapterStack
from trainers.packs.sharded import ShardedBlocks, Walk
from trainers.packs.tokens import MemberRows, tokens_of
from trainers.protocol import RunContext, WorkerContext


def over_two(spec: RunSpec) -> RunSpec:
    return dataclasses.replace(
        spec,
        engine=dataclasses.replace(spec.engine, zero_stage=3),
        resources=dataclasses.replace(spec.resources, world_size=2),
    )


CASES = {
    "even": [lora_spec(number) for number in (0, 1, 2, 3)],
    "odd, of several lengths": [
        lora_spec(1, steps=4),
        lora_spec(2, steps=1, eval={"steps": [0, 1], "limit": 20}),
        lora_spec(3, steps=2, eval={"path": None}),
    ],
    "one": [lora_spec(4)],
    "a trunk, long texts, micro batches": [
        *(lora_spec(5, steps=n, schedule={"name": "constant"}) for n in (2, 3)),
        lora_spec(6, engine={"pack": 4, "decoder": "cached", "micro_batch": 3}),
    ],
    "another family": [lora_spec(7, base="tiny-64-gpt-neox", model={"adapter": "lora"}) for _ in range(2)],
}


@pytest.mark.parametrize("name", CASES)
def test_dealt_out_members_have_the_bits_of_one_rank(trainer, two_ranks, name):
    specs = CASES[name]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    found = two_ranks.run([over_two(spec) for spec in specs], together=True)
    for result, own in zip(found, alone, strict=True):
        assert (result["layout"]["world_size"], result["layout"]["zero_stage"]) == (2, 3)
        assert result["layout"]["pack"] == 4
        assert {**numbers(result), "reported": None} == {**own, "reported": None}


def test_dealt_out_members_walk_their_sets_and_compare_completions(trainer, two_ranks, tmp_path):
    files = preference_rows.files(tmp_path)
    specs = [
        set_spec(str(files["pairs"]), name, 4, targets="pairs", seed=seed, model=LORA)
        for seed, name in enumerate(("dpo", "simpo", "orpo"))
    ]
    specs.append(set_spec(str(files["labels"]), "sft", 4, targets="completions", model=LORA))
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    found = two_ranks.run([over_two(spec) for spec in specs], together=True)
    assert [{**numbers(result), "reported": None} for result in found] == [
        {**own, "reported": None} for own in alone
    ]
    assert all(result["layout"]["pack"] == 4 for result in found)


def test_reports_of_all_ranks_reach_the_first_and_weights_are_kept_by_the_member(two_ranks, tmp_path):
    keeping = {"resources": {"keep_checkpoints": "last"}, "eval": {"steps": [1, 2], "limit": 20}, "steps": 2}
    specs = [over_two(lora_spec(number, **keeping)) for number in (0, 1)]
    found = two_ranks.run(specs, together=True, keep_in=tmp_path)
    assert [[row["step"] for row in result["reported"]] for result in found] == [[1], [1]]
    for number in range(2):
        assert check_weights(tmp_path / str(number) / "step-2")["digest"]


def test_what_ends_one_member_ends_it_alone_whichever_rank_it_is_on(two_ranks):
    wild = lora_spec(5, optim={"lr": 1e30, "grad_clip": 0.0}, eval={"path": None})
    long = lora_spec(5, prompt="47+38=" * 4, sampling={"max_prompt_tokens": 8})
    calm = lora_spec(5, eval={"path": None})
    for specs in ([wild, calm, long, calm], [calm, long, calm, wild]):
        found = two_ranks.run([over_two(spec) for spec in specs], together=True)
        outcomes = [result.get("outcome") or "error" for result in found]
        expected = {id(wild): "diverged", id(calm): "done", id(long): "error"}
        assert outcomes == [expected[id(spec)] for spec in specs]
        assert all("max_prompt_tokens=8" in r["error"] for r in found if "error" in r)


def test_runs_that_one_rank_alone_hears_are_called_off_end_there_and_on_the_other(two_ranks):
    specs = [over_two(lora_spec(number)) for number in (0, 1)]
    found = two_ranks.run(specs, together=True, called_off_on=1)
    assert "Cancelled" in found[1]["error"]
    assert found[0]["outcome"] == "done"


def test_a_report_that_is_lost_ends_its_run_on_all_ranks_alike(two_ranks):
    reporting = {"eval": {"steps": [1, 2], "limit": 20}, "steps": 2}
    silent = {"eval": {"path": None}, "steps": 2}
    specs = [over_two(lora_spec(number, **own)) for number, own in enumerate((silent, reporting))]
    found = two_ranks.run(specs, together=True, reports_lost_on=0)
    assert found[0]["outcome"] == "done"
    assert "the report was lost" in found[1]["error"]
    assert [r["outcome"] for r in two_ranks.run(specs, together=True)] == ["done", "done"]


def test_matrices_are_there_in_the_order_of_a_walk_and_gone_after_it():
    stack = AdapterStack(model_of("tiny-64"), 2, rank=8, targets={"q_proj"})
    whole = {name: own.clone() for name, own in stack.base.items()}
    tokens = tokens_of([MemberRows(slot=0, rows=[[1, 2, 3]], wanted=[(0, 2)])], 0)
    logits_KV = stack.logits(tokens)
    stack.shard(Gang(WorkerContext()))
    assert isinstance(stack.base, ShardedBlocks)
    assert torch.equal(stack.logits(tokens), logits_KV)
    with pytest.raises(RuntimeError, match="query_0 is asked for out of its turn"):
        _ = stack.base["query_0"]
    with stack.walk(Walk.FORWARD):
        assert torch.equal(stack.base["embed"], whole["embed"])
        assert torch.equal(stack.base["query_1"], whole["query_1"])
        with pytest.raises(RuntimeError, match="query_0"):
            _ = stack.base["query_0"]
    with stack.walk(Walk.BACKWARD):
        assert torch.equal(stack.base["up_1"], whole["up_1"])
        assert torch.equal(stack.base["query_0"], whole["query_0"])
    assert torch.equal(stack.base["norm_last"], whole["norm_last"])
