"""Shuffled weights."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch

from vitrail.explain import explain
from vitrail.faithfulness.contrast import rank_correlation
from vitrail.faithfulness.controls import control_maps
from vitrail.faithfulness.randomization import (
    layers,
    passes,
    randomization_curve,
    randomization_error,
    shared_variance,
    shuffled,
    shuffled_models,
)
from vitrail.records import Estimate

TARGETS = np.array([0, 1, 2, 3])


def relevance(model, images, *, targets):
    return explain(model, images, method="relevance", target=targets.tolist()).values.numpy()


def edges(model, images, *, targets):
    return control_maps(images, (8, 8))["edges"]


def test_layers_are_blocks_and_single_modules_each_parameter_once(tiny):
    model, _, _ = tiny
    found = layers(model)
    names = [name for part in found.values() for name in part]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert [name for name in found if name.startswith("blocks")] == [
        f"blocks.{block}" for block in range(4)
    ]
    assert list(found)[-1] == "head"


def test_shuffling_keeps_each_tensors_numbers_and_the_model_itself(tiny):
    model, _, _ = tiny
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = shuffled(model, ["head.weight"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(
        other.head.weight.flatten().sort().values, model.head.weight.flatten().sort().values
    )
    assert torch.equal(other.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


def test_a_parameter_is_shuffled_alike_whatever_else_is(tiny):
    model, _, _ = tiny
    alone = shuffled(model, ["head.weight"])
    together = shuffled(model, ["blocks.0.attn.qkv.weight", "head.weight"])
    assert torch.equal(alone.head.weight, together.head.weight)


def test_no_two_seeds_and_no_two_blocks_are_shuffled_alike(tiny):
    model, _, _ = tiny
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.blocks[1].attn.qkv.weight.copy_(model.blocks[0].attn.qkv.weight)
    names = ["blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]
    found = [shuffled(model, names, seed=seed).blocks for seed in range(4)]
    weights = [blocks[place].attn.qkv.weight for blocks in found for place in (0, 1)]
    for one, two in combinations(weights, 2):
        assert not torch.equal(one, two)


def test_the_cascade_ends_where_everything_is_shuffled(tiny):
    model, images, _ = tiny
    cascade = randomization_curve(model, images, method=relevance, targets=TARGETS)
    whole = shuffled(model, [name for part in layers(model).values() for name in part])
    expected = rank_correlation(
        relevance(model, images, targets=TARGETS), relevance(whole, images, targets=TARGETS)
    )
    assert next(iter(cascade)) == "head"
    np.testing.assert_allclose(list(cascade.values())[-1], expected)


def test_independent_shuffling_of_the_head_is_the_first_step_of_the_cascade(tiny):
    model, images, _ = tiny
    one, cascade = (
        randomization_curve(model, images, method=relevance, targets=TARGETS, variant=variant)
        for variant in ("independent", "cascading")
    )
    np.testing.assert_allclose(one["head"], cascade["head"])
    assert not np.allclose(one["blocks.0"], cascade["blocks.0"])


def test_shared_variance_is_the_squared_correlation_corrected_for_chance():
    generator = np.random.default_rng(0)
    maps, others = generator.random((5, 8, 8)), generator.random((1, 5, 8, 8))
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, others[0], strict=True)]
    assert shared_variance(maps, others) == pytest.approx(1 - (1 - np.square(r)) * 63 / 62)


def test_unrelated_maps_share_nothing_on_average():
    generator = np.random.default_rng(0)
    maps, others = generator.random((400, 6, 6)), generator.random((2, 400, 6, 6))
    assert abs(shared_variance(maps, others).mean()) < 0.01


def test_constant_maps_have_no_share_and_explain_nothing():
    map_ = np.arange(16.0).reshape(1, 4, 4)
    assert np.isnan(shared_variance(np.ones((1, 4, 4)), map_[None])[0])
    assert shared_variance(map_, np.ones((2, 1, 4, 4)))[0] < 0.01


def turned_by_the_weights(model, images, *, targets):
    """Edges and brightness, mixed and signed by the model's weights: the picture, nothing more."""
    with torch.no_grad():
        signs = [float(next(iter(model.parameters())).flatten()[place]) for place in (0, 1)]
    brightness = torch.nn.functional.avg_pool2d(images.mean(dim=1), 8).numpy()
    return signs[0] * edges(model, images, targets=targets) + signs[1] * brightness


@pytest.mark.parametrize("method", [edges, turned_by_the_weights])
def test_maps_of_the_picture_alone_fail_whatever_their_sign(tiny, method):
    model, images, _ = tiny
    found = randomization_error(
        shuffled_models(model), images, method=method, targets=TARGETS,
        original=method(model, images, targets=TARGETS),
    )  # fmt: skip
    assert found == pytest.approx(1)


def test_the_rule_looks_at_the_upper_end():
    def estimate(value, high):
        return Estimate(value=value, low=0.0, high=high, n=20, method="")

    assert passes(estimate(0.3, 0.45))
    assert not passes(estimate(0.3, 0.55))
    assert not passes(estimate(1.0, float("nan")))
