"""A parameter that cannot be used is refused by name, with the rule and the remedy."""

import pytest
import timm
import torch
from torch import nn

from vitrail.errors import MethodError
from vitrail.explain import explain

IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.fixture(scope="module")
def model():
    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=2,
        class_token=False, global_pool="avg",
    ).eval()  # fmt: skip


REFUSALS = [
    ("relevance", {"start_layer": 2}, r"start_layer: 2; the model has attention layers 0 to 1"),
    ("transformer_attribution", {"start_layer": -1}, r"start_layer: -1; the model has"),
    ("legrad", {"start_layer": 9}, r"start_layer: 9; the model has attention layers 0 to 1"),
    ("legrad", {"readout": "max"}, r"readout: 'max'; it must be 'mean' or 'cls'"),
    ("legrad", {"readout": "cls"}, r"readout: 'cls'; the model has no class token"),
    ("gradient_rollout", {"discard_ratio": 1.0}, r"discard_ratio: 1.0; it must lie in \[0, 1\)"),
    ("libra", {"variant": "plus"}, r"variant: 'plus'; it must be one of"),
    ("cp_lrp", {"gamma": (-1.0, 0.0)}, r"gamma: \(-1.0, 0.0\); it must be two numbers from 0 up"),
    ("attn_lrp", {"gamma": (0.1, -0.1)}, r"gamma: .*; it must be two numbers from 0 up"),
    ("grad_cam", {"layer": 2}, r"layer: 2; the model has blocks 0 to 1"),
    ("integrated_gradients", {"steps": 0}, r"steps: 0; it must be at least 1"),
    ("integrated_gradients", {"rule": "trapezoid"}, r"rule: 'trapezoid'; it must be"),
    ("integrated_gradients", {"batch_size": 0}, r"batch_size: 0; it must be at least 1"),
    ("smooth_grad", {"noise": 0.0}, r"noise: 0.0; it must be above 0"),
    ("smooth_grad", {"samples": 0}, r"count: 0; it must be at least 1"),
    ("occlusion", {"patch": (32, 8)}, r"patch: \(32, 8\); a patch must fit into the image"),
    ("rise", {"keep": 1.0}, r"keep: 1.0; keep must lie between 0 and 1"),
    ("rise", {"cells": 0}, r"cells: 0; keep must lie"),
]


@pytest.mark.parametrize(("method", "parameters", "message"), REFUSALS)
def test_a_parameter_out_of_range_is_refused(model, method, parameters, message):
    with pytest.raises(MethodError, match=message):
        explain(model, IMAGE, method=method, **parameters)


def test_grad_cam_of_a_cnn_has_one_layer_only():
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    found = explain(cnn.eval(), torch.randn(1, 3, 16, 16), method="grad_cam")
    assert found.values.shape == (1, 14, 14)
    with pytest.raises(MethodError, match=r"layer: 0; of a convolutional model only the last map"):
        explain(cnn, IMAGE, method="grad_cam", layer=0)


def test_libra_refuses_blocks_that_normalize_after_attention():
    class PostNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))

    with pytest.raises(MethodError, match=r"each block must normalize all tokens"):
        explain(PostNorm().eval(), torch.randn(1, 3, 16, 16), method="libra")


def test_transformer_attribution_refuses_a_call_that_has_no_rule(own_vit, pictures):
    def by_einsum(q, k, v):
        weights = (q @ k.mT * 8**-0.5).softmax(dim=-1)
        return torch.einsum("bhij,bhjd->bhid", weights, v)

    with pytest.raises(MethodError, match="after its first attention it calls 'einsum'"):
        explain(own_vit(attend=by_einsum), pictures, method="transformer_attribution")


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace_method. is deprecated:FutureWarning")
@pytest.mark.parametrize("method", ["cp_lrp", "attn_lrp"])
def test_rules_cannot_be_kept_inside_an_exported_graph(own_vit, pictures, method):
    graph = torch.jit.trace(own_vit(), pictures)
    with pytest.raises(MethodError, match="no linear layer or convolution of it was seen"):
        explain(graph, pictures, method=method)


@pytest.mark.parametrize("method", ["libra", "cp_lrp", "transformer_attribution"])
def test_a_model_that_checkpoints_is_told_to_stop(method):
    model = timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=2
    ).eval()
    model.set_grad_checkpointing()
    with pytest.raises(MethodError, match="it checkpoints its activations"):
        explain(model, torch.randn(1, 3, 16, 16), method=method)
