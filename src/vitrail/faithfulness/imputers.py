"""How evidence is taken away: what stands where a patch was.

==============  ==================================================================================
``token_drop``  nothing: the token is masked as a key in every layer and left out of pooling
``blur``        the picture itself, blurred by a Gaussian as wide as a patch
``noise``       the picture with random Fourier phases: its own mean, contrast and texture, no place
``linear``      the neighbor-weighted linear fill of the patches around
``mean``        the mean color of the given pictures
``black``       black before normalization
==============  ==================================================================================

Every way of hiding has its own artifact; a map that is right under one alone may be right about the
artifact. So the bench shows several.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import InputError, MethodError
from vitrail.explain.batches import in_batches
from vitrail.explain.target import logits_of
from vitrail.faithfulness.dropping import TokenDropper

Imputer = Literal["token_drop", "blur", "noise", "linear", "mean", "black"]
IMPUTERS: tuple[Imputer, ...] = get_args(Imputer)

Images = Float[Tensor, "case channel height width"]
Variants = Float[Tensor, "variant channel height width"]
Hidden = Bool[Tensor, "variant row column"]
Logits = Float[Tensor, "variant class"]
Ask = Callable[[Int[Tensor, " variant"], Hidden], Logits]
"""(which picture, which of its patches are hidden) → the model's logits."""

_DIAGONAL, _STRAIGHT, _PULL = 1 / 12, 1 / 6, 1e-4


@dataclass(frozen=True, kw_only=True)
class Hiding:
    """How patches are hidden.

    Attributes:
        imputer: What stands where a patch was.
        black: Value a channel that was 0 before normalization; by default the lowest in the images.
        seed: Of ``noise``, and of the order among ties.
        batch_size: Pictures a pass, of shorter sequences as many as have the same tokens; results
            do not depend on it. 16 fit a processor's cache; a GPU likes more.
    """

    imputer: Imputer = "token_drop"
    black: tuple[float, ...] | None = None
    seed: int = 0
    batch_size: int = 16


def asker(model: nn.Module, images: Images, *, grid_size: tuple[int, int], hiding: Hiding) -> Ask:
    """Prepare to ask a model about pictures with patches hidden.

    Answers do not depend on which variants are asked together.

    Args:
        model: In eval mode.
        images: The pictures, normalized as the model expects.
        grid_size: Rows and columns of the patches that can be hidden.
        hiding: What stands where a patch was.

    Raises:
        MethodError: If there is no such imputer, or the model cannot drop tokens (windows).
        InputError: If ``grid_size`` is not the model's own where tokens are dropped.
    """
    imputer, batch_size = hiding.imputer, hiding.batch_size
    if imputer not in IMPUTERS:
        rule = f"it must be one of {', '.join(IMPUTERS)}"
        raise MethodError("imputer", repr(imputer), rule, "pass one of these")
    if imputer == "token_drop":
        dropper = TokenDropper(model, images, batch_size=batch_size)
        if dropper.grid_size != grid_size:
            raise InputError(
                "maps",
                f"a grid of {grid_size}",
                f"tokens are dropped on the model's own grid {dropper.grid_size}",
                "pass maps on that grid, or hide pixels with another imputer",
            )
        return dropper.logits
    fill = _filler(images, grid_size=grid_size, hiding=hiding)

    def ask(cases: Int[Tensor, " variant"], hidden: Hidden) -> Logits:
        def run(start: int, stop: int) -> Logits:
            with torch.no_grad():
                return logits_of(model(fill(cases[start:stop], hidden[start:stop])))

        return torch.cat(in_batches(run, len(cases), batch_size=batch_size)).double()

    return ask


Fill = Callable[[Int[Tensor, " variant"], Hidden], Variants]


def _filler(images: Images, *, grid_size: tuple[int, int], hiding: Hiding) -> Fill:
    """Return the function that hides patches of the pictures."""
    if hiding.imputer == "linear":
        return lambda cases, hidden: composite(
            images[cases], linear_fill(images[cases], hidden), hidden=hidden
        )
    stands = replacement(images, grid_size=grid_size, hiding=hiding)
    return lambda cases, hidden: composite(images[cases], stands[cases], hidden=hidden)


def replacement(images: Images, *, grid_size: tuple[int, int], hiding: Hiding) -> Images:
    """Return what each picture's hidden patches are cut from: blur, noise, mean or black."""
    if hiding.imputer == "blur":
        sides = [side / cells for side, cells in zip(images.shape[2:], grid_size, strict=True)]
        return blurred(images, sigma=(sides[0], sides[1]))
    if hiding.imputer == "noise":
        seeds = [hiding.seed * 1_000_003 + case for case in range(len(images))]
        return torch.stack(
            [phase_noise(image, seed=seed) for image, seed in zip(images, seeds, strict=True)]
        )
    lowest = images.amin(dim=(0, 2, 3))
    black = lowest if hiding.black is None else images.new_tensor(hiding.black)
    color = images.mean(dim=(0, 2, 3)) if hiding.imputer == "mean" else black
    return color.view(1, -1, 1, 1).expand_as(images)


def composite(images: Variants, stands: Variants, *, hidden: Hidden) -> Variants:
    """Put ``stands`` where patches are hidden; patches past the grid's last whole one belong to it.

    Args:
        images: One picture a variant.
        stands: What is seen instead.
        hidden: Which patches.
    """
    size = images.shape[-2:]
    mask = F.interpolate(hidden[:, None].float(), size=size, mode="nearest-exact") > 0.5
    return torch.where(mask, stands, images)


def blurred(images: Images, *, sigma: tuple[float, float]) -> Images:
    """Blur pictures by a Gaussian of ``sigma`` px down and right, edges repeated."""
    for axis, width in zip((2, 3), sigma, strict=True):
        reach = int(3 * width + 0.5)
        at = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        weights = torch.exp(-((at / width) ** 2) / 2)
        shape = [1, 1, 1, 1]
        shape[axis] = len(at)
        kernel = (weights / weights.sum()).view(shape).expand(images.shape[1], 1, *shape[2:])
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = F.pad(images, pad, mode="replicate")
        images = F.conv2d(padded, kernel, groups=images.shape[1])
    return images


def phase_noise(
    image: Float[Tensor, "channel height width"], *, seed: int
) -> Float[Tensor, "channel height width"]:
    """Return noise with a picture's own mean, variance and power spectrum.

    All channels are turned by the same random phases, so that colors stay related.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(image.shape[1:], generator=generator, dtype=torch.float64)
    turn = torch.fft.fft2(white)
    turn = turn / turn.abs().clamp_min(1e-12)
    turn[0, 0] = 1.0
    spectrum = torch.fft.fft2(image.detach().double().cpu()) * turn
    noise: Tensor = torch.fft.ifft2(spectrum).real
    return noise.to(image)


def linear_fill(images: Variants, hidden: Hidden) -> Variants:
    """Fill hidden patches from their neighbors, so that no edge shows what was hidden.

    The mean colors of hidden patches solve ``color = Σ weight · neighbor's color`` (1/6 straight,
    1/12 diagonal, renormalized at borders), with a very weak pull (1e-4) to the picture's mean for
    when all is hidden; drawn smoothly between the patches' centers.

    Args:
        images: One picture a variant.
        hidden: Which patches.

    Source: rong2022road, section 4.1.

    Differs: The paper fills pixel by pixel and adds noise; here whole patches, so that the system
        has one unknown a patch.
    """
    grid = (hidden.shape[1], hidden.shape[2])
    colors = F.adaptive_avg_pool2d(images.double(), grid).flatten(2).transpose(1, 2)
    weights = _neighbors(grid).to(colors.device)
    gone = hidden.flatten(1).to(colors)
    system = torch.eye(grid[0] * grid[1], dtype=colors.dtype, device=colors.device)
    system = system - gone.unsqueeze(2) * weights * (1 - _PULL)
    pulled = gone.unsqueeze(2) * colors.mean(dim=1, keepdim=True) * _PULL
    known = (1 - gone).unsqueeze(2) * colors + pulled
    solved = torch.linalg.solve(system, known).transpose(1, 2).unflatten(2, grid)
    return F.interpolate(solved, size=images.shape[-2:], mode="bilinear", align_corners=False).to(
        images
    )


def _neighbors(grid: tuple[int, int]) -> Float[Tensor, "patch neighbor"]:
    """Return each patch's weights of the patches around it; rows sum to one."""
    row, column = (
        part.flatten()
        for part in torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    )
    down = (row[:, None] - row[None]).abs()
    right = (column[:, None] - column[None]).abs()
    weights = torch.zeros(len(row), len(row), dtype=torch.float64)
    weights[(down + right) == 1] = _STRAIGHT
    weights[(down == 1) & (right == 1)] = _DIAGONAL
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
