"""Does the map depend on what the model has learned?

The weights are shuffled, each tensor within itself (so that scales stay as they were), in a copy of
the model: *cascading* from the head down, *independently* one layer at a time, or *all* at once
(the efficient variant: one more explanation instead of one a layer). A map that hardly changes
shows the picture, not the model.

Rule ``randomization-1``: a method passes if the upper end of the interval of the mean absolute rank
correlation, between its maps and those of the model with all weights shuffled, is below 0.5.
Passing proves little (random maps pass); failing disqualifies.
"""

import copy
import re
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.faithfulness.contrast import Explain, rank_correlation
from vitrail.records import Estimate

RULE = "randomization-1"
PASSES_BELOW = 0.5

Variant = Literal["cascading", "independent", "all"]


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
            digest = int.from_bytes(name.encode(), "little") % (2**31)
            generator = torch.Generator().manual_seed(seed * 2**31 + digest)
            flat = parameters[name].reshape(-1)
            order = torch.randperm(len(flat), generator=generator).to(flat.device)
            parameters[name].copy_(flat[order].view_as(parameters[name]))
    return copied


def randomization(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    variant: Variant = "all",
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " case"]]:
    """Return rank correlations of a method's maps with those of a shuffled model.

    Args:
        model: Left exactly as it is.
        images: Pictures.
        method: The explainer.
        targets: Class of each picture, the same for both models.
        variant: See the module.
        seed: Of the shuffling.

    Returns:
        Correlation a picture, by layer (the last that was shuffled), the head first; ``all`` alone
        for the efficient variant. NaN where a map is constant.

    Source: adebayo2018sanity, section 3.1; hedstrom2024fresh (the efficient variant's economy).

    Differs: weights are shuffled instead of drawn anew, so that any layer can be treated without
        knowing how it was initialized; Hedström et al. compare complexities instead of maps.
    """
    original = method(model, images, targets=targets)
    stages = layers(model)
    plans: dict[str, list[str]] = {}
    if variant == "all":
        plans["all"] = [name for names in stages.values() for name in names]
    else:
        above: list[str] = []
        for layer, names in reversed(stages.items()):
            above = [*above, *names]
            plans[layer] = above if variant == "cascading" else names
    return {
        layer: rank_correlation(
            original, method(shuffled(model, names, seed=seed), images, targets=targets)
        )
        for layer, names in plans.items()
    }


def passes(similarity: Estimate) -> bool:
    """Tell whether a mean absolute correlation after shuffling everything meets the rule."""
    top = similarity.high if np.isfinite(similarity.high) else similarity.value
    return bool(top < PASSES_BELOW)
