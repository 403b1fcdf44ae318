"""The methods and the controls as functions of one kind."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.errors import AnatomyError, CaptureError, InputError
from vitrail.explain import Attribution, Shared, anatomy, explain
from vitrail.explain import methods as all_methods
from vitrail.explain.anatomy import patch_size
from vitrail.faithfulness.contrast import Explain
from vitrail.faithfulness.controls import CONTROLS, control_maps

Images = Float[Tensor, "case channel height width"]
Maps = Float[np.ndarray, "case row column"]

REFUSALS = (InputError, CaptureError, ArithmeticError)
"""What a method may raise about a model (a shuffled one, too) without ending the bench."""


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


@dataclass(eq=False, kw_only=True)
class Panel:
    """Methods that are asked the same questions, and share the passes that they can.

    What one of them is asked is worked out for all, batch by batch, and remembered as long as the
    model lives: the others answer from memory.

    Attributes:
        methods: Parameters of each, by name.
        grid_size: Maps of another grid are stretched to this one.
        batch_size: Pictures explained together.
    """

    methods: Mapping[str, Mapping[str, Any]]
    grid_size: tuple[int, int]
    batch_size: int = 16
    _known: "WeakKeyDictionary[nn.Module, dict[bytes, dict[str, Explained | Exception]]]" = field(
        default_factory=WeakKeyDictionary, init=False
    )

    def function(self, name: str) -> Explain:
        """Return a method as a function of one kind: (model, images, a class an image) → maps."""
        return partial(self._maps, name)

    def explained(
        self, name: str, model: nn.Module, *, images: Images, targets: Int[np.ndarray, " case"]
    ) -> Explained:
        """Return what a method says of some pictures.

        Raises:
            InputError: As the method does (CaptureError, ArithmeticError).
        """
        known = self._known.setdefault(model, {})
        question = _digest(images, targets)
        if question not in known:
            known[question] = self._all(model, images, targets=targets)
        found = known[question][name]
        if isinstance(found, Exception):
            raise found
        return found

    def _maps(
        self, name: str, model: nn.Module, images: Images, *, targets: Int[np.ndarray, " case"]
    ) -> Maps:
        """Return a method's maps alone."""
        return self.explained(name, model, images=images, targets=targets).maps

    def _all(
        self, model: nn.Module, images: Images, *, targets: Int[np.ndarray, " case"]
    ) -> dict[str, Explained | Exception]:
        """Ask every method about every picture; one that refuses leaves its reason."""
        parts: dict[str, list[Explained]] = {name: [] for name in self.methods}
        refused: dict[str, Exception] = {}
        for start in range(0, len(images), self.batch_size):
            some = slice(start, start + self.batch_size)
            pictures, shared = images[some], Shared()
            for name in sorted(set(self.methods) - set(refused), key=_turn):
                try:
                    found = explain(
                        model, pictures, method=name, target=_target(name, targets[some]),
                        shared=shared, **self.methods[name],
                    )  # fmt: skip
                except REFUSALS as error:
                    refused[name] = error.with_traceback(None)  # its frames hold the model
                else:
                    parts[name].append(_explained(found, self.grid_size))
        whole = {name: _joined(of_name) for name, of_name in parts.items() if name not in refused}
        return {**whole, **refused}


def _turn(name: str) -> tuple[bool, bool, str]:
    """Sort methods so that each finds most of what it needs: see :class:`Shared`."""
    method = all_methods()[name]
    return not method.class_specific, not method.row_form, name


def _target(name: str, targets: Int[np.ndarray, " case"]) -> str | list[int]:
    """Return what a method is asked about."""
    chosen: list[int] = targets.tolist()
    return chosen if all_methods()[name].class_specific else "predicted"


def _digest(images: Images, targets: Int[np.ndarray, " case"]) -> bytes:
    """Return what tells one question from another: the pictures and classes themselves."""
    pictures = images.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(pictures.data, digest_size=16).digest() + targets.tobytes()


def _explained(found: Attribution, grid_size: tuple[int, int]) -> Explained:
    """Return a batch's maps on the common grid, with the method's own checks."""
    values: np.ndarray = found.values.detach().cpu().double().numpy()
    return Explained(
        maps=on_grid(values, grid_size),
        completeness_error=_completeness(found),
        prefix_share=_prefix(found),
    )


def _joined(parts: Sequence[Explained]) -> Explained:
    """Put batches together again."""
    return Explained(
        maps=np.concatenate([part.maps for part in parts]),
        completeness_error=np.concatenate([part.completeness_error for part in parts]),
        prefix_share=np.concatenate([part.prefix_share for part in parts]),
    )


def milliseconds(
    model: nn.Module, images: Images, *, methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Return what each method takes a picture by itself, sharing nothing."""
    found = {}
    for name, parameters in methods.items():
        began = time.perf_counter()
        explain(model, images, method=name, **parameters)
        found[name] = 1000 * (time.perf_counter() - began) / len(images)
    return found


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
