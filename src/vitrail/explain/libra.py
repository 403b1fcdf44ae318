"""Gradients that add up: corrected backward rules as a mode, and LibraGrad's token attributions.

A Vision Transformer's plain gradient times input does not add up to the score, because softmax,
LayerNorm and GELU answer to their input more or less than in proportion. :class:`Corrected`
leaves every forward value as it is and detaches the factors that spoil the sum. It lives in a
``with`` block only and patches nothing.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.folded import folded_attention
from vitrail.explain.intercept import Intercept, constant_parameters, entered
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request, gradients
from vitrail.explain.tokens import TokenWatch
from vitrail.explain.trace import accumulation_dtype

VARIANTS = ("fullgrad_plus", "fullgrad", "input_x_gradient")
Shares = tuple[float, float, float]

LIBRA: Shares = (0.0, 0.0, 1.0)
"""Attention's weights are constants; all of the gradient goes to the values."""

ATTN_LRP: Shares = (0.25, 0.25, 0.5)
"""Each of the two products of attention halves what goes to its two factors."""

_LAYERS = frozenset({"linear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "einsum"})
_PRODUCTS = frozenset({"mul", "__mul__", "__rmul__", "multiply"})
_MATRIX_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm"})
_QUOTIENTS = frozenset({"div", "__truediv__", "true_divide", "divide"})
_CONSTANTS = frozenset({"sigmoid", "erf", "rsqrt", "reciprocal", "__rtruediv__", "__rdiv__"})


class Corrected(Intercept):
    """Detach the denominators of norms, the gates of activations, and shares of attention.

    ==================  ===========================================================
    call                what it becomes
    ==================  ===========================================================
    layer_norm          (x - mean) / detach(sqrt(var + eps)) · weight + bias
    rms_norm            x / detach(sqrt(mean x² + eps)) · weight;  normalize: x / detach(norm)
    gelu                u · detach(Φ(u));  silu: u · detach(sigmoid(u))
    sigmoid, erf        detached: written-out gates
    rsqrt, 1 / b        detached: written-out denominators, b in a / b, too
    a · b               half of the gradient to each, where both are activations
    attention           gradients of query, key, value times ``shares``
    written softmax     detached if query and key get no share
    ==================  ===========================================================

    Args:
        shares: Of query, key and value.
        fold_targets: Whether several targets are differentiated in one batched pass.

    Attributes:
        layers: How many linear layers and convolutions were seen.
    """

    def __init__(self, *, shares: Shares = LIBRA, fold_targets: bool = False) -> None:
        super().__init__()
        self.shares = shares
        self.fold_targets = fold_targets
        self.layers = 0

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call under its corrected rule, with the model's parameters as constants."""
        self.layers += name in _LAYERS
        args, kwargs = constant_parameters(args, kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if name in _RULES:
            return _RULES[name](*args, **kwargs)
        if name in _CONSTANTS:
            return func(*args, **kwargs).detach()
        if name in _QUOTIENTS and _active(*args[:2]):
            args = (args[0], args[1].detach(), *args[2:])
        if name == "softmax" and args[0].ndim >= 3 and self.shares[0] == self.shares[1] == 0.0:
            return func(*args, **kwargs).detach()
        if (name in _PRODUCTS and _both_active(args)) or (
            name in _MATRIX_PRODUCTS and self.shares[2] < 1.0 and _active(*args[:2])
        ):
            args = (shared(args[0], 0.5), shared(args[1], 0.5), *args[2:])
        elif name == "einsum" and self.shares[2] < 1.0 and _active(*args[1:]):
            args = (args[0], shared(args[1], 0.5), shared(args[2], 0.5))
        return func(*args, **kwargs)

    def _attention(  # noqa: PLR0917 (torch's signature)
        self, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kwargs: Any
    ) -> Tensor:
        """Attend, each factor with its share of the gradient."""
        query, key, value = (
            shared(part, share)
            for part, share in zip((query, key, value), self.shares, strict=True)
        )
        named = dict(zip(("attn_mask", "dropout_p", "is_causal", "scale"), rest, strict=False))
        named |= kwargs
        if not self.fold_targets or named.get("enable_gqa"):
            return F.scaled_dot_product_attention(query, key, value, **named)
        named.pop("dropout_p", None)
        named.pop("enable_gqa", None)
        return folded_attention(query, key, value, **named)


def shared(tensor: Tensor, share: float) -> Tensor:
    """Return ``tensor`` with its gradient multiplied by ``share``."""
    if share in {0.0, 1.0}:
        return tensor if share else tensor.detach()
    return tensor * share + (tensor * (1.0 - share)).detach()


def _layer_norm(  # noqa: PLR0917 (torch's signature)
    input: Tensor,  # noqa: A002 (torch's name)
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Normalize with a constant denominator."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    wide = input.to(accumulation_dtype(input))
    centered = wide - wide.mean(dim=axes, keepdim=True)
    scale = centered.detach().square().mean(dim=axes, keepdim=True).add(eps).sqrt()
    result = (centered / scale).to(input.dtype)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _rms_norm(  # noqa: PLR0917 (torch's signature)
    input: Tensor,  # noqa: A002 (torch's name)
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Normalize with a constant denominator."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    wide = input.to(accumulation_dtype(input))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    scale = wide.detach().square().mean(dim=axes, keepdim=True).add(eps).sqrt()
    result = (wide / scale).to(input.dtype)
    return result if weight is None else result * weight


def _gelu(input: Tensor, *, approximate: str = "none") -> Tensor:  # noqa: A002 (torch's name)
    """Multiply by a constant gate."""
    u = input.detach()
    if approximate == "tanh":
        gate = 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (u + 0.044715 * u**3)))
    else:
        gate = 0.5 * (1.0 + torch.erf(u / math.sqrt(2.0)))
    return input * gate


def _silu(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002, ARG001, FBT001, FBT002
    """Multiply by a constant gate."""
    return input * input.detach().sigmoid()


def _normalize(  # noqa: PLR0917 (torch's signature)
    input: Tensor,  # noqa: A002 (torch's name)
    p: float = 2.0,
    dim: int | tuple[int, ...] = 1,
    eps: float = 1e-12,
    **_: Any,
) -> Tensor:
    """Divide by a constant norm."""
    length: Tensor = torch.linalg.vector_norm(input.detach(), p, dim, keepdim=True)
    return input / length.clamp_min(eps)


_RULES: dict[str, Callable[..., Tensor]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu,
    "silu": _silu,
    "normalize": _normalize,
}


def _both_active(args: tuple[Any, ...]) -> bool:
    """Tell whether a product's factors are both activations of one shape."""
    return _active(*args[:2]) and args[0].shape == args[1].shape


def _active(*parts: object) -> bool:
    """Tell whether these are two operands that both depend on the images."""
    return len(parts) == 2 and all(
        isinstance(part, Tensor) and part.requires_grad for part in parts
    )


@register(
    "libra",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="1 forward, 1 backward",
    source="mehri2025libragrad",
    row_form=True,
)
def libra(request: Request, *, variant: str = "fullgrad_plus") -> Scores:
    """Attribute the score to the tokens by corrected gradients (:class:`Corrected`).

    With Z_l the input of block l, t = Z_0, and b every bias after t (norms, linear layers)::

        input_x_gradient   Σ_d t ⊙ dy/dt
        fullgrad           input_x_gradient + Σ_b Σ_d b ⊙ dy/d(output of b's layer)
        fullgrad_plus      Σ_l Σ_d Z_l ⊙ dy/dZ_l + the same sum over the biases

    A bias after pooling (the head's) falls on the rows that the answer is read from; under
    attention pooling evenly on all.

    Args:
        request: Model, images and target.
        variant: One of the three.

    Returns:
        Signed scores of the tokens. Of ``fullgrad`` also the residual: the score minus their sum,
        zero but for rounding unless the model holds a nonlinearity that has no rule here.

    Raises:
        MethodError: If the variant is unknown or the blocks' inputs cannot be told.

    Source: mehri2025libragrad; srinivas2019fullgrad for the biases.

    Differs: the authors' preset explains the softmax probability and suppresses some patches'
    embedding gradients; here the target is the logit and nothing is suppressed.
    """
    if variant not in VARIANTS:
        raise MethodError(
            "variant", repr(variant), f"it must be one of {VARIANTS}", "pass one of these"
        )
    scores, watch, images = watched(request)
    if not watch.is_plain:
        request.record()  # refuses windowed models and models without attention by what it sees
    layout = request.anatomy()
    norms = watch.blocks(layout, len(request.images))
    inputs = list({id(norm.input): norm.input for norm in norms}.values())  # once, side by side
    wanted = inputs if variant == "fullgrad_plus" else inputs[:1]
    noted = watch.since_first_block() if variant != "input_x_gradient" else []
    biased = [
        (call, call.bias.detach())
        for call in noted
        if call.output.requires_grad and call.bias is not None
    ]
    wanted_too = [] if request.kept is None else [images]
    slopes = gradients(scores, [*wanted, *(call.output for call, _ in biased), *wanted_too])
    if request.kept is not None:
        request.kept.slopes[LIBRA], slopes = slopes[-1], slopes[:-1]
    dtype = accumulation_dtype(scores)
    total = torch.zeros(*slopes[0].shape[:-1], dtype=dtype, device=scores.device)
    for slope, tokens in zip(slopes, wanted, strict=False):
        total += (slope.to(dtype) * tokens.detach().to(dtype)).sum(dim=-1)
    if layout.readout == "map":
        layout = replace(layout, readout="token_mean")
    readout = layout.readout_row(scores.detach().to(dtype))
    for slope, (call, bias) in zip(slopes[len(wanted) :], biased, strict=True):
        total += call.by_token(slope.to(dtype) @ bias.to(dtype), readout, batch=len(request.images))
    residual = scores.detach().to(dtype) - total.sum(dim=-1)
    return Scores(tokens=total, residual=residual if variant == "fullgrad" else None)


def watched(
    request: Request,
) -> tuple[Float[Tensor, "target batch"], TokenWatch, Float[Tensor, "batch channel height width"]]:
    """Run the images once under corrected rules: the scores, what was watched, what went in."""
    several = isinstance(request.selection.target, str) and request.selection.target == "all"
    images = request.images.detach().clone().requires_grad_()
    watch = TokenWatch()
    with torch.enable_grad(), entered(request.model, Corrected(fold_targets=several), watch):
        scores = request.scores(images)
    return scores, watch, images
