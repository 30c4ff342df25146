"""The forward of a model like Llama without what transformers wraps around it, to the bit the same.

On a model of a few layers a third of a forward goes into modules that call modules, into defaults looked up
in configurations and into the search for texts that were joined in one row. Here the operations that are left
follow one another, each as ``modeling_qwen2.py`` and ``modeling_llama.py`` of transformers have it. Before a
model is computed so, both ways are compared on a few tokens; any other model keeps its own forward.

Shapes: B rows, T tokens, K last positions, H hidden, D numbers of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

FAMILIES = ("llama", "qwen2")
"""Model types whose operations are these."""

TRIED_ROWS, TRIED_TOKENS = 2, 5
"""Shape of the text that both ways are compared on."""

Forward = Callable[..., Any]
"""A model, called with keyword inputs of transformers."""


class Output(NamedTuple):
    """What a forward returns."""

    logits: Tensor
    """(B, K, V)."""


def forward_of(module: nn.Module) -> Forward:
    """The direct forward where it is the model's own to the bit, else the model itself."""
    if not is_plain(module):
        return module
    direct = _Direct(module)
    vocabulary = module.get_input_embeddings().num_embeddings  # type: ignore[operator]
    device = next(module.parameters()).device
    tried = torch.arange(TRIED_ROWS * TRIED_TOKENS, device=device).view(TRIED_ROWS, -1) % vocabulary
    asked = {"input_ids": tried, "use_cache": False, "logits_to_keep": 2}
    with torch.no_grad():
        same = torch.equal(direct(**asked).logits, module(**asked).logits)
    return direct if same else module


def is_plain(module: nn.Module) -> bool:
    """Whether a model is of a known family, and no part of it was exchanged or hooked. Hooks of the whole are
    left out, as DeepSpeed's are, which keep time.
    """
    config: Any = getattr(module, "config", None)
    if getattr(config, "model_type", None) not in FAMILIES or config._attn_implementation != "sdpa":
        return False
    kinds = getattr(config, "layer_types", None) or ()
    linear = [m for name, m in module.named_modules() if name.endswith("_proj") or name == "lm_head"]
    return (
        all(kind == "full_attention" for kind in kinds)
        and config.rope_parameters.get("rope_type", "default") == "default"
        and all(type(m) is nn.Linear for m in linear)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules() if m is not module)
    )


class _Direct:
    """Calls a model's operations one after the other; a text with a cache or a mask goes to the model."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._turns = lru_cache(maxsize=1)(self._turns_of)

    def __call__(
        self, *, input_ids: Tensor, use_cache: bool = False, logits_to_keep: int = 0, **others: Any
    ) -> Any:
        if use_cache or others or self._module.training:
            return self._module(
                input_ids=input_ids, use_cache=use_cache, logits_to_keep=logits_to_keep, **others
            )
        body = self._module.model
        embed = body.embed_tokens
        x_BTH = functional.embedding(input_ids, embed.weight, embed.padding_idx)
        turns = self._turns(x_BTH.shape[1], x_BTH.dtype, x_BTH.device)
        for layer in body.layers:
            x_BTH = x_BTH + _attention(layer.self_attn, _norm(layer.input_layernorm, x_BTH), turns)
            mlp, y_BTH = layer.mlp, _norm(layer.post_attention_layernorm, x_BTH)
            x_BTH = x_BTH + _linear(
                mlp.down_proj, mlp.act_fn(_linear(mlp.gate_proj, y_BTH)) * _linear(mlp.up_proj, y_BTH)
            )
        return Output(_linear(self._module.lm_head, _norm(body.norm, x_BTH)[:, -logits_to_keep:]))

    @torch.inference_mode(False)
    @torch.no_grad()
    def _turns_of(self, tokens: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine by which positions turn heads, (1, 1, T, D) each."""
        rotary = self._module.model.rotary_emb
        position_1T1 = torch.arange(tokens, device=device)[None, :, None]
        half = position_1T1.float() * rotary.inv_freq.to(device=device, dtype=torch.float)
        angles = torch.cat((half, half), dim=-1)[:, None]
        scale = rotary.attention_scaling
        return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return functional.linear(x, layer.weight, layer.bias)


def _norm(layer: Any, x_BTH: Tensor) -> Tensor:
    y_BTH = x_BTH.to(torch.float32)
    y_BTH = y_BTH * torch.rsqrt(y_BTH.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon)
    return layer.weight * y_BTH.to(x_BTH.dtype)


def _turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turns
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _attention(attention: Any, x_BTH: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, tokens, _ = x_BTH.shape

    def heads(layer: nn.Linear) -> Tensor:
        return _linear(layer, x_BTH).view(rows, tokens, -1, attention.head_dim).transpose(1, 2)

    query, key = _turned(heads(attention.q_proj), turns), _turned(heads(attention.k_proj), turns)
    out, _ = sdpa_attention_forward(
        attention, query, key, heads(attention.v_proj), None, scaling=attention.scaling
    )
    return _linear(attention.o_proj, out.reshape(rows, tokens, -1).contiguous())
