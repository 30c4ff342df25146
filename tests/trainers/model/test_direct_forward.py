from __future__ import annotations

import pytest
import torch
from torch import nn

from sweeps.spec import EngineSpec, ModelSpec, OptimSpec
from tests.trainers.worlds import package_file
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.adapter import add_adapter
from trainers.model.direct_forward import forward_of
from trainers.protocol import WorkerContext

PLAIN = ("tiny-64", "tiny-96", "tiny-64-llama")


def model(name="tiny-64", dtype=torch.float32, attention="sdpa"):
    import transformers

    folder = package_file(f"trainers/tiny/models/{name}")
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention
    ).eval()


def gradients(module, forward, ids, keep):
    module.zero_grad()
    logits = forward(input_ids=ids, use_cache=False, logits_to_keep=keep).logits
    logits.float().logsumexp(-1).square().sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("shape", [(8, 13), (1, 1), (3, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PLAIN)
def test_logits_and_gradients_are_those_of_transformers_to_the_bit(name, dtype, shape):
    module = model(name, dtype)
    direct = forward_of(module)
    assert direct is not module
    ids = torch.randint(0, 18, shape, generator=torch.Generator().manual_seed(7))
    keep = min(5, shape[1])
    for expected, found in zip(
        gradients(module, module, ids, keep), gradients(module, direct, ids, keep), strict=True
    ):
        assert torch.equal(expected, found)


def test_weights_that_change_are_those_that_count():
    module = model()
    direct = forward_of(module)
    ids = torch.arange(10)[None]
    before = direct(input_ids=ids).logits
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(1.5)
    after = direct(input_ids=ids).logits
    assert not torch.equal(before, after)
    assert torch.equal(after, module(input_ids=ids, use_cache=False).logits)


def test_a_first_text_without_gradients_leaves_later_ones_trainable():
    module = model()
    direct = forward_of(module)
    ids = torch.arange(12).view(2, 6)
    with torch.inference_mode():
        direct(input_ids=ids, logits_to_keep=2)
    gradients(module, direct, ids, 2)


def test_masks_and_caches_are_left_to_the_model():
    module = model()
    direct = forward_of(module)
    ids = torch.arange(12).view(2, 6)
    hidden = torch.ones_like(ids)
    hidden[0, 2] = 0
    masked = direct(input_ids=ids, attention_mask=hidden, use_cache=False).logits
    assert torch.equal(masked, module(input_ids=ids, attention_mask=hidden, use_cache=False).logits)
    cached = direct(input_ids=ids, use_cache=True, logits_to_keep=1)
    assert cached.past_key_values.get_seq_length() == 6


@pytest.mark.parametrize("name", ["tiny-64-gemma", "tiny-64-gpt-neox"])
def test_other_families_keep_their_own(name):
    module = model(name)
    assert forward_of(module) is module


def with_adapter(module):
    add_adapter(module, ModelSpec(name="tiny-64", adapter="lora", adapter_rank=2))


def with_a_window(module):
    module.config.layer_types = ["full_attention", "sliding_attention"]


def with_a_hook(module):
    module.model.layers[1].mlp.register_forward_hook(lambda *_: None)


def with_another_layer(module):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = module.model.layers[0].mlp.up_proj
    layer.__class__ = Doubled


def with_another_norm(module):
    module.model.norm.forward = lambda x: x


@pytest.mark.parametrize(
    "change", [with_adapter, with_a_window, with_a_hook, with_another_layer, with_another_norm]
)
def test_a_model_that_is_not_as_its_family_keeps_its_own(change):
    module = model()
    change(module)
    assert forward_of(module) is module


def test_another_attention_keeps_its_own():
    module = model(attention="eager")
    assert forward_of(module) is module


@pytest.mark.parametrize(("stage", "is_direct"), [(0, True), (2, False)])
def test_engines_without_zero_take_the_direct_way(stage, is_direct):
    module = model()
    engine = Engine(module, OptimSpec(), EngineSpec(zero_stage=stage), Gang(WorkerContext()))
    try:
        asked = {"input_ids": torch.arange(8)[None], "use_cache": False, "logits_to_keep": 3}
        logits = engine.forward(**asked).logits
        assert type(engine.forward(**asked)).__module__.endswith("direct_forward") == is_direct
        assert torch.equal(logits, engine.module(**asked).logits)
    finally:
        engine.close()
