"""Shuffled weights."""

import numpy as np
import pytest
import torch

from vitrail.explain import explain
from vitrail.faithfulness.controls import control_maps
from vitrail.faithfulness.randomization import layers, passes, randomization, shuffled
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


def test_the_cascade_ends_where_everything_is_shuffled(tiny):
    model, images, _ = tiny
    cascade = randomization(model, images, method=relevance, targets=TARGETS, variant="cascading")
    whole = randomization(model, images, method=relevance, targets=TARGETS)
    assert next(iter(cascade)) == "head"
    np.testing.assert_allclose(list(cascade.values())[-1], whole["all"])


def test_independent_shuffling_of_the_head_is_the_first_step_of_the_cascade(tiny):
    model, images, _ = tiny
    one, cascade = (
        randomization(model, images, method=relevance, targets=TARGETS, variant=variant)["head"]
        for variant in ("independent", "cascading")
    )
    np.testing.assert_allclose(one, cascade)


def test_edges_never_change_and_so_fail(tiny):
    model, images, _ = tiny
    found = randomization(model, images, method=edges, targets=TARGETS)["all"]
    assert found == pytest.approx(1)


def test_the_rule_looks_at_the_upper_end():
    def estimate(value, high):
        return Estimate(value=value, low=0.0, high=high, n=20, method="")

    assert passes(estimate(0.3, 0.45))
    assert not passes(estimate(0.3, 0.55))
    assert not passes(estimate(1.0, float("nan")))
