"""Which runs are packed follows from each run alone, and those that may share a pack travel together."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.batches import batches
from sweeps.sharing.packs import is_packed, not_packed_because, pack_key, packing_of
from sweeps.spec import RunSpec, spec_from_dict


def manifest_of(*words: str) -> Manifest:
    return build_manifest(compose_sweep(["sweep=quickstart", *words]))


def spec(**groups) -> RunSpec:
    return spec_from_dict(
        {**groups, "engine": {"pack": 16, **groups.get("engine", {})}, "sampling": {"max_new_tokens": 16}}
    )


SET = {"data": {"path": "rows.jsonl", "targets": "completions"}, "example": {"prompts": [], "name": ""}}


def test_a_plain_run_that_asks_for_a_pack_is_packed_and_no_other():
    assert is_packed(spec())
    assert not is_packed(spec(engine={"pack": 0}))


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"engine": {"zero_stage": 2}}, "engine.zero_stage=2"),
        ({"engine": {"precision": "bf16", "zero_stage": 1}}, "engine.precision=bf16"),
        ({"engine": {"decoder": "vllm"}, "model": {"adapter": "none"}}, "engine.decoder=vllm"),
        ({"resources": {"world_size": 2}}, "resources.world_size=2"),
        ({"engine": {"zero_stage": 3, "offload": True}}, "engine.offload=true"),
        ({"resources": {"save_every_steps": 2}}, "resources.save_every_steps=2"),
        ({"model": {"adapter": "lora", "adapter_targets": ["lm_head"]}}, "model.adapter_targets=lm_head"),
        ({"optim": {"half_every_steps": 1}}, "optim.half_every_steps=1"),
        ({"schedule": {"name": "autolrs"}, "steps": 100}, "schedule.name=autolrs"),
        ({"objective": {"max_redraws": 1}}, "objective.max_redraws=1"),
        ({"objective": {"trained_per_prompt": 8}}, "objective.trained_per_prompt=8"),
        ({"objective": {"compat": "upstream"}}, "objective.compat=upstream"),
        ({"objective": {"kl": "js", "kl_coef": 0.1}}, "objective.kl=js"),
        ({"objective": {"nll_weight": 1, "nll_dft": True}, **SET}, "objective.nll_dft=true"),
        ({"objective": {"nll_weight": 1, "label_smoothing": 0.1}, **SET}, "objective.label_smoothing=0.1"),
        (
            {"objective": {"nll_weight": 1, "kl_coef": 1, "kl": "forward", "kl_on": "completions"}, **SET},
            "objective.kl_on=completions",
        ),
        ({"eval": {"logit_stats": True}}, "eval.logit_stats=true"),
        ({"trainer": {"target": "mine.Trainer"}}, "trainer.target=mine.Trainer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_keeps_a_run_out_of_packs_is_told_by_its_key(groups, reason):
    assert not_packed_because(spec(**groups)) == reason


def test_long_completions_and_micro_batches_are_packed():
    long = dataclasses.replace(spec(), sampling=dataclasses.replace(spec().sampling, max_new_tokens=512))
    assert is_packed(long)
    assert is_packed(spec(engine={"micro_batch": 4, "decoder": "cached"}))


def test_an_adapter_that_starts_from_a_run_of_another_sweep_is_not_packed():
    start = {"init": {"runs": ["0123456789ab"], "folders": ["/tmp/kept"]}}
    lora = {"model": {"adapter": "lora"}}
    assert is_packed(spec(**start))
    assert is_packed(spec(**lora))
    assert "init_from a run of another sweep" in not_packed_because(spec(**start, **lora))


def test_a_run_that_compares_with_kept_weights_is_not_packed():
    start = {"init": {"runs": ["0123456789ab"], "folders": ["/tmp/kept"]}}
    compared = {"objective": {"reference": "start", "kl_coef": 0.1}}
    assert is_packed(spec(**start))
    assert is_packed(spec(**compared))  # its start is the base model
    assert "objective.reference=start with init_from" in not_packed_because(spec(**start, **compared))


def test_a_manifest_is_packed_as_its_runs_are_one_by_one():
    manifest = manifest_of(
        "engine.pack=16",
        "objective=em,majority",
        "optim.half_every_steps=0,1",
        "seed=0,1",
        "eval.limit=20,30",
    )
    packing, numbers = packing_of(manifest), defaultdict(set)
    for row in range(len(manifest)):
        run = manifest.spec(row)
        assert (packing.pack_of[row] >= 0) == is_packed(run)
        if is_packed(run):
            numbers[pack_key(run)].add(int(packing.pack_of[row]))
    assert all(len(of_key) == 1 for of_key in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers) > 1
    asking = [manifest.spec(row) for row in range(len(manifest)) if manifest.spec(row).engine.pack]
    assert packing.num_packed + sum(packing.refused.values()) == len(asking)


def test_adapters_share_a_pack_within_a_tile_of_ranks():
    manifest = manifest_of(
        "engine.pack=16",
        "model=tiny-64",
        "example=carry-1",
        "optim.lr=1e-4",
        "model.adapter=none,lora",
        "model.adapter_rank=4,8,12",
        "model.adapter_alpha=8,16",
        "model.adapter_targets=[],[q_proj]",
    )
    packing = packing_of(manifest)
    assert packing.num_packed == len(manifest)
    packs = {}
    for row in range(len(manifest)):
        model = manifest.spec(row).model
        tile = 0 if model.adapter == "none" else 1 if model.adapter_rank <= 8 else 2
        packs.setdefault(int(packing.pack_of[row]), set()).add(tile)
    lora = [tiles for tiles in packs.values() if tiles != {0}]
    assert sorted(lora) == [{1}, {2}]


def test_a_model_whose_layers_are_unknown_is_counted_with_its_reason():
    manifest = manifest_of("engine.pack=16", "model=tiny-32,tiny-64")
    codes = manifest.group_codes["model"]
    packing = packing_of(manifest, [(codes == codes[0], "no such layers")])
    assert packing.refused == {"no such layers": len(manifest) // 2}


def test_runs_of_one_pack_travel_together_whole_kin_first():
    manifest = manifest_of(
        "engine.pack=16", "model=tiny-64", "example=carry-1", "optim.lr=1e-4,2e-4,3e-4", "seed=range(8)"
    )
    packed = list(batches(manifest, range(len(manifest)), 7))
    assert sorted(row for batch in packed for row in batch) == list(range(len(manifest)))
    assert [len(batch) for batch in packed] == [6, 6, 6, 6]
    for batch in packed:
        assert len({manifest.seeds[row] for row in batch}) == 2


def test_a_seed_sweep_whose_runs_share_nothing_still_fills_batches():
    words = ("model=tiny-64", "example=carry-1", "optim.lr=1e-4", "seed=range(8)")
    alone, packed = manifest_of(*words), manifest_of(*words, "engine.pack=16")
    assert [len(batch) for batch in batches(alone, range(8), 4)] == [1] * 8
    assert [len(batch) for batch in batches(packed, range(8), 4)] == [4, 4]
