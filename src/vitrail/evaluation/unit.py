"""The unit of analysis: images roll up to the patient they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from vitrail.errors import DataError
from vitrail.records import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class RollUp:
    """How the probabilities of one patient's images become the patient's.

    Attributes:
        how: ``mean``; ``max`` (the image most like each class); ``top_k`` (mean of the ``k`` images
            most like each class); ``vote`` (share of images whose likeliest class it is).
            ``max`` and ``top_k`` look at the positive class alone in a binary task; with more
            classes the results are divided by their sum.
        k: For ``top_k``; patients with fewer images use them all.
    """

    how: Literal["mean", "max", "top_k", "vote"] = "mean"
    k: int = 3

    def __str__(self) -> str:
        """Say it in words."""
        words = {"mean": "mean", "max": "maximum", "vote": "vote"}
        return f"{words.get(self.how, f'mean of the highest {self.k}')} over a patient's images"


def _combine(
    rows: Float[np.ndarray, "image class"], *, roll_up: RollUp, positive: int | None
) -> Float[np.ndarray, " class"]:
    """Roll one patient's images up."""
    if roll_up.how == "mean":
        return np.asarray(rows.mean(0))
    if roll_up.how == "vote":
        return np.asarray(np.bincount(rows.argmax(1), minlength=rows.shape[1]) / len(rows))
    k = 1 if roll_up.how == "max" else roll_up.k
    highest = np.sort(rows, axis=0)[-k:].mean(0)
    if positive is None:
        return np.asarray(highest / highest.sum())
    combined = np.full(2, 1 - highest[positive])
    combined[positive] = highest[positive]
    return combined


def cluster_of(case_id: str, clusters: Mapping[str, str]) -> str:
    """Look a case's cluster up.

    Raises:
        DataError: If the case is not in the split that the clusters were made from.
    """
    if case_id not in clusters:
        raise DataError(
            "predictions",
            f"the case {case_id!r}",
            "predictions are for the cases of the split",
            "evaluate with the split that the models were trained with",
        )
    return clusters[case_id]


def has_mixed_labels(predictions: Predictions, clusters: Mapping[str, str]) -> bool:
    """Tell whether some patient's images have different labels."""
    pairs = {
        (cluster_of(name, clusters), truth)
        for name, truth in zip(predictions.case_ids, predictions.y_true.tolist(), strict=True)
    }
    return len(pairs) > len({patient for patient, _ in pairs})


def to_patients(
    predictions: Predictions,
    clusters: Mapping[str, str],
    *,
    roll_up: RollUp,
    positive: int | None,
) -> Predictions:
    """Roll images up to patients; the rows come in the patients' sorted order."""
    rows: dict[str, list[int]] = {}
    for place, name in enumerate(predictions.case_ids):
        rows.setdefault(cluster_of(name, clusters), []).append(place)
    patients = sorted(rows)
    probabilities = predictions.probabilities.astype(np.float64)
    return replace(
        predictions,
        case_ids=tuple(patients),
        y_true=predictions.y_true[[rows[patient][0] for patient in patients]],
        probabilities=np.stack(
            [
                _combine(probabilities[rows[patient]], roll_up=roll_up, positive=positive)
                for patient in patients
            ]
        ),
    )
