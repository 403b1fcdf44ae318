"""Whether a new picture is unlike those that a model was trained on, by its intensities."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from vitrail.data.loader import PictureDataset, resize
from vitrail.errors import InputError
from vitrail.metrics.novelty import TrainingRange, fit_training_range, intensity_fingerprint
from vitrail.records import Preprocessing


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


def false_alarm_sentence(known: TrainingRange) -> str:
    """Say how often a picture like the training pictures is called unlike them."""
    rate, low, high = known.false_alarms
    return (
        f"out of range means: the intensities are unlike the training pictures'; of "
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
