import itertools

import pytest
import torch

from trainers.merge.weights import greedy_soup, lines, soup, wise

LAYERS = 3


def model(seed, dtype=torch.float32, layers=LAYERS):
    generator = torch.Generator().manual_seed(seed)
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [f"model.layers.{k}.mlp.up_proj.weight" for k in range(layers)]
    return {name: (1e3 * torch.randn(7, 5, generator=generator)).to(dtype) for name in names}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ends_of_a_curve_are_the_models_bit_for_bit(dtype):
    base, tuned = model(1, dtype), model(2, dtype)
    assert same(wise(base, tuned, 0.0), base)
    assert same(wise(base, tuned, 1.0), tuned)
    assert same(lines(base, tuned, 1.0), tuned)
    assert same(soup([tuned]), tuned)


def test_what_lies_between_is_the_weighted_mean():
    base, tuned = model(1), model(2)
    for alpha in (0.1, 0.5, 0.9):
        for name, merged in wise(base, tuned, alpha).items():
            assert torch.allclose(merged, (1 - alpha) * base[name] + alpha * tuned[name], atol=1e-3)


def test_a_layers_update_grows_with_its_depth_and_the_last_is_whole():
    base, tuned = model(1), model(2)
    merged = lines(base, tuned, 0.2)
    scales = {"model.embed_tokens.weight": 0.2, "model.norm.weight": 0.2}
    scales |= {f"model.layers.{k}.mlp.up_proj.weight": 0.2 + 0.8 * k / 2 for k in range(LAYERS)}
    for name, scale in scales.items():
        assert torch.allclose(
            merged[name], base[name] + scale * (tuned[name] - base[name]), rtol=1e-4, atol=1e-2
        )
    assert torch.equal(
        merged["model.layers.2.mlp.up_proj.weight"], tuned["model.layers.2.mlp.up_proj.weight"]
    )
    single = lines(model(1, layers=1), model(2, layers=1), 0.2)
    assert torch.equal(
        single["model.layers.0.mlp.up_proj.weight"], model(2, layers=1)["model.layers.0.mlp.up_proj.weight"]
    )


def test_a_soup_is_the_mean_whatever_the_order():
    members = [model(k) for k in range(4)]
    mean = {name: torch.stack([m[name].double() for m in members]).mean(0).float() for name in members[0]}
    for order in itertools.islice(itertools.permutations(members), 5):
        assert all(torch.allclose(soup(order)[n], mean[n], rtol=1e-6) for n in mean)


def test_a_greedy_soup_takes_only_what_strictly_helps_and_is_never_below_its_best_member():
    worth = {(2,): 0.7, (2, 0): 0.7, (2, 1): 0.8, (2, 1, 3): 0.75}
    merged = greedy_soup([0.6, 0.5, 0.7, 0.4], worth.__getitem__)
    assert (merged.members, merged.accuracy, merged.best_member) == ((2, 1), 0.8, 0.7)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        alone = torch.rand(5, generator=generator).tolist()
        merged = greedy_soup(alone, lambda _: float(torch.rand(1, generator=generator)))
        assert merged.accuracy >= merged.best_member == max(alone)


def test_models_of_different_architectures_are_refused():
    other = {name: tensor[:, :3] for name, tensor in model(1).items()}
    for merge in (lambda a, b: wise(a, b, 0.5), lambda a, b: lines(a, b, 0.5), lambda a, b: soup([a, b])):
        with pytest.raises(ValueError, match="architecture"):
            merge(model(1), other)
        with pytest.raises(ValueError, match="architecture"):
            merge(model(1), model(1, layers=2))
    with pytest.raises(ValueError, match="at least one"):
        soup([])
