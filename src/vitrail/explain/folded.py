"""Fused attention whose backward pass takes several targets at once.

``torch.autograd.grad(..., is_grads_batched=True)`` runs the backward pass under ``vmap``. The fused
kernels' backward has no batching rule and would be called target by target, with a warning. Here
the target axis is folded into the batch axis instead, so that one kernel call serves all targets.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from torch import Tensor


def folded_attention(  # noqa: PLR0917 (torch's signature)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Compute ``scaled_dot_product_attention`` with a backward that can be batched.

    The mask is taken as a constant.
    """
    mask = None if attn_mask is None else attn_mask.detach()
    output: Tensor = _Attention.apply(query, key, value, mask, (is_causal, scale))
    return output


class _Attention(torch.autograd.Function):
    """Forward: fused attention. Backward: :class:`_Backward`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, value, mask, (is_causal, scale) = inputs
        ctx.save_for_backward(query, key, value)
        ctx.mask, ctx.settings = mask, (is_causal, scale)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        parts = _Backward.apply(gradients[0], *ctx.saved_tensors, ctx.mask, ctx.settings)
        return *parts, None, None


class _Backward(torch.autograd.Function):
    """The fused backward kernel, called through a recomputed forward."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        gradient, query, key, value, mask, (is_causal, scale) = inputs
        with torch.enable_grad():
            query, key, value = (part.detach().requires_grad_() for part in (query, key, value))
            output = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale
            )
        return torch.autograd.grad(output, (query, key, value), gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: PLR0917 (torch's)
        """Save nothing: nobody differentiates twice."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, /, *inputs: Any) -> Any:
        gradient, *parts, mask, settings = inputs
        size = info.batch_size
        gradient = gradient.movedim(in_dims[0], 0)
        folded = [
            part.movedim(axis, 0) if axis is not None else part.expand(size, *part.shape)
            for part, axis in zip(parts, in_dims[1:4], strict=True)
        ]
        if mask is not None and mask.ndim == gradient.ndim - 1 and mask.shape[0] > 1:
            mask = mask.expand(size, *mask.shape).flatten(0, 1)
        results = _Backward.apply(
            gradient.flatten(0, 1), *(part.flatten(0, 1) for part in folded), mask, settings
        )
        return tuple(part.unflatten(0, (size, -1)) for part in results), (0, 0, 0)
