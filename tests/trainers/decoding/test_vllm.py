"""The vLLM decoder: refused with its cure where absent, right about tokens and seeds, and up to date."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch

from sweeps.spec import SpecError
from tests.trainers.made_models import save_random_model
from tests.trainers.worlds import tiny_spec
from trainers.decoding import DecodeRequest
from trainers.decoding.cached import decode_cached
from trainers.decoding.sampler import Sampler
from trainers.decoding.vllm import completions_of, decode_vllm, sampling_settings
from trainers.engine.gang import Gang
from trainers.noise import Stream, uniforms
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

INSTALLED = importlib.util.find_spec("vllm") is not None
EOS = 2


def request(rows: int, sampler: Sampler, **changes) -> DecodeRequest:
    fields = {
        "prompts": [[7, 10, 13, 6, 11, 14], [9, 13, 4], [6, 14]],
        "prompt_of_row": np.arange(rows) % 3,
        "samplers": [sampler],
        "sampler_of_row": np.zeros(rows, dtype=np.int64),
        "uniforms": lambda position: uniforms(7, Stream.ROLLOUT, 0, position, rows),
        "max_new_tokens": 24,
        "eos_ids": (EOS,),
        "vocab_size": 18,
    }
    return DecodeRequest(**{**fields, **changes})


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_the_run_is_refused_before_its_first_step_with_install_line_and_alternative():
    trainer, beats = PolicyTrainer(WorkerContext()), []
    spec = tiny_spec(engine={"decoder": "vllm"}, eval={"path": None})
    with pytest.raises(SpecError) as refused:
        trainer.run(spec, RunContext(heartbeat=beats.append))
    trainer.close()
    assert not beats
    for words in ("engine.decoder='vllm'", "not installed", "pip install 'emsweep[vllm]'", "decoder=cached"):
        assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_end_token_drawn_is_kept_and_nothing_after_it():
    assert completions_of([[5, 6, EOS], [5, EOS, 7], [EOS]], (EOS,), 8) == [(5, 6, EOS), (5, EOS), (EOS,)]
    assert completions_of([[5, 9, EOS]], (EOS, 9), 8) == [(5, 9)]


def test_a_completion_cut_by_the_limit_ends_without_an_end_token():
    assert completions_of([[5, 6, 7], [5, 6, EOS]], (EOS,), 2) == [(5, 6), (5, 6)]


def test_rows_are_seeded_apart_and_a_row_keeps_its_seed_whatever_others_there_are():
    many = sampling_settings(
        request(64, Sampler(temperature=0.5, top_p=0.95, top_k=20, repetition_penalty=1.15))
    )
    few = sampling_settings(
        request(8, Sampler(temperature=0.5, top_p=0.95, top_k=20, repetition_penalty=1.15))
    )
    assert few == many[:8]
    assert len({row["seed"] for row in many}) == 64
    shown = {k: many[0][k] for k in ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")}
    assert shown == {
        "temperature": 0.5,
        "top_p": 0.95,
        "top_k": 20,
        "repetition_penalty": 1.15,
        "max_tokens": 24,
    }
    assert many[0]["stop_token_ids"] == [EOS]
    assert many[0]["ignore_eos"]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: pip install 'emsweep[vllm]'")
@pytest.mark.parametrize("tied", [True, False])
def test_greedy_rollouts_follow_the_weights_through_in_place_updates(tied, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gang = Gang(WorkerContext())
    model = save_random_model(
        tmp_path,
        scale=3,  # away from ties between logits
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # 64 per head, a size every backend of vLLM has a kernel for
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
    )
    model.to(gang.device)
    spec = tiny_spec(model={"name": "made", "path": str(tmp_path)}, sampling={"max_new_tokens": 24})
    wanted = request(3, Sampler(temperature=0, repetition_penalty=1.15))
    seen = set()
    for _ in range(3):
        with torch.inference_mode():
            ours = decode_cached(model, wanted)
            assert decode_vllm(model, wanted, spec, str(tmp_path)) == ours
        seen.add(tuple(ours))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    assert len(seen) == 3
