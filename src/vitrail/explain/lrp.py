"""Layer-wise relevance propagation as corrected gradient times input: ``cp_lrp``, ``attn_lrp``.

Under the rules below, the relevance of a unit is its value times a corrected gradient, so one
ordinary backward pass computes it; see :class:`~vitrail.explain.libra.Corrected`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float
from torch import Tensor
from torch.nn.grad import conv2d_input

from vitrail.errors import MethodError
from vitrail.explain.intercept import entered
from vitrail.explain.libra import ATTN_LRP, LIBRA, Corrected, Shares
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request, gradients
from vitrail.explain.trace import accumulation_dtype

Gammas = tuple[float, float]


@register(
    "cp_lrp",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="1 forward, 1 backward",
    source="ali2022xai",
)
def cp_lrp(request: Request, *, gamma: Gammas | None = None) -> Scores:
    """Conservative propagation: x ⊙ dy/dx with attention weights, denominators and gates constant.

    Args:
        request: Model, images and target.
        gamma: (convolution, linear) strengths of the generalized gamma rule, or None for the plain
            rule. It serves convolutions and linear layers outside of attention (see ``attn_lrp``).

    Returns:
        Signed scores of the pixels. Biases keep their share: the sum is not the score.

    Raises:
        MethodError: If a gamma is negative.

    Source: ali2022xai, section 3; the gamma rule: montavon2019lrp, generalized for signed inputs.

    Differs: LXT with zennit computes the same; it does not use AttnLRP's rules for vision.
    """
    return _propagated(request, LIBRA, gamma=gamma)


@register(
    "attn_lrp",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="1 forward, 1 backward",
    source="achtibat2024attnlrp",
)
def attn_lrp(request: Request, *, gamma: Gammas | None = None) -> Scores:
    """Propagate relevance through the softmax as well, in gradient times input form.

    With R relevance, s = softmax(x), O = A V, in the paper's rules (ε → 0)::

        softmax            R(x_i) = x_i (R(s_i) - s_i Σ_j R(s_j))          (prop. 3.1)
        matrix product     R(A_ij) = A_ij Σ_p V_jp R(O_ip) / (2 O_ip)      (prop. 3.3), V likewise
        LayerNorm, GELU    R(x) in proportion to the output                (prop. 3.4)
        linear             R(x_i) = Σ_j x_i w_ji R(z_j) / z_j              (eq. 8)

    R(x)/x of the softmax rule is the ordinary softmax gradient; each product halves: so values get
    half of their gradient, and queries and keys (two products down) a quarter.

    Args:
        request: Model, images and target.
        gamma: As of ``cp_lrp``: (convolution, linear), for layers outside of attention.

    Returns:
        Signed scores of the pixels. Biases and the softmax keep their share.

    Raises:
        MethodError: If a gamma is negative.

    Source: achtibat2024attnlrp, section 3.

    Differs: LXT applies CP-LRP, not these rules, to vision transformers.
    """
    return _propagated(request, ATTN_LRP, gamma=gamma)


def _propagated(request: Request, shares: Shares, *, gamma: Gammas | None) -> Scores:
    """Return x ⊙ dy/dx under the rules."""
    if gamma is None and request.kept is not None and shares in request.kept.slopes:
        return _times_images(request.kept.slopes[shares], request)
    several = isinstance(request.selection.target, str) and request.selection.target == "all"
    if gamma is None:
        mode: Corrected = Corrected(shares=shares, fold_targets=several)
    else:
        if len(gamma) != 2 or min(gamma) < 0.0:
            raise MethodError(
                "gamma",
                str(gamma),
                "it must be two numbers from 0 up: (convolution, linear)",
                "pass gamma=(0.25, 0.05)",
            )
        mode = _CorrectedGamma(gamma, shares=shares, fold_targets=several)
    images = request.images.detach().clone().requires_grad_()
    with torch.enable_grad():
        with entered(request.model, mode):
            scores = request.scores(images)
        if not mode.layers:
            raise MethodError(
                "model",
                "no linear layer or convolution of it was seen",
                "the rules hold for torch's own functions, not inside a scripted or exported graph",
                "explain the model from which the graph was made",
            )
        (slope,) = gradients(scores, [images])
    return _times_images(slope, request)


def _times_images(
    slope: Float[Tensor, "target batch channel height width"], request: Request
) -> Scores:
    """Return x ⊙ dy/dx."""
    dtype = accumulation_dtype(slope)
    return Scores(pixels=request.images.to(dtype) * slope.to(dtype))


class _Strength:
    """Gamma of one linear call: set to zero when attention turns out to follow it."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma


class _CorrectedGamma(Corrected):
    """Corrected gradients, and the gamma rule in layers outside of attention.

    Which linear layers feed attention is known only when attention comes: those since the last
    norm are told afterwards, before any backward pass; the one after it is its out-projection.
    """

    def __init__(self, gamma: Gammas, *, shares: Shares, fold_targets: bool) -> None:
        super().__init__(shares=shares, fold_targets=fold_targets)
        self._convolution, self._linear = gamma
        self._since_norm: list[_Strength] = []
        self._projects = False

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call under its rule."""
        self.layers += name in {"linear", "conv2d"}
        if name in {"layer_norm", "rms_norm"}:
            self._since_norm.clear()
        elif name == "scaled_dot_product_attention" or (name == "softmax" and args[0].ndim >= 3):
            for strength in self._since_norm:
                strength.gamma = 0.0
            self._projects = True
        elif name == "linear":
            strength = _Strength(0.0 if self._projects else self._linear)
            self._projects = False
            self._since_norm.append(strength)
            return _gamma_linear(strength, *args, **kwargs)
        elif name == "conv2d":
            return _gamma_convolution(_Strength(self._convolution), *args, **kwargs)
        return super().call(func, name, args=args, kwargs=kwargs)


def _gamma_linear(  # noqa: PLR0917 (torch's signature)
    strength: _Strength,
    input: Tensor,  # noqa: A002 (torch's name)
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Apply a linear layer whose backward pass is the gamma rule."""
    result: Tensor = _Gamma.apply(
        input, weight, bias, strength, F.linear, lambda slope, matrix, _: slope @ matrix
    )
    return result


def _gamma_convolution(  # noqa: PLR0917 (torch's signature)
    strength: _Strength,
    input: Tensor,  # noqa: A002 (torch's name)
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Apply a convolution whose backward pass is the gamma rule."""
    settings = (stride, padding, dilation, groups)

    def forward(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:  # noqa: PLR0917 (as F.linear)
        return F.conv2d(x, w, b, *settings)

    def backward(slope: Tensor, w: Tensor, x: Tensor) -> Tensor:  # noqa: PLR0917 (as forward)
        found: Tensor = conv2d_input(x.shape, w, slope, *settings)  # type: ignore[no-untyped-call]
        return found

    result: Tensor = _Gamma.apply(input, weight, bias, strength, forward, backward)
    return result


class _Gamma(torch.autograd.Function):
    """A layer z = x wᵀ + b whose backward pass is the generalized gamma rule over x.

    With w± = w + gamma w^±, b± likewise: outputs z > 0 are shared out over x⁺ w+ + x⁻ w- + b+,
    outputs z < 0 over x⁺ w- + x⁻ w+ + b-.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        values, weight, bias, strength, forward, backward = inputs
        output: Tensor = forward(values, weight, bias)
        ctx.save_for_backward(values, weight, bias, output)
        ctx.rule = strength, forward, backward
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (slope,) = gradients
        values, weight, bias, output = ctx.saved_tensors
        strength, forward, backward = ctx.rule
        gamma = strength.gamma
        nothing = (None,) * 5
        if gamma == 0.0:
            return backward(slope, weight, values), *nothing
        up, down = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
        up_bias = None if bias is None else bias + gamma * bias.clamp(min=0)
        down_bias = None if bias is None else bias + gamma * bias.clamp(max=0)
        positive, negative = values.clamp(min=0), values.clamp(max=0)
        relevance = slope * output
        raised = forward(positive, up, up_bias) + forward(negative, down, None)
        lowered = forward(positive, down, down_bias) + forward(negative, up, None)
        risen = (output > 0) * relevance / _stable(raised)
        fallen = (output < 0) * relevance / _stable(lowered)
        for_positive = backward(risen, up, values) + backward(fallen, down, values)
        for_negative = backward(risen, down, values) + backward(fallen, up, values)
        return torch.where(values > 0, for_positive, for_negative), *nothing


def _stable(denominator: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Move a denominator away from zero by 1e-6."""
    return denominator + torch.where(denominator < 0, -1e-6, 1e-6).to(denominator.dtype)
