"""The methods and the controls as functions of one kind, with what they cost."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.errors import AnatomyError, CaptureError
from vitrail.explain import Attribution, anatomy, explain
from vitrail.explain import methods as all_methods
from vitrail.explain.anatomy import patch_size
from vitrail.faithfulness.contrast import Explain
from vitrail.faithfulness.controls import CONTROLS, control_maps

Images = Float[Tensor, "case channel height width"]
Maps = Float[np.ndarray, "case row column"]


@dataclass(eq=False, kw_only=True)
class MethodExplainer:
    """One of vitrail's methods: (model, images, one class an image) → maps.

    Attributes:
        name: The method.
        grid_size: Maps of another grid are stretched to this one.
        parameters: The method's own.
        batch_size: Pictures explained together.
        seconds: Spent so far.
        pictures: Explained so far.
    """

    name: str
    grid_size: tuple[int, int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    seconds: float = 0.0
    pictures: int = 0

    def __call__(
        self, model: nn.Module, images: Images, *, targets: Int[np.ndarray, " case"]
    ) -> Maps:
        """Explain pictures."""
        parts = [_values(part) for part in self.attributions(model, images, targets=targets)]
        return on_grid(np.concatenate(parts), self.grid_size)

    def attributions(
        self, model: nn.Module, images: Images, *, targets: Int[np.ndarray, " case"]
    ) -> Iterator[Attribution]:
        """Explain pictures, batch by batch."""
        specific = all_methods()[self.name].class_specific
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            chosen = targets[part].tolist() if specific else "predicted"
            began = time.perf_counter()
            yield explain(model, images[part], method=self.name, target=chosen, **self.parameters)
            self.seconds += time.perf_counter() - began
            self.pictures += len(images[part])


def control_explainer(name: str, grid_size: tuple[int, int], *, seed: int) -> Explain:
    """Return a control as a function like a method's; random ones are drawn anew at each call."""
    calls = count(seed)

    def control(
        model: nn.Module,  # noqa: ARG001 (a control knows nothing of the model)
        images: Images,
        *,
        targets: Int[np.ndarray, " case"],  # noqa: ARG001 (nor of the class)
    ) -> Maps:
        return control_maps(images, grid_size, seed=next(calls))[name]

    return control


def control_explainers(grid_size: tuple[int, int], *, seed: int = 0) -> dict[str, Explain]:
    """Return all controls by name."""
    return {name: control_explainer(name, grid_size, seed=seed) for name in CONTROLS}


def on_grid(
    maps: Maps, grid_size: tuple[int, int]
) -> Float[np.ndarray, "case grid_row grid_column"]:
    """Return maps on a grid; maps of another one are stretched smoothly."""
    if maps.shape[1:] == grid_size:
        return maps
    stretched: np.ndarray = F.interpolate(
        torch.from_numpy(maps)[:, None], size=grid_size, mode="bilinear", align_corners=False
    )[:, 0].numpy()
    return stretched


def _values(attribution: Attribution) -> Maps:
    """Return the raw values as float64."""
    values: np.ndarray = attribution.values.detach().cpu().double().numpy()
    return values


@dataclass(frozen=True, eq=False, kw_only=True)
class Explained:
    """The maps of one method of all pictures, with the method's own checks.

    Attributes:
        maps: On the common grid.
        completeness_error: |residual| relative to the explained number; NaN where none is promised.
        prefix_share: Share of the absolute scores on prefix tokens; NaN where tokens have none.
    """

    maps: Maps
    completeness_error: Float[np.ndarray, " case"]
    prefix_share: Float[np.ndarray, " case"]


def explain_all(
    explainer: MethodExplainer,
    model: nn.Module,
    *,
    images: Images,
    targets: Int[np.ndarray, " case"],
) -> Explained:
    """Explain all pictures by one method."""
    parts = list(explainer.attributions(model, images, targets=targets))
    return Explained(
        maps=on_grid(np.concatenate([_values(part) for part in parts]), explainer.grid_size),
        completeness_error=np.concatenate([_completeness(part) for part in parts]),
        prefix_share=np.concatenate([_prefix(part) for part in parts]),
    )


def _completeness(attribution: Attribution) -> Float[np.ndarray, " case"]:
    """Return the residual relative to the explained number."""
    if attribution.residual is None:
        return np.full(len(attribution), np.nan)
    residual = attribution.residual.detach().cpu().double().numpy()
    handed = attribution.values.detach().double().sum(dim=(-2, -1)).cpu().numpy()
    if attribution.prefix is not None:
        handed = handed + attribution.prefix.detach().double().sum(dim=-1).cpu().numpy()
    found: np.ndarray = np.abs(residual) / np.maximum(np.abs(residual + handed), 1e-12)
    return found


def _prefix(attribution: Attribution) -> Float[np.ndarray, " case"]:
    """Return the share on prefix tokens."""
    share = attribution.prefix_share
    if share is None:
        return np.full(len(attribution), np.nan)
    found: np.ndarray = share.detach().cpu().double().numpy()
    return found


def usable(
    names: Sequence[str], model: nn.Module, *, image: Images, refusals: tuple[type[Exception], ...]
) -> tuple[list[str], dict[str, str]]:
    """Return the methods that can explain this model, and why each of the others cannot."""
    good, refused = [], {}
    for name in names:
        try:
            explain(model, image, method=name)
        except refusals as error:
            refused[name] = str(error)
        else:
            good.append(name)
    return good, refused


def native_grid(model: nn.Module, image: Images) -> tuple[int, int]:
    """Return the model's patch grid, or that of patches of 16 px where it has none."""
    try:
        return anatomy(model, image).grid_size
    except (AnatomyError, CaptureError):
        side = patch_size(model) or (16, 16)
        return max(1, image.shape[-2] // side[0]), max(1, image.shape[-1] // side[1])
