"""How much too good the best of many configurations looks on the cases that chose it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from vitrail.metrics.classification import macro_average, one_hot, roc_auc_score

_RESAMPLES = 200


def optimism(
    y_true: Int[np.ndarray, " case"],
    probabilities: Sequence[Float[np.ndarray, "case class"]],
    *,
    clusters: Int[np.ndarray, " case"],
    seed: int = 0,
) -> dict[str, float] | None:
    """Repeat the choice on resampled validation cases, and score it on those left out.

    Args:
        y_true: Class indices of the validation cases.
        probabilities: What each configuration says of them.
        clusters: Cluster of each case, numbered from 0; whole clusters are drawn.
        seed: Of the resampling.

    Returns:
        ``chosen`` (ROC area of the best one), ``corrected`` (mean area of the one that a resample
        chooses, on the cases it left out) and their difference, ``optimism``; None where too few
        resamples hold both classes on both sides.

    Source: tsamardinos2018 (bootstrap bias correction).
    """
    classes = probabilities[0].shape[1]
    truth = one_hot(y_true, num_classes=classes)
    draw = np.random.default_rng(seed).integers(
        int(clusters.max()) + 1, size=(_RESAMPLES, int(clusters.max()) + 1)
    )
    inside = np.stack([np.bincount(one, minlength=len(one))[clusters] for one in draw]).astype(
        float
    )
    outside = (inside == 0).astype(float)
    whole = np.ones((1, len(y_true)))

    def areas(weights: np.ndarray) -> Float[np.ndarray, "configuration resample"]:
        return np.stack(
            [
                macro_average(roc_auc_score, truth, y_score=one, weights=weights)
                for one in probabilities
            ]
        )

    chosen = float(areas(whole).max())
    known, left_out = areas(inside), areas(outside)
    picked = np.where(np.isnan(known), -np.inf, known).argmax(axis=0)
    corrected = left_out[picked, np.arange(_RESAMPLES)]
    if np.isfinite(corrected).sum() < _RESAMPLES / 2 or not np.isfinite(chosen):
        return None
    value = float(np.nanmean(corrected))
    return {"chosen": chosen, "corrected": value, "optimism": chosen - value}
