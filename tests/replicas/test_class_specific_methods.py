"""Each formula once more, slowly and literally, in float64, beside its equation number.

The replicas share one thing with the package: the weights. They write the whole Transformer out
for one image, with every attention matrix in hand, and follow the papers' matrix forms.
"""

import math

import pytest
import torch

from vitrail.explain import explain
from vitrail.explain.libra import ATTN_LRP, Corrected

HEADS, LAYERS, CLASSES = 2, 3, 3


@pytest.fixture(scope="module")
def model(random_vit):
    return random_vit(3, depth=LAYERS, num_heads=HEADS, num_classes=CLASSES)


@pytest.fixture(scope="module")
def image():
    return torch.randn(
        1, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )


def normalize(x, layer, *, constant=False):
    """Write LayerNorm out; ``constant`` detaches the denominator."""
    centered = x - x.mean(-1, keepdim=True)
    deviation = (centered.square().mean(-1, keepdim=True) + layer.eps).sqrt()
    return centered / (deviation.detach() if constant else deviation) * layer.weight + layer.bias


def gelu(x, *, constant=False):
    gate = (1 + torch.erf(x / math.sqrt(2))) / 2
    return x * (gate.detach() if constant else gate)


class Literal:
    """One image through the Transformer, keeping every block's input, attention and output."""

    def __init__(self, model, image, *, constant=False, constant_attention=False, halves=False):
        self.attention, self.inputs, self.outputs = [], [], []
        tokens = model.patch_embed(image)[0]
        tokens = torch.cat([model.cls_token[0], tokens]) + model.pos_embed[0]
        for block in model.blocks:
            self.inputs.append(tokens)
            normed = normalize(tokens, block.norm1, constant=constant)
            q, k, v = (normed @ block.attn.qkv.weight.T + block.attn.qkv.bias).chunk(3, dim=-1)
            q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(0, 1) for part in (q, k, v))
            if halves:  # each product gives half of the gradient to each factor
                q, k, v = (half(part) for part in (q, k, v))
            attention = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
            if constant_attention:
                attention = attention.detach().requires_grad_()
            self.attention.append(attention)
            mixed = (half(attention) if halves else attention) @ v
            mixed = mixed.transpose(0, 1).flatten(1)
            tokens = tokens + mixed @ block.attn.proj.weight.T + block.attn.proj.bias
            normed = normalize(tokens, block.norm2, constant=constant)
            hidden = gelu(normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias, constant=constant)
            tokens = tokens + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
            self.outputs.append(tokens)
        self.logits = self.read(model, tokens[0], constant=constant)

    @staticmethod
    def read(model, token, *, constant=False):
        return (
            normalize(token, model.norm, constant=constant) @ model.head.weight.T + model.head.bias
        )


def half(x):
    return x / 2 + (x / 2).detach()


def close(ours, literal):
    torch.testing.assert_close(ours[0].flatten(), literal.flatten(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("target", range(CLASSES))
def test_relevance_is_the_papers_matrix_recursion(model, image, target):
    run = Literal(model, image)
    relevance = torch.eye(7, dtype=torch.float64)
    for attention in run.attention:
        (slope,) = torch.autograd.grad(run.logits[target], attention, retain_graph=True)
        relevance = relevance + (attention * slope).clamp(min=0).mean(0) @ relevance  # eqs. 5, 6
    close(explain(model, image, method="relevance", target=target).values, relevance[0, 1:])


@pytest.mark.parametrize("start_layer", [0, 1])
def test_gradient_rollout_is_the_product_of_its_matrices(model, image, start_layer):
    run = Literal(model, image)
    product = torch.eye(7, dtype=torch.float64)
    for attention in run.attention[start_layer:]:
        (slope,) = torch.autograd.grad(run.logits[1], attention, retain_graph=True)
        fused = (attention * slope).mean(0).clamp(min=0)
        mixed = (fused + torch.eye(7, dtype=torch.float64)) / 2
        product = mixed / mixed.sum(-1, keepdim=True) @ product
    ours = explain(model, image, method="gradient_rollout", target=1, start_layer=start_layer)
    close(ours.values, product[0, 1:])


@pytest.mark.parametrize("readout", ["mean", "cls"])
def test_legrad_is_the_mean_positive_gradient_of_each_layers_own_score(model, image, readout):
    run = Literal(model, image)
    maps = []
    for attention, tokens in zip(run.attention, run.outputs, strict=True):
        pooled = tokens.mean(0) if readout == "mean" else tokens[0]
        score = Literal.read(model, pooled)[2]
        (slope,) = torch.autograd.grad(score, attention, retain_graph=True)
        maps.append(slope.clamp(min=0).mean(dim=(0, 1)))
    literal = torch.stack(maps).mean(0)[1:]
    close(explain(model, image, method="legrad", target=2, readout=readout).values, literal)


def test_cp_lrp_is_the_gradient_with_constant_attention_norms_and_gates(model, image):
    pixels = image.clone().requires_grad_()
    run = Literal(model, pixels, constant=True, constant_attention=True)
    (slope,) = torch.autograd.grad(run.logits[0], pixels)
    close(explain(model, image, method="cp_lrp", target=0).pixels, pixels.detach() * slope)


def relevance_of_product(first, second, relevance):
    """AttnLRP, eq. 15: R(a_ji) = Σ_p a_ji b_ip R(o_jp) / (2 o_jp), and likewise for b."""
    share = relevance / (2 * (first @ second))
    return first * (share @ second.mT), second * (first.mT @ share)


def test_attention_under_attn_lrp_follows_the_papers_rules_one_by_one():
    generator = torch.Generator().manual_seed(0)
    q, k, v, relevance = (
        torch.randn(1, 1, 4, 3, dtype=torch.float64, generator=generator) for _ in range(4)
    )
    scores = q @ k.mT / math.sqrt(3)
    attention = scores.softmax(-1)
    at_attention, at_values = relevance_of_product(attention, v, relevance)
    at_scores = scores * (at_attention - attention * at_attention.sum(-1, keepdim=True))  # eq. 13
    at_query, at_key = relevance_of_product(q, k.mT, at_scores)

    parts = [part.clone().requires_grad_() for part in (q, k, v)]
    with Corrected(shares=ATTN_LRP):
        output = torch.nn.functional.scaled_dot_product_attention(*parts)
    slopes = torch.autograd.grad(output, parts, relevance / output.detach())
    ours = [part.detach() * slope for part, slope in zip(parts, slopes, strict=True)]
    for mine, literal in zip(ours, (at_query, at_key.mT, at_values), strict=True):
        torch.testing.assert_close(mine, literal, rtol=1e-9, atol=1e-11)


def test_attn_lrp_is_the_gradient_with_halved_products(model, image):
    pixels = image.clone().requires_grad_()
    run = Literal(model, pixels, constant=True, halves=True)
    (slope,) = torch.autograd.grad(run.logits[0], pixels)
    # The value path passes one product, the query and key path two: half() is on q, k, v once and
    # on the attention once, which are the paper's two halvings.
    close(explain(model, image, method="attn_lrp", target=0).pixels, pixels.detach() * slope)


def test_fullgrad_plus_sums_every_blocks_input_and_every_bias(model, image):
    run = Literal(model, image.clone().requires_grad_(), constant=True, constant_attention=True)
    total = 0
    for tokens in run.inputs:
        (slope,) = torch.autograd.grad(run.logits[1], tokens, retain_graph=True)
        total = total + (tokens * slope).sum(-1)
    (plain,) = torch.autograd.grad(run.logits[1], run.inputs[0], retain_graph=True)
    first = (run.inputs[0] * plain).sum(-1)
    plus = explain(model, image, method="libra", target=1)
    full = explain(model, image, method="libra", target=1, variant="fullgrad")
    with_biases = torch.cat([full.prefix, full.values.flatten(1)], dim=1)
    biases = with_biases[0] - first
    # What the biases add makes the sum complete, and it is the same in both variants.
    torch.testing.assert_close(with_biases.sum(), run.logits[1], rtol=1e-9, atol=1e-11)
    ours = torch.cat([plus.prefix, plus.values.flatten(1)], dim=1)[0]
    torch.testing.assert_close(ours, total + biases, rtol=1e-9, atol=1e-11)


def test_integrated_gradients_is_the_sum_over_its_nodes(model, image):
    literal = torch.zeros_like(image)
    for step in range(4):
        point = (0.2 + (step + 0.5) / 4 * (image - 0.2)).requires_grad_()
        (slope,) = torch.autograd.grad(model(point)[0, 1], point)
        literal += (image - 0.2) * slope / 4  # eq. 3
    ours = explain(
        model, image, method="integrated_gradients", target=1,
        steps=4, rule="midpoint", baseline=0.2, batch_size=3,
    )  # fmt: skip
    close(ours.pixels, literal)
    shortfall = (model(image) - model(torch.full_like(image, 0.2)))[0, 1] - literal.sum()
    torch.testing.assert_close(ours.residual[0], shortfall.detach(), rtol=1e-9, atol=1e-11)


def test_dropping_a_token_equals_running_the_shorter_sequence(model, image):
    ours = explain(model, image, method="token_drop", target=1).values
    whole = Literal(model, image).logits[1]
    lost = []
    for gone in range(1, 7):
        kept = [token for token in range(7) if token != gone]
        tokens = torch.cat([model.cls_token, model.patch_embed(image)], 1) + model.pos_embed
        lost.append(whole - model.head(model.norm(model.blocks(tokens[:, kept])))[0, 0, 1])
    close(ours, torch.stack(lost).detach())
