"""Linear layers in the processor's own widest instructions, with the same numbers but for rounding.

PyTorch gives float32 linear layers to MKL, which takes half of the width that some processors have
(AVX2 on AMD's, where oneDNN takes AVX-512). Nothing is rounded to a shorter type here: products are
float32 and only the order of the sums is another one. Like everything in this package it is a mode:
it holds inside its block, in its thread, and leaves nothing behind.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.explain.intercept import Intercept


class WideLinear(Intercept):
    """Makes linear layers' calls by oneDNN, where it can: float32 on a CPU, and built with it.

    Gradients reach the input alone: inside the block nothing is trained.

    Example:
        >>> import torch
        >>> from vitrail.explain.intercept import entered
        >>> layer, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
        >>> with entered(layer, WideLinear()):
        ...     inside = layer(x)
        >>> torch.allclose(inside, layer(x))
        True
    """

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call, a linear layer's by oneDNN."""
        if name != "linear" or not _serves(*args, **kwargs):
            return func(*args, **kwargs)
        return _linear(*args, **kwargs)


def _serves(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:  # noqa: A002 (torch's name)
    """Tell whether oneDNN can make this call."""
    given = (input, weight) if bias is None else (input, weight, bias)
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and all(part.device.type == "cpu" and part.dtype == torch.float32 for part in given)
        and input.ndim > 1
        and weight.ndim == 2
        and input.numel() > 0
    )


def _linear(
    input: Float[Tensor, "*rows channel"],  # noqa: A002 (torch's name)
    weight: Float[Tensor, "feature channel"],
    bias: Float[Tensor, " feature"] | None = None,
) -> Float[Tensor, "*rows feature"]:
    """Return input · weightᵀ + bias, with its graph where one is wanted."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if not (torch.is_grad_enabled() and input.requires_grad):
        return _product(input, weight, bias)
    found: Tensor = _Linear.apply(input, weight, bias)
    return found


class _Linear(torch.autograd.Function):
    """A linear layer of constant weights."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        values, weight, bias = inputs
        ctx.save_for_backward(weight)
        return _product(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return _product(gradients[0], weight.mT, None), None, None


def _product(
    values: Float[Tensor, "*rows channel"],
    weight: Float[Tensor, "feature channel"],
    bias: Float[Tensor, " feature"] | None,
) -> Float[Tensor, "*rows feature"]:
    """Call oneDNN, without an activation after the layer."""
    by_onednn = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 (torch has no public name for it)
    found: Tensor = by_onednn(values.contiguous(), weight.contiguous(), bias, "none", [], "")
    return found
