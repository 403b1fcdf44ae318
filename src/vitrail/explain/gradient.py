"""Gradients by the pixels: ``input_x_gradient``, ``integrated_gradients``, ``smooth_grad``."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request, gradients
from vitrail.explain.trace import accumulation_dtype
from vitrail.explain.variants import chunks, score_variants


@register(
    "input_x_gradient",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="1 forward, 1 backward",
    source="shrikumar2016",
)
def input_x_gradient(request: Request) -> Scores:
    """Multiply each pixel by the gradient of the score with respect to it: x ⊙ dy/dx.

    Args:
        request: Model, images and target.

    Returns:
        Signed scores of the pixels and channels.

    Source: shrikumar2016.

    Differs: x is the network's input as it is (after the caller's own normalization), as in Captum.
    """
    if request.kept is not None and request.kept.recording is not None:
        slope = request.kept.recording.image_gradient()
    else:
        images = request.images.detach().clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = gradients(request.scores(images), [images])
    dtype = accumulation_dtype(request.images)
    return Scores(pixels=request.images.to(dtype) * slope.to(dtype))


@register(
    "integrated_gradients",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="steps forward and backward",
    source="sundararajan2017",
)
def integrated_gradients(
    request: Request,
    *,
    steps: int = 32,
    rule: str = "gauss_legendre",
    baseline: float = 0.0,
    batch_size: int = 32,
) -> Scores:
    """Integrate the gradient along the straight line from a baseline to the image.

    With the baseline b, nodes a_k and weights w_k of a quadrature rule on [0, 1]::

        (x - b) ⊙ Σ_k w_k dy/dx (b + a_k (x - b))

    Args:
        request: Model, images and target.
        steps: Number of nodes.
        rule: ``gauss_legendre``, or ``midpoint`` (a_k = (k + ½) / steps, w_k = 1 / steps).
        baseline: Value of every pixel of the baseline, in the network's input space.
        batch_size: Images a pass, about.

    Returns:
        Signed scores of the pixels; ``residual`` is y(x) - y(b) minus their sum, the error of the
        quadrature.

    Raises:
        MethodError: If ``steps`` or ``rule`` cannot be used.

    Source: sundararajan2017, section 3 (the method), section 5 (the sum in its place).

    Differs: Captum's ``riemann_trapezoid`` has weights that sum to (steps - 1) / steps, so that its
    attributions are too small by that factor; it is not offered here.
    """
    nodes, weights = quadrature(rule, steps)
    images = request.images.detach()
    dtype = accumulation_dtype(images)
    difference = images - baseline
    with torch.no_grad():
        end = request.scores(images).to(dtype)
        begin = request.scores(torch.full_like(images, baseline)).to(dtype)
    total = torch.zeros(len(end), *images.shape, dtype=dtype, device=images.device)
    for part in chunks(steps, batch=len(images), batch_size=batch_size):
        points = torch.stack([baseline + nodes[step] * difference for step in part])
        slope = _slopes(request, points).to(dtype)
        shares = torch.tensor([weights[step] for step in part], dtype=dtype, device=images.device)
        total += torch.einsum("s,tsbchw->tbchw", shares, slope)
    pixels = total * difference.to(dtype)
    return Scores(pixels=pixels, residual=end - begin - pixels.sum(dim=(2, 3, 4)))


@register(
    "smooth_grad",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="samples forward and backward",
    source="smilkov2017",
)
def smooth_grad(
    request: Request,
    *,
    samples: int = 32,
    noise: float = 0.15,
    generator: torch.Generator | None = None,
    batch_size: int = 32,
) -> Scores:
    """Average the gradient over noisy copies of the image: mean_s dy/dx (x + noise_s).

    Args:
        request: Model, images and target.
        samples: Number of copies.
        noise: Standard deviation of the noise, as a share of each image's range (max - min).
        generator: Source of the noise; by default one seeded with 0, so that calls repeat.
        batch_size: Images a pass, about.

    Returns:
        The signed mean gradient of the pixels (not its absolute value, not times the input).

    Raises:
        MethodError: If ``samples`` or ``noise`` cannot be used.

    Source: smilkov2017, section 3.

    Differs: the paper shows absolute values, clipped at the 99th percentile; that is display.
    """
    if noise <= 0.0:
        raise MethodError("noise", str(noise), "it must be above 0", "pass for example 0.15")
    images = request.images.detach()
    dtype = accumulation_dtype(images)
    generator = generator or torch.Generator(device=images.device).manual_seed(0)
    shape = (1, *images.shape[1:])  # one draw for all images, so that a batch is as one by one
    span = images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)
    with torch.no_grad():
        request.scores(images)
    total: Tensor | None = None
    for part in chunks(samples, batch=len(images), batch_size=batch_size):
        drawn = torch.stack(
            [
                torch.randn(shape, generator=generator, dtype=dtype, device=images.device)
                for _ in part
            ]
        )
        slope = _slopes(request, images + (noise * span * drawn).to(images.dtype)).to(dtype)
        total = slope.sum(dim=1) if total is None else total + slope.sum(dim=1)
    assert total is not None  # noqa: S101 (chunks refuses zero samples)
    return Scores(pixels=total / samples)


def quadrature(rule: str, steps: int) -> tuple[list[float], list[float]]:
    """Return nodes in [0, 1] and weights, summing to one, of a quadrature rule.

    Raises:
        MethodError: If the rule is unknown or ``steps`` is not positive.

    Example:
        >>> quadrature("midpoint", 2)
        ([0.25, 0.75], [0.5, 0.5])
    """
    if steps < 1:
        raise MethodError("steps", str(steps), "it must be at least 1", "pass for example 32")
    if rule == "midpoint":
        return [(step + 0.5) / steps for step in range(steps)], [1.0 / steps] * steps
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return ((1.0 + nodes) / 2.0).tolist(), (weights / 2.0).tolist()
    raise MethodError(
        "rule", repr(rule), "it must be 'gauss_legendre' or 'midpoint'", "pass one of these"
    )


def _slopes(
    request: Request, points: Float[Tensor, "variant batch channel height width"]
) -> Float[Tensor, "target variant batch channel height width"]:
    """Return dy/dx at many points in one forward and one backward pass."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        scores = score_variants(request, points)
        (slope,) = gradients(scores.flatten(1), [points])
    return slope
