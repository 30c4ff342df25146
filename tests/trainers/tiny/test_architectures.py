import pytest
from transformers import AutoModelForCausalLM

from trainers.tiny.architectures import ARCHITECTURES, NUM_HEADS, NUM_LAYERS


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("hidden", [64, 96])
def test_families_of_one_size_are_of_one_size(name, hidden):
    def built(family):
        config = ARCHITECTURES[family](hidden=hidden, vocab_size=19, pad_id=0, end_id=1)
        return AutoModelForCausalLM.from_config(config)

    model = built(name)
    assert model.config.model_type.replace("_", "-") == name
    assert (model.config.num_hidden_layers, model.config.num_attention_heads) == (NUM_LAYERS, NUM_HEADS)
    assert model.num_parameters() == pytest.approx(built("qwen2").num_parameters(), rel=0.1)
