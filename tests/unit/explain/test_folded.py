"""Fused attention with a batched backward is fused attention."""

import pytest
import torch
import torch.nn.functional as F

from vitrail.explain.folded import folded_attention


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_batched_gradients_are_those_one_by_one(masked):
    generator = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(3)
    ]
    mask = torch.randn(2, 1, 5, 5, dtype=torch.float64, generator=generator) if masked else None
    ours = folded_attention(*parts, attn_mask=mask)
    plain = F.scaled_dot_product_attention(*parts, attn_mask=mask)
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn(4, *ours.shape, dtype=torch.float64, generator=generator)
    together = torch.autograd.grad(ours, parts, upstream, is_grads_batched=True)
    for number in range(4):
        alone = torch.autograd.grad(plain, parts, upstream[number], retain_graph=True)
        for first, second in zip(together, alone, strict=True):
            torch.testing.assert_close(first[number], second)
