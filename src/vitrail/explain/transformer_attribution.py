"""Chefer's transformer attribution (CVPR 2021): relevance times gradient, rolled out.

Relevance is propagated by a ``TorchFunctionMode`` whose calls have the forward values of the
originals and, in place of their gradient, the rule of layer-wise relevance propagation.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.anatomy import fit_trace
from vitrail.explain.intercept import Intercept, constant_parameters, entered
from vitrail.explain.registry import Scores, register
from vitrail.explain.relevance import blocks, check_start_layer
from vitrail.explain.request import Request, gradients
from vitrail.explain.trace import AttentionLayer, capture

_UNCHANGED = frozenset(
    {"layer_norm", "rms_norm", "gelu", "silu", "relu", "tanh", "sigmoid", "softmax"}
    | {"neg", "__neg__"}
)
_ROUTES = frozenset(
    {
        "__get__", "__getitem__", "cat", "chunk", "clone", "contiguous", "dropout", "expand",
        "flatten", "float", "flip", "gather", "masked_fill", "movedim", "narrow", "pad", "permute",
        "repeat", "reshape", "roll", "select", "split", "squeeze", "stack", "swapaxes", "to",
        "transpose", "type_as", "unbind", "unflatten", "unsqueeze", "view",
    }
)  # fmt: skip
"""Calls that hand numbers on as they are: their gradient moves relevance as well."""
_FACTORS = frozenset({"mul", "__mul__", "__rmul__", "div", "__truediv__", "true_divide"})


@register(
    "transformer_attribution",
    needs="gradient",
    class_specific=True,
    signed=False,
    passes="2 forwards, 2 backwards",
    source="chefer2021transformer",
    row_form=True,
)
def transformer_attribution(request: Request, *, start_layer: int = 0) -> Scores:
    """Weight each layer's relevance at the attention by the gradient there, and roll it out.

    With G_l = dy/dA_l, R_l the relevance that reaches A_l, and r the read-out row::

        r ← r + r · mean_h (G_l ⊙ R_l)⁺        for l = last, ..., start_layer

    Relevance starts at 1 in the target's logit. Rules: linear layers share it out over x⁺w⁺ + x⁻w⁻
    (without bias); the two factors of a matrix product get half each, in proportion to the terms;
    a residual sum in proportion to the terms, rescaled so that the two totals are |Σa| : |Σb| of
    the whole; LayerNorm, GELU, softmax and constant factors hand it through.

    Args:
        request: Model, images and target.
        start_layer: First layer to take part, 0 nearest the input.

    Returns:
        Scores of the tokens. The rules divide by numbers near zero: in float32 maps differ
        from float64 by a few hundredths of their maximum.

    Raises:
        MethodError: If the layer does not exist, attention is causal or grouped, or a layer is
            gated (SwiGLU): the paper has no rule for a product of two different activations.

    Source: chefer2021transformer, section 3.

    Differs: some copies of the authors' code normalize rows; not here.
    """
    recording = request.record(gradients=True)
    check_start_layer(start_layer, len(recording.layers))
    slopes = recording.output_gradients()[: len(recording.layers)]
    layers, relevances = _relevance(request)
    row = recording.first_row().detach().expand(len(recording.scores), -1, -1)
    for number in reversed(range(start_layer, len(layers))):
        row = row + _step(row, layers[number], slope=slopes[number], relevance=relevances[number])
    return Scores(tokens=row)


def _relevance(request: Request) -> tuple[tuple[AttentionLayer, ...], tuple[Tensor, ...]]:
    """Return the layers and the relevance at each one's output, of every target."""
    images = request.images.detach().clone().requires_grad_()
    with torch.enable_grad(), entered(request.model, _Rules()), capture(request.model) as trace:
        output = request.model(images)
    encoder = fit_trace(trace, request.anatomy(), batch=len(images))
    outputs = [layer.output for layer in encoder.layers if layer.output is not None]
    return encoder.layers, gradients(request.selection.scores(output), outputs)


def _step(
    row: Float[Tensor, "target batch token"],
    layer: AttentionLayer,
    *,
    slope: Tensor,
    relevance: Tensor,
) -> Float[Tensor, "target batch token"]:
    """Return r · mean_h (G ⊙ R)⁺ with R = A ⊙ ((R_O / O) Vᵀ) / 2."""
    assert layer.output is not None  # noqa: S101 (recorded with outputs)
    shares = _ratio(relevance, layer.output.detach())
    added = torch.zeros_like(row)
    for start, stop in blocks(layer, row):
        weighted = layer.attention_gradient(shares, start=start, stop=stop)
        weighted.mul_(layer.attention(start, stop)).mul_(0.5)
        weighted.mul_(layer.attention_gradient(slope, start=start, stop=stop)).relu_()
        weight = row[..., None, start:stop, None].to(weighted.dtype)
        added += weighted.mul_(weight).sum(dim=(2, 3)).to(added.dtype)
    return added / layer.shape[1]


class _Rules(Intercept):
    """The forward pass as it is; from the first attention on, in place of gradients, relevance."""

    def __init__(self) -> None:
        super().__init__()
        self._attended = False
        self._origins: dict[int, tuple[Tensor, Tensor]] = {}

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call under its rule, with the model's parameters as constants.

        Raises:
            MethodError: If there is no rule for it.
        """
        self._attended |= name == "scaled_dot_product_attention" or (
            name == "softmax" and args[0].ndim >= 3
        )
        if not self._attended:
            return func(*args, **kwargs)
        args, kwargs = constant_parameters(args, kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if name == "linear":
            return _Linear.apply(*_linear_arguments(*args, **kwargs))
        if name == "mean" and _is_active(args[0]):
            return _Mean.apply(args[0], *_mean_axes(*args, **kwargs))
        if name in _PAIRS and (_both_active(args) or _is_of_heads(name, args)):
            return _PAIRS[name].apply(*args[:2])
        result = func(*args, **kwargs)
        if name in _UNCHANGED | _FACTORS:
            source = self._source(name, args)
            if source is not None and source.shape == result.shape:
                result = _Unchanged.apply(source, result)
                self._origins[id(result)] = result, self._origin(source)
        elif _is_active(result) and name not in _ROUTES and not _is_shift(name, args):
            raise MethodError(
                "model",
                f"after its first attention it calls {name!r} on activations",
                "the paper has no rule for it",
                "use 'relevance', 'libra' or 'attn_lrp'",
            )
        return result

    def _origin(self, tensor: Tensor) -> Tensor:
        """Return what a tensor is an activation of: itself, if of nothing."""
        return self._origins.get(id(tensor), (tensor, tensor))[1]

    def _source(self, name: str, args: tuple[Any, ...]) -> Tensor | None:
        """Return the tensor that a call is an activation of, or None.

        Raises:
            MethodError: If it is a product of two different activations: a gate.
        """
        if name not in _FACTORS or not _both_active(args):
            return next((part for part in args if _is_active(part)), None)
        origin = self._origin(args[0])
        if self._origin(args[1]) is origin:  # x · sigmoid(1.702 x): one activation, written out
            return origin
        raise MethodError(
            "model",
            f"a gated layer multiplies two activations of shape {tuple(args[0].shape)}",
            "the paper has no rule for such a product (SwiGLU)",
            "use 'relevance', 'libra' or 'attn_lrp'",
        )


def _is_active(part: object) -> bool:
    """Tell whether a tensor depends on the images."""
    return isinstance(part, Tensor) and part.requires_grad


def _is_of_heads(name: str, args: tuple[Any, ...]) -> bool:
    """Tell whether a call is a product of many matrices, as of a learned query with all keys."""
    return name in _PRODUCTS and any(map(_is_active, args)) and args[0].ndim == args[1].ndim >= 3


def _is_shift(name: str, args: tuple[Any, ...]) -> bool:
    """Tell whether a call adds or subtracts a constant, as a bias does."""
    return name in _SUMS or (
        name in {"sub", "__sub__"} and [*map(_is_active, args)] == [True, False]
    )


def _both_active(args: tuple[Any, ...]) -> bool:
    """Tell whether both operands depend on the images."""
    return len(args) > 1 and _is_active(args[0]) and _is_active(args[1])


def _linear_arguments(  # noqa: PLR0917 (torch's signature)
    input: Tensor,  # noqa: A002 (torch's name)
    weight: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bind a linear layer's arguments."""
    return input, weight, bias


def _mean_axes(  # noqa: PLR0917 (torch's signature)
    source: Tensor,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,  # noqa: FBT001, FBT002
    **_: Any,
) -> tuple[tuple[int, ...], bool]:
    """Bind a mean's axes."""
    if dim is None:
        return tuple(range(source.ndim)), keepdim
    return (dim,) if isinstance(dim, int) else tuple(dim), keepdim


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide, 0 where the denominator is 0."""
    away = whole + torch.where(whole < 0, -1e-9, 1e-9).to(whole.dtype)
    return torch.where(whole == 0, 0.0, part / away)


class _Unchanged(torch.autograd.Function):
    """Goes on with ``result``; relevance goes to ``source`` as it is."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:  # noqa: ARG004 (torch's signature)
        _, result = inputs
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004 (torch's signature)
        return gradients[0], None


class _Mean(torch.autograd.Function):
    """A mean over ``axes``: relevance in proportion to the terms."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        source, axes, keepdim = inputs
        ctx.settings = axes, keepdim
        output = source.mean(dim=axes, keepdim=keepdim)
        ctx.save_for_backward(source, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        source, output = ctx.saved_tensors
        axes, keepdim = ctx.settings
        share = _ratio(gradients[0], output)
        if not keepdim:
            for axis in sorted(axis % source.ndim for axis in axes):
                share = share.unsqueeze(axis)
        count = source.numel() // output.numel()
        return source * share / count, None, None


class _Linear(torch.autograd.Function):
    """A linear layer: relevance over x⁺w⁺ + x⁻w⁻."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        values, weight, bias = inputs
        ctx.save_for_backward(values, weight)
        return F.linear(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        values, weight = ctx.saved_tensors
        positive, negative = values.clamp(min=0), values.clamp(max=0)
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        share = _ratio(gradients[0], F.linear(positive, up) + F.linear(negative, down))
        return positive * F.linear(share, up.mT) + negative * F.linear(share, down.mT), None, None


class _Product(torch.autograd.Function):
    """A matrix product of activations: half of the relevance to each factor."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        first, second = inputs
        output = first @ second
        ctx.save_for_backward(first, second, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        first, second, output = ctx.saved_tensors
        share = _ratio(gradients[0], output) / 2
        return first * (share @ second.mT), second * (first.mT @ share)


class _Sum(torch.autograd.Function):
    """A residual sum: in proportion to the terms, each image's totals rescaled to |Σa| : |Σb|."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        first, second = inputs
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (relevance,) = gradients
        share = _ratio(relevance, torch.add(*ctx.saved_tensors))
        parts = [term * share for term in ctx.saved_tensors]
        axes = tuple(range(1, relevance.ndim))
        sums = [part.sum(dim=axes, keepdim=True) for part in parts]
        scale = _ratio(relevance.sum(dim=axes, keepdim=True), sums[0].abs() + sums[1].abs())
        return tuple(
            part * _ratio(total.abs() * scale, total)
            for part, total in zip(parts, sums, strict=True)
        )


def _attention(  # noqa: PLR0917 (torch's signature)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001
    is_causal: bool = False,  # noqa: FBT001, FBT002
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> Tensor:
    """Write attention out under the rules: product, unchanged softmax, product."""
    if is_causal or enable_gqa:
        raise MethodError(
            "model",
            "causal or grouped attention",
            "the relevance rules are written for attention of all tokens to all tokens",
            "use 'relevance'",
        )
    products: Tensor = _Product.apply(query, key.mT)
    scores = products.detach() * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask.detach()
    output: Tensor = _Product.apply(_Unchanged.apply(products, scores.softmax(dim=-1)), value)
    return output


_PRODUCTS = ("matmul", "__matmul__", "bmm")
_SUMS = ("add", "__add__", "__radd__", "__iadd__")
_PAIRS: dict[str, Any] = {
    **dict.fromkeys(_SUMS, _Sum),
    **dict.fromkeys(_PRODUCTS, _Product),
}
"""The rule of each call on two activations."""
