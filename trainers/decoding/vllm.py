"""Rollouts drawn by vLLM inside the training process: ``engine.decoder=vllm``, behind the extra ``vllm``.

Before each step's rollouts the engine wakes, takes the policy's weights in place and forgets cached prefixes;
then it sleeps, so that training has the device's memory back. Every rank runs an engine of its own over its
share of the rows. Evaluation stays with the ``cached`` decoder.

The noise is vLLM's own generator, seeded per row from (seed, step, rollout), and its logits carry the bits of
whichever rows it batched together: rollouts follow the same distribution as with the other decoders but are
not the same rollouts, and two identical runs agree only as far as vLLM repeats its batches.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from sweeps.spec import RunSpec, SpecError
from trainers.decoding import Completion, DecodeRequest
from trainers.deepspeed_internals import gathered, is_sharded
from trainers.model.base_model import DTYPES

MEMORY_SHARE = 0.3
"""Part of this worker's share of the device that vLLM takes while awake, weights and KV cache together: on
80 GB room for a 7B model and 64 sequences, with training's own memory beside it.
"""

SLEEP_LEVEL = 1
"""Asleep, vLLM's weights lie in host memory. Level 2 would drop them, since they are overwritten anyway, but
is known to corrupt models that hold state outside their parameters.
"""

_hot: dict[tuple, Any] = {}


def require_vllm() -> None:
    """Raise :class:`SpecError` where the package is absent."""
    if importlib.util.find_spec("vllm") is None:
        raise SpecError(
            "engine.decoder='vllm': the package vllm is not installed; run pip install 'emsweep[vllm]', or "
            "set engine.decoder=cached"
        )


def decode_vllm(
    module: torch.nn.Module, request: DecodeRequest, spec: RunSpec, location: str
) -> list[Completion]:
    """Draw R completions, in row order, with the module's present weights; every rank must call it.

    Args:
        module: The policy; under ZeRO-3 its parameters are gathered one by one.
        location: Folder of the base model, for its architecture.

    Raises:
        SpecError: if vLLM is not installed.
    """
    require_vllm()
    from vllm import SamplingParams

    longest = spec.sampling.max_prompt_tokens + spec.sampling.max_new_tokens
    positions = getattr(module.config, "max_position_embeddings", longest)
    # Tensors made in inference mode could not be written outside of it, and the engine outlives this call.
    with torch.inference_mode(False), torch.no_grad():
        engine = _engine(
            model=location,
            trust_remote_code=spec.model.trust_remote_code,
            dtype=str(DTYPES[spec.engine.precision]).removeprefix("torch."),
            max_model_len=min(longest, positions),
            gpu_memory_utilization=MEMORY_SHARE * min(1.0, spec.resources.gpus_per_worker or 1.0),
            enable_sleep_mode=next(module.parameters()).is_cuda,
        )
        try:
            engine.wake_up()
            engine.collective_rpc("reload_weights", kwargs={"weights_iterator": _weights(module)})
            engine.reset_prefix_cache()
            outputs = engine.generate(
                [{"prompt_token_ids": list(request.prompts[p])} for p in request.prompt_of_row],
                [SamplingParams(**settings) for settings in sampling_settings(request)],
                use_tqdm=False,
            )
        finally:
            engine.sleep(level=SLEEP_LEVEL)
    drawn = [output.outputs[0].token_ids for output in outputs]
    return completions_of(drawn, request.eos_ids, request.max_new_tokens)


def sampling_settings(request: DecodeRequest) -> list[dict[str, Any]]:
    """Keyword arguments of vLLM's ``SamplingParams`` for each of the R rows."""
    seeds = (request.uniforms(0) * 2.0**53).astype("int64").tolist()  # all the bits of a row's first uniform
    samplers = [request.samplers[k] for k in request.sampler_of_row]
    # Exactly the model's end tokens stop a row, not those that vLLM would read from its files.
    shared = {"stop_token_ids": list(request.eos_ids), "ignore_eos": True, "detokenize": False}
    shared |= {"max_tokens": request.max_new_tokens}
    return [
        {
            "temperature": s.temperature,
            "top_p": s.top_p,
            "top_k": s.top_k,
            "repetition_penalty": s.repetition_penalty,
            "seed": seed,
            **shared,
        }
        for s, seed in zip(samplers, seeds, strict=True)
    ]


def completions_of(
    drawn: Iterable[Sequence[int]], eos_ids: Sequence[int], max_new_tokens: int
) -> list[Completion]:
    """Token ids as the trainer counts them: cut at the limit and after the first end token, which is kept."""
    completions = []
    for ids in drawn:
        end = next((k + 1 for k, token in enumerate(ids) if token in eos_ids), len(ids))
        completions.append(tuple(int(token) for token in ids[: min(end, max_new_tokens)]))
    return completions


def _weights(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and full tensors; vLLM holds some until their layer is complete, so gathered ones are copied."""
    named = dict(module.named_parameters())
    named.setdefault("lm_head.weight", cast(Any, module).get_output_embeddings().weight)
    for name, parameter in named.items():
        if is_sharded(parameter):
            with gathered([parameter]):
                full = parameter.data.clone()
            yield name, full
        else:
            yield name, parameter.data


def _engine(**settings: Any) -> Any:
    """The process's one engine, asleep when new; another one's memory and process groups go before."""
    key = tuple(settings.values())
    if key not in _hot:
        from vllm import LLM

        _hot.clear()
        gc.collect()
        _hot[key] = LLM(
            **settings,
            # In this process and its process group: weights are then handed over without a copy.
            distributed_executor_backend="external_launcher",
            load_format="dummy",  # every weight comes from the policy
            # A head tied to the embedding is loaded as a layer of its own: some of vLLM's backends repack
            # it and would go on with the old one.
            hf_overrides={"tie_word_embeddings": False},
            enable_prefix_caching=True,
            skip_tokenizer_init=True,
            generation_config="vllm",
        )
        _hot[key].sleep(level=SLEEP_LEVEL)
    return _hot[key]
