"""The tiny ViT is trained on planted evidence, and the methods are judged."""

import pytest
import torch

from vitrail.errors import InputError
from vitrail.explain import capture
from vitrail.faithfulness.conformance import SEED, conformance, explain_planted, judge
from vitrail.faithfulness.planted import plant, train_tiny_vit
from vitrail.pipeline.conformance import find, table

pytestmark = pytest.mark.journey

CONFORMING = ("relevance", "libra", "cp_lrp", "gradient_rollout")


def copied_gradient_rollout(model, images, target):
    """The most copied public code, as its hooks deliver it: gradients in reverse order."""
    with torch.enable_grad(), capture(model) as trace:
        logits = model(images.clone().requires_grad_())
    outputs = [layer.output for layer in trace.layers]
    gradients = torch.autograd.grad(logits[:, target].sum(), outputs)
    after = [
        layer.attention_gradient(gradient)
        for layer, gradient in zip(trace.layers, gradients, strict=True)
    ]
    result = torch.eye(65)
    for layer, gradient in zip(trace.layers, reversed(after), strict=True):
        fused = (layer.attention() * gradient).mean(dim=1).relu() + torch.eye(65)
        result = fused / fused.sum(dim=-1, keepdim=True) @ result
    return result[:, 0, 1:].reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def model():
    return train_tiny_vit()


@pytest.fixture(scope="module")
def rows(model):
    found = conformance(
        model,
        plant(40, seed=SEED),
        methods=(*CONFORMING, "rollout"),
        explainers={"copied": copied_gradient_rollout},
    )
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", CONFORMING)
def test_methods_that_point_at_the_cause_conform(rows, name):
    assert rows[name].pointing.value >= 0.98
    assert rows[name].right_class.value >= 0.98
    assert rows[name].conforms


@pytest.mark.parametrize("name", ["occlusion", "token_drop"])
def test_hiding_one_patch_points_at_causes_of_one_patch(model, name):
    pictures = plant(25, seed=SEED, largest=1)
    row = judge(name, explain_planted(name, model, pictures=pictures), pictures=pictures)
    assert row.pointing.value >= 0.98
    assert row.right_class.value >= 0.98


def test_rollout_is_exposed_as_knowing_no_class(rows):
    assert rows["rollout"].right_class.value == 0.5
    assert not rows["rollout"].conforms


def test_the_most_copied_mistake_is_told_by_name(rows):
    assert rows["copied"].known_mistake.startswith("gradient rollout, gradients in reverse order")
    assert not rows["copied"].conforms
    assert any("a known mistake" in line for line in table(tuple(rows.values())))


def test_every_control_is_beaten_by_every_conforming_method(rows):
    controls = [row for row in rows.values() if row.is_control]
    for name in CONFORMING:
        for control in controls:
            assert rows[name].pointing.low > control.pointing.high


def test_an_explainer_is_found_by_its_importable_name():
    assert find("vitrail.color:colorize").__name__ == "colorize"
    with pytest.raises(InputError, match=r"it must be path\.to:function"):
        find("vitrail.color:magic")
    with pytest.raises(InputError, match=r"it must be path\.to:function"):
        find("nowhere")
