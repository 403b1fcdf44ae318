"""Whether a new picture is unlike the training pictures: by its intensities, by its features."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitrail.data.loader import PictureDataset, resize
from vitrail.errors import InputError
from vitrail.metrics.novelty import TrainingRange, fit_training_range, intensity_fingerprint
from vitrail.records import Preprocessing

_COMPONENTS = 16
_MOST_PICTURES = 1000
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far a picture is from the training pictures.

    Attributes:
        distance: Mahalanobis's, of the intensity fingerprint.
        outside: Whether that is farther than nearly all validation pictures are.
    """

    distance: float
    outside: bool


def learn(training: PictureDataset, held_out: PictureDataset) -> dict[str, Any]:
    """Learn the range of the training pictures, as JSON values for ``model.json``.

    Args:
        training: The training pictures; their augmentation is left out.
        held_out: The validation pictures.

    Returns:
        The fields of :class:`~vitrail.metrics.novelty.TrainingRange`, or the ``reason`` why the
        range is not known.
    """
    try:
        known = fit_training_range(_fingerprints(training), _fingerprints(held_out))
    except InputError as error:
        return {"reason": f"{error.came}; {error.rule}"}
    return {
        **asdict(known),
        "center": known.center.tolist(),
        "precision": known.precision.tolist(),
    }


def read(content: Mapping[str, Any]) -> TrainingRange | None:
    """Read what :func:`learn` returned; None where the range is not known."""
    if "center" not in content:
        return None
    return TrainingRange(
        center=np.array(content["center"]),
        precision=np.array(content["precision"]),
        threshold=content["threshold"],
        false_alarms=tuple(content["false_alarms"]),
        num_measured=content["num_measured"],
    )


def judge(
    known: TrainingRange,
    picture: Float[np.ndarray, "channel height width"],
    *,
    preprocessing: Preprocessing,
) -> Novelty:
    """Hold a picture against the training pictures."""
    features = _fingerprint(resize(picture, preprocessing))[None]
    return Novelty(
        distance=float(known.distance(features)[0]), outside=bool(known.is_outside(features)[0])
    )


def false_alarm_sentence(known: TrainingRange, *, what: str = "intensities") -> str:
    """Say how often a picture like the training pictures is called unlike them."""
    rate, low, high = known.false_alarms
    return (
        f"out of range means: the {what} are unlike the training pictures'; of "
        f"{known.num_measured} validation pictures {rate:.0%} were called so wrongly "
        f"(95 % {low:.0%} to {high:.0%})"
    )


def _fingerprints(pictures: PictureDataset) -> Float[np.ndarray, "case feature"]:
    """Return the fingerprint of every picture, as the model is shown it."""
    found = [_fingerprint(pictures.pixels(index)) for index in range(len(pictures))]
    return np.array(found).reshape(len(found), -1)


def _fingerprint(
    pixels: UInt8[np.ndarray, "channel row column"],
) -> Float[np.ndarray, " feature"]:
    return intensity_fingerprint(pixels / 255)


@runtime_checkable
class Inputs(Protocol):
    """Pictures as a model is shown them; an item begins with the input."""

    def __len__(self) -> int:
        """Count them."""

    def __getitem__(self, index: int, /) -> tuple[Any, ...]:
        """Return one."""


def features(
    model: nn.Module, images: Float[Tensor, "batch channel height width"]
) -> Float[np.ndarray, "batch feature"]:
    """Return what a model's last linear layer is given: the picture as its head sees it."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    caught: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        with torch.no_grad():
            model(images.to(next(model.parameters()).device))
    finally:
        hook.remove()
    return caught[-1].flatten(1).double().cpu().numpy()


def learn_features(model: nn.Module, training: Inputs, *, held_out: Inputs) -> dict[str, Any]:
    """Learn the range of the training pictures' features, as JSON values for ``model.json``.

    Distances are measured along the features' sixteen main directions among the training pictures.

    Args:
        model: Trained.
        training: The training pictures, not augmented; a thousand of them at most are looked at.
        held_out: The validation pictures.

    Returns:
        As :func:`learn`, with the ``origin`` and the ``directions``.
    """
    known, other = _all_features(model, training), _all_features(model, held_out)
    origin = known.mean(0)
    directions = np.linalg.svd(known - origin, full_matrices=False)[2][:_COMPONENTS]
    try:
        found = fit_training_range((known - origin) @ directions.T, (other - origin) @ directions.T)
    except InputError as error:
        return {"reason": f"{error.came}; {error.rule}"}
    return {
        **asdict(found),
        "center": found.center.tolist(),
        "precision": found.precision.tolist(),
        "origin": origin.tolist(),
        "directions": directions.tolist(),
    }


def _all_features(model: nn.Module, pictures: Inputs) -> Float[np.ndarray, "case feature"]:
    """Return the features of evenly chosen pictures."""
    count = min(len(pictures), _MOST_PICTURES)
    places = np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist()
    return np.concatenate(
        [
            features(model, torch.stack([pictures[k][0] for k in places[start : start + _AT_ONCE]]))
            for start in range(0, count, _AT_ONCE)
        ]
    )


def judge_features(
    content: Mapping[str, Any],
    model: nn.Module,
    *,
    images: Float[Tensor, "batch channel height width"],
) -> Novelty | None:
    """Hold a picture's features against the training pictures'; None where these are not known."""
    known = read(content)
    if known is None:
        return None
    away = features(model, images[:1]) - np.array(content["origin"])
    seen = away @ np.array(content["directions"]).T
    return Novelty(distance=float(known.distance(seen)[0]), outside=bool(known.is_outside(seen)[0]))
