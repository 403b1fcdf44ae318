"""Rollout and raw attention once more: slowly, literally, in float64."""

import numpy as np
import pytest
import timm
import torch

from vitrail.explain import capture, explain

DEPTH, HEADS, GRID = 3, 2, (2, 3)
NUM_TOKENS = 1 + GRID[0] * GRID[1]


@pytest.fixture(scope="module", params=["token", "avg"])
def model(request):
    torch.manual_seed(0)
    network = timm.models.VisionTransformer(
        img_size=(16, 24),
        patch_size=8,
        embed_dim=16,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=4,
        global_pool=request.param,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(
        2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(scope="module")
def attention(model, images):
    """Return softmax(QKᵀ/√d) [layer, batch, head, query, key], from the weights and activations."""
    found = []
    with torch.no_grad():
        tokens = model._pos_embed(model.patch_embed(images))
        for block in model.blocks:
            normed = block.norm1(tokens).numpy()
            weight, bias = block.attn.qkv.weight.numpy(), block.attn.qkv.bias.numpy()
            layer = np.zeros((len(images), HEADS, NUM_TOKENS, NUM_TOKENS))
            for image, head, query in np.ndindex(len(images), HEADS, NUM_TOKENS):
                projected = normed[image] @ weight.T + bias
                width = 16 // HEADS
                q = projected[query, head * width : (head + 1) * width]
                keys = projected[:, 16 + head * width : 16 + (head + 1) * width]
                scores = np.array([q @ key for key in keys]) / np.sqrt(width)
                layer[image, head, query] = np.exp(scores) / np.exp(scores).sum()
            found.append(layer)
            tokens = block(tokens)
    return np.stack(found)


def read_out(model, matrix):
    """Return the row(s) that the model reads: the class token's, or the mean of the patches'."""
    return matrix[0] if model.global_pool == "token" else matrix[1:].mean(axis=0)


def literal_rollout(model, attention, *, fusion, discard_ratio, residual, start_layer):
    """Follow Abnar & Zuidema 2020, section 3: joint(l) = A(l) joint(l-1)."""
    maps = []
    for image in range(attention.shape[1]):
        joint = np.eye(NUM_TOKENS)
        for layer in range(start_layer, DEPTH):
            heads = attention[layer, image]
            fused = {"mean": heads.mean(0), "max": heads.max(0), "min": heads.min(0)}[fusion]
            ranked = sorted(np.ndindex(fused.shape), key=lambda place: fused[place])
            thinned = fused.copy()
            for place in ranked[: int(discard_ratio * fused.size)]:
                if place != (0, 0):
                    thinned[place] = 0
            mixed = residual * np.eye(NUM_TOKENS) + (1 - residual) * thinned
            for query in range(NUM_TOKENS):
                mixed[query] /= mixed[query].sum()
            joint = mixed @ joint
        maps.append(read_out(model, joint)[1:].reshape(GRID))
    return np.stack(maps)


def test_recorded_attention_is_softmax_of_scaled_products(model, images, attention):
    with capture(model) as trace:
        model(images)
    ours = torch.stack([layer.attention() for layer in trace.layers])
    np.testing.assert_allclose(ours.detach(), attention, rtol=1e-10)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize(
    ("discard_ratio", "residual", "start_layer"),
    [(0.0, 0.5, 0), (0.3, 0.5, 0), (0.9, 0.5, 1), (0.3, 0.2, 1), (0.0, 0.0, 0)],
)
def test_rollout_is_the_product_of_the_papers_matrices(
    model, images, attention, fusion, discard_ratio, residual, start_layer
):
    ours = explain(
        model,
        images,
        method="rollout",
        head_fusion=fusion,
        discard_ratio=discard_ratio,
        residual=residual,
        start_layer=start_layer,
    )
    theirs = literal_rollout(
        model,
        attention,
        fusion=fusion,
        discard_ratio=discard_ratio,
        residual=residual,
        start_layer=start_layer,
    )
    np.testing.assert_allclose(ours.values, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("layer", range(DEPTH))
def test_raw_attention_is_the_read_out_row_of_one_layer(model, images, attention, layer):
    for head in (*range(HEADS), None):
        ours = explain(model, images, method="raw_attention", layer=layer, head=head)
        chosen = attention[layer].mean(1) if head is None else attention[layer][:, head]
        theirs = np.stack([read_out(model, matrix)[1:].reshape(GRID) for matrix in chosen])
        np.testing.assert_allclose(ours.values, theirs, rtol=1e-9)
