"""Transformer attribution once more: relevance pushed down layer by layer, every matrix in hand.

The rules are those of the paper's section 3 as its code settles them (alpha = 1); float64, one
image. Nothing is added to a denominator here; the package, as the published code, keeps each 1e-9
away from zero, which is all that the two may differ by.
"""

import pytest
import torch
from torch.nn import functional as F

from vitrail.explain import explain

HEADS, LAYERS, CLASSES = 2, 3, 3


@pytest.fixture(scope="module")
def model(random_vit):
    return random_vit(8, depth=LAYERS, num_heads=HEADS, num_classes=CLASSES)


def share(relevance, total):
    return torch.where(total == 0, 0.0, relevance / total)


def through_linear(relevance, x, layer):
    """R_j = Σ_i (x⁺w⁺ + x⁻w⁻)_ji / Σ_j (x⁺w⁺ + x⁻w⁻)_ji · R_i; the bias gets nothing."""
    terms = (x[..., None, :] * layer.weight).clamp(min=0)  # token, out, in
    return (terms * share(relevance, terms.sum(-1))[..., None]).sum(-2)


def through_product(relevance, left, right):
    """Each factor of left @ right gets half, in proportion to the terms."""
    weight = share(relevance, left @ right)
    return left * (weight @ right.mT) / 2, right * (left.mT @ weight) / 2


def through_sum(relevance, a, b):
    """In proportion to the terms, rescaled to |Σa| : |Σb| of the whole."""
    weight = share(relevance, a + b)
    a, b = a * weight, b * weight
    whole = a.sum().abs() + b.sum().abs()
    total = relevance.sum()
    return (
        a * (a.sum().abs() / whole * total) / a.sum(),
        b * (b.sum().abs() / whole * total) / b.sum(),
    )


def run(model, image):
    """Return the logits and, for each block, all that its rules need."""
    x = model.patch_embed(image)
    x = (torch.cat([model.cls_token, x], dim=1) + model.pos_embed)[0]
    kept = []
    for block in model.blocks:
        normed = block.norm1(x)
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for part in block.attn.qkv(normed).chunk(3, dim=-1)
        )
        attention = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
        mixed = (attention @ value).transpose(0, 1).flatten(1)
        attended = block.attn.proj(mixed)
        middle = x + attended
        normed2 = block.norm2(middle)
        hidden = F.gelu(block.mlp.fc1(normed2))
        fed = block.mlp.fc2(hidden)
        kept.append((x, normed, query, key, value, attention, mixed, attended, middle, normed2,
                     hidden, fed))  # fmt: skip
        x = middle + fed
    final = model.norm(x)
    return model.head(final[0]), final, kept


def literal(model, image, target, start_layer):
    logits, final, kept = run(model, image)
    gradients = torch.autograd.grad(logits[target], [parts[5] for parts in kept])
    relevance = torch.zeros_like(final)
    relevance[0] = through_linear(F.one_hot(torch.tensor(target), CLASSES).double(), final[0],
                                  model.head)  # fmt: skip
    matrices = []
    for block, parts, gradient in zip(
        reversed(model.blocks), reversed(kept), reversed(gradients), strict=True
    ):
        (x, normed, query, key, value, attention, mixed, attended, middle, normed2, hidden,
         fed) = parts  # fmt: skip
        skipped, fed_relevance = through_sum(relevance, middle, fed)
        hidden_relevance = through_linear(fed_relevance, hidden, block.mlp.fc2)
        relevance = skipped + through_linear(hidden_relevance, normed2, block.mlp.fc1)
        skipped, attended_relevance = through_sum(relevance, x, attended)
        heads = through_linear(attended_relevance, mixed, block.attn.proj)
        heads = heads.unflatten(-1, (HEADS, -1)).transpose(0, 1)
        at_attention, at_value = through_product(heads, attention, value)
        matrices.append((gradient * at_attention).clamp(min=0).mean(0))
        at_query, at_key = through_product(at_attention, query, key.mT)
        stacked = torch.stack([at_query, at_key.mT, at_value])  # kind, head, token, dim
        into_qkv = stacked.permute(2, 0, 1, 3).flatten(1)
        relevance = skipped + through_linear(into_qkv, normed, block.attn.qkv)
    rolled = torch.eye(len(final), dtype=torch.float64)
    for matrix in matrices[::-1][start_layer:]:
        rolled = rolled + matrix @ rolled
    return rolled[0, 1:].unflatten(0, (2, 3)).detach()


@pytest.mark.parametrize("start_layer", [0, 1])
@pytest.mark.parametrize("target", range(CLASSES))
def test_transformer_attribution_is_relevance_times_gradient_rolled_out(model, target, start_layer):
    image = torch.randn(
        1, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    ours = explain(
        model, image, method="transformer_attribution", target=target, start_layer=start_layer
    ).values[0]
    expected = literal(model, image, target, start_layer)
    assert expected.abs().max() > 0
    largest = float(expected.abs().max())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * largest)
