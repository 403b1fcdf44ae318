"""Recorded attention and rollout equal what published implementations computed.

A tolerance is the largest difference over one map as a share of the map's largest absolute value.
The peers' known mistakes are restated here, to show that ours differs from them and only by them.
"""

import numpy as np
import pytest
import torch

from vitrail.explain import capture, explain

pytestmark = pytest.mark.shared

ROLLOUTS = {
    "rollout__chefer_cls": {},
    "rollout__vitexplain_mean_d0_rownorm": {},
    "rollout__vitexplain_max_d0_rownorm": {"head_fusion": "max"},
    "rollout__vitexplain_min_d0_rownorm": {"head_fusion": "min"},
    "rollout__vitexplain_mean_d05_rownorm": {"discard_ratio": 0.5},
    "rollout__vitexplain_max_d05_rownorm": {"head_fusion": "max", "discard_ratio": 0.5},
    "rollout__vitexplain_min_d05_rownorm": {"head_fusion": "min", "discard_ratio": 0.5},
    "rollout__vitexplain_max_d09_rownorm": {"head_fusion": "max", "discard_ratio": 0.9},
}


def worst(ours, golden, *, axes):
    """Return the largest difference over one map, as a share of the map's largest value."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    assert ours.shape == golden.shape
    return float((np.abs(ours - golden).max(axes) / np.abs(golden).max(axes)).max())


@pytest.fixture(scope="module")
def trace(model, images):
    with capture(model) as recorded:
        recorded.logits = model(images)
    return recorded


def test_logits_under_capture_are_the_golden_logits(trace, inputs):
    assert worst(trace.logits.detach(), inputs["logits"], axes=1) <= 1e-5


def test_recorded_attention_is_the_golden_attention(trace, inputs):
    attention = torch.stack([layer.attention() for layer in trace.layers], dim=1)
    assert worst(attention.detach(), inputs["attn"], axes=(2, 3, 4)) <= 2e-5


def test_attention_gradients_of_all_classes_are_the_golden_gradients(model, images, inputs):
    with capture(model, fold_targets=True) as trace:
        logits = model(images)
    outputs = [layer.output for layer in trace.layers]
    found = torch.autograd.grad(
        logits.sum(0), outputs, grad_outputs=torch.eye(5), is_grads_batched=True
    )
    rows = [layer.attention_gradient(part) for layer, part in zip(trace.layers, found, strict=True)]
    ours = torch.stack(rows, dim=0).permute(2, 1, 0, 3, 4, 5)
    assert worst(ours, inputs["attn_grad"], axes=(2, 3, 4, 5)) <= 2e-5


@pytest.mark.parametrize("name", ROLLOUTS)
def test_rollout_is_the_golden_rollout(model, images, maps, name):
    ours = explain(model, images, method="rollout", **ROLLOUTS[name]).values
    assert worst(ours, maps[name], axes=(1, 2)) <= 1e-5


def test_rollout_is_the_class_row_of_the_joint_matrix(model, images, maps):
    ours = explain(model, images, method="rollout")
    row = torch.cat([ours.prefix, ours.values.flatten(1)], dim=1)
    assert worst(row, maps["rollout__chefer_joint"][:, 0], axes=1) <= 1e-5


def as_shipped(attention, *, fusion, discard_ratio):
    """Restate vit-explain's rollout: columns are divided by row sums, for want of keepdim."""
    num_tokens = attention.shape[-1]
    joint = np.eye(num_tokens)
    for layer in attention:
        fused = getattr(layer, fusion)(axis=0)
        flat = fused.ravel().copy()
        smallest = np.argsort(flat, kind="stable")[: int(flat.size * discard_ratio)]
        flat[smallest[smallest != 0]] = 0
        mixed = (flat.reshape(fused.shape) + np.eye(num_tokens)) / 2
        joint = (mixed / mixed.sum(axis=-1)) @ joint
    return joint[0, 1:].reshape(4, 4)


@pytest.mark.parametrize(
    ("name", "fusion", "discard_ratio"),
    [
        ("rollout__vitexplain_max_d0_shipped", "max", 0.0),
        ("rollout__vitexplain_min_d0_shipped", "min", 0.0),
        ("rollout__vitexplain_mean_d05_shipped", "mean", 0.5),
        ("rollout__vitexplain_max_d05_shipped", "max", 0.5),
        ("rollout__vitexplain_min_d05_shipped", "min", 0.5),
        ("rollout__vitexplain_max_d09_shipped", "max", 0.9),
    ],
)
def test_vit_explain_as_shipped_differs_by_its_column_division(
    model, images, inputs, maps, name, fusion, discard_ratio
):
    theirs = np.stack(
        [
            as_shipped(image.astype(np.float64), fusion=fusion, discard_ratio=discard_ratio)
            for image in inputs["attn"]
        ]
    )
    ours = explain(
        model, images, method="rollout", head_fusion=fusion, discard_ratio=discard_ratio
    ).values
    assert worst(theirs, maps[name], axes=(1, 2)) <= 1e-5
    assert worst(ours, maps[name], axes=(1, 2)) > 1e-2


def test_vit_explain_as_shipped_is_right_where_row_sums_are_one(model, images, maps):
    ours = explain(model, images, method="rollout").values
    assert worst(ours, maps["rollout__vitexplain_mean_d0_shipped"], axes=(1, 2)) <= 1e-5
