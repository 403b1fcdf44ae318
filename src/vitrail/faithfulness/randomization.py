"""Does the map depend on what the model has learned?

The weights are shuffled, each tensor within itself (so that scales stay as they were), in a copy of
the model: *cascading* from the head down, *independently* one layer at a time, or *all* at once
(the efficient variant: two more explanations instead of one a layer). What two models that know
nothing still draw, the picture alone can draw.

``randomization_error`` is the share of a map's variance over the patches that a linear combination
of the maps of two shuffled models explains (R², corrected for chance): 1 for a map of the picture
alone, whatever its sign or scale, about 0 for one that needs the learned weights.

Rule ``randomization-2``: a method passes if the upper end of the interval of the mean is below one
half: more than half of what it draws was learned. Passing proves little (random maps pass); failing
disqualifies. ``randomization-1`` took the absolute rank correlation instead: ranks weigh the many
patches without evidence as much as the few with it.
"""

import copy
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.faithfulness.contrast import Explain, Maps, rank_correlation
from vitrail.records import Estimate

RULE = "randomization-2"
PASSES_BELOW = 0.5
SHUFFLES = 2

Variant = Literal["cascading", "independent"]


def layers(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters by layer, nearest the input first.

    A layer is a numbered member of a list (``blocks.3``) or else the module that holds the
    parameter; tied parameters count once.
    """
    found: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        numbered = re.match(r".*?\.\d+(?=\.)", name)
        layer = numbered.group() if numbered else name.rpartition(".")[0] or name
        found.setdefault(layer, []).append(name)
    return found


def shuffled(model: nn.Module, names: list[str], *, seed: int = 0) -> nn.Module:
    """Return a copy of a model with some parameters shuffled within themselves; the model stays.

    Args:
        model: Any.
        names: Parameters to shuffle.
        seed: A parameter is shuffled by this and its own name, whatever else is shuffled.
    """
    copied = copy.deepcopy(model)
    parameters = dict(copied.named_parameters())
    with torch.no_grad():
        for name in names:
            values = parameters[name]
            generator = np.random.default_rng([seed, *name.encode()])
            order = torch.from_numpy(generator.permutation(values.numel())).to(values.device)
            values.copy_(values.reshape(-1)[order].view_as(values))
    return copied


def shuffled_models(model: nn.Module, *, seed: int = 0) -> list[nn.Module]:
    """Return copies of a model with all weights shuffled: they know nothing."""
    names = [name for part in layers(model).values() for name in part]
    return [shuffled(model, names, seed=SHUFFLES * seed + turn) for turn in range(SHUFFLES)]


def randomization_error(
    ignorant: Sequence[nn.Module],
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    original: Maps,
) -> Float[np.ndarray, " case"]:
    """Return the share of each map that models with all weights shuffled draw as well.

    Args:
        ignorant: From :func:`shuffled_models`.
        images: Pictures.
        method: The explainer.
        targets: Class of each picture, the same for all models.
        original: The trained model's own maps.

    Returns:
        :func:`shared_variance` with the maps of two shuffled models; NaN where a map is constant.

    Source: adebayo2018sanity, section 3.1; hedstrom2024fresh (the efficient variant's economy);
    binder2023shortcomings (why similarity punishes maps that keep the shape of the forward pass).

    Differs: weights are shuffled instead of drawn anew, so that any model can be treated without
        knowing how it was initialized; a share of variance, which is blind to sign and scale and
        weighs patches by what they were given, stands in the place of a rank correlation.
    """
    without = [method(model, images, targets=targets) for model in ignorant]
    return shared_variance(original, np.stack(without))


def shared_variance(
    maps: Maps, others: Float[np.ndarray, "other case row column"]
) -> Float[np.ndarray, " case"]:
    """Return the adjusted R² of each map, over patches, by the other maps of its picture.

    Args:
        maps: What is to be explained; NaN comes back where one is constant.
        others: What may explain it, each with its own coefficient; constant ones explain nothing.

    Example:
        >>> map = np.arange(9.0).reshape(1, 3, 3) ** 2
        >>> shared_variance(map, np.stack([5 - 2 * map, np.ones_like(map)])).round(6).tolist()
        [1.0]
    """
    found = np.full(len(maps), np.nan)
    for case, map_ in enumerate(maps):
        wanted = map_.ravel() - map_.mean()
        given = others[:, case].reshape(len(others), -1)
        given = given - given.mean(axis=1, keepdims=True)
        scale = np.linalg.norm(given, axis=1, keepdims=True)
        given = given / np.where(scale > 0, scale, 1)
        total = (wanted**2).sum()
        if total > 0:
            weights = np.linalg.lstsq(given.T, wanted, rcond=None)[0]
            left = ((wanted - weights @ given) ** 2).sum() / total
            found[case] = 1 - left * (wanted.size - 1) / max(wanted.size - 1 - len(others), 1)
    return found


def randomization_curve(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    variant: Variant = "cascading",
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " case"]]:
    """Return rank correlations of a method's maps with those of models shuffled layer by layer.

    Args:
        model: Left exactly as it is.
        images: Pictures.
        method: The explainer.
        targets: Class of each picture, the same for all models.
        variant: From the head down to a layer, or that layer alone.
        seed: Of the shuffling.

    Returns:
        Correlation a picture, by the layer that was shuffled last, the head first. NaN where a map
        is constant.

    Source: adebayo2018sanity, section 3.1.
    """
    original = method(model, images, targets=targets)
    above: list[str] = []
    found = {}
    for layer, names in reversed(layers(model).items()):
        above = [*above, *names] if variant == "cascading" else names
        maps = method(shuffled(model, above, seed=seed), images, targets=targets)
        found[layer] = rank_correlation(original, maps)
    return found


def passes(share: Estimate) -> bool:
    """Tell whether the mean share of a method's maps that shuffled models draw meets the rule."""
    top = share.high if np.isfinite(share.high) else share.value
    return bool(top < PASSES_BELOW)
