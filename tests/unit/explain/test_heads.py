"""Whole attention and head importance, against literal replicas."""

import pytest
import timm
import torch

from vitrail.errors import InputError
from vitrail.explain import attention_maps, attention_matrices, head_importance


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=3,
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
    ).eval()


def test_rows_sum_to_one_and_the_read_outs_row_is_the_attention_map(model):
    image = torch.randn(1, 3, 32, 32)
    whole = attention_matrices(model, image)
    assert whole.shape == (2, 2, 17, 17)
    torch.testing.assert_close(whole.sum(dim=-1), torch.ones(2, 2, 17))
    maps = attention_maps(model, image)[:, 0]
    torch.testing.assert_close(whole[:, :, 0, 1:].reshape(2, 2, 4, 4), maps)


def test_importance_is_the_scores_derivative_by_a_gate_on_each_head(model):
    images = torch.randn(2, 3, 32, 32)
    found = head_importance(model, images, target=1)
    for layer, block in enumerate(model.blocks):
        for head in range(2):
            slopes = []
            for sign in (1, -1):
                gate = torch.ones(24)
                gate[head * 12 : head * 12 + 12] += sign * 1e-2
                handle = block.attn.proj.register_forward_pre_hook(
                    lambda _, args, gate=gate: args[0] * gate.double()
                )
                with torch.no_grad():
                    slopes.append(model.double()(images.double())[:, 1])
                handle.remove()
            slope = (slopes[0] - slopes[1]).abs() / 2e-2
            torch.testing.assert_close(found[layer, :, head].double(), slope, rtol=5e-2, atol=1e-5)
    model.float()


def test_one_class_and_one_image_are_asked_for(own_vit, pictures):
    with pytest.raises(InputError, match="target: 'all'; one class an image is explained"):
        head_importance(own_vit(), pictures, target="all")
    with pytest.raises(InputError, match="image: 2 images; one is taken at a time"):
        attention_matrices(own_vit(), pictures)
