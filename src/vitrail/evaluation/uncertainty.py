"""When a model had better not decide: prediction sets and abstention, proved on the compared set.

Both are made from validation cases alone; how well they keep their promise is then counted on the
test (else the external) set.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from vitrail.evaluation.intervals import by_model
from vitrail.evaluation.level import Level
from vitrail.evaluation.scored import Run
from vitrail.metrics.calibration import abstention_threshold, conformal_thresholds
from vitrail.metrics.interval import wilson

CONFORMAL_ERROR = 0.1
ABSTENTION_RISK = 0.05


def uncertainty(
    level: Level, classes: tuple[str, ...], *, risk: float = ABSTENTION_RISK
) -> dict[str, Mapping[str, object]]:
    """Give prediction sets and abstention of each model's first seed, if it has validation cases.

    None where the folds of that seed have other validation cases each: what one fold's cases
    promise does not hold for the models of the others.
    """
    found: dict[str, Mapping[str, object]] = {}
    validation = by_model(level.runs.get("validation", ()))
    for model, (first, *_) in by_model(level.runs.get(level.compared, ())).items():
        known = [run for run in validation.get(model, ()) if run.seed == first.seed]
        if len({run.case_ids for run in known}) == 1:
            found[model] = {
                "seed": first.seed,
                "conformal": _conformal(known[0], first, classes=classes),
                "abstention": _abstention(known[0], first, risk=risk),
            }
    return found


def _share(counted: Bool[np.ndarray, " case"]) -> dict[str, float | int | None]:
    """Give a share with Wilson's interval."""
    n = len(counted)
    low, high = wilson(float(counted.sum()), float(n))
    return {"value": float(counted.mean()) if n else None, "low": low, "high": high, "n": n}


def _conformal(known: Run, tested: Run, *, classes: tuple[str, ...]) -> dict[str, object]:
    """Make sets that hold the truth of every class with the stated chance, and count."""
    thresholds = conformal_thresholds(
        known.sample.y_true, known.sample.probabilities, error=CONFORMAL_ERROR
    )
    y_true: Int[np.ndarray, " case"] = tested.sample.y_true
    members: Bool[np.ndarray, "case class"] = tested.sample.probabilities >= thresholds
    inside = members[np.arange(len(y_true)), y_true]
    size = members.sum(1)
    return {
        "error": CONFORMAL_ERROR,
        "thresholds": dict(zip(classes, thresholds.tolist(), strict=True)),
        "coverage": {name: _share(inside[y_true == k]) for k, name in enumerate(classes)},
        "mean_size": float(size.mean()),
        "single": _share(size == 1),
        "empty": _share(size == 0),
    }


def _confidence(run: Run) -> tuple[Bool[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """Return whether the likeliest class was right, and its probability."""
    probabilities = run.sample.probabilities
    return run.sample.y_true == probabilities.argmax(1), probabilities.max(1)


def _abstention(known: Run, tested: Run, *, risk: float) -> dict[str, object]:
    """Find the confidence above which at most the stated share is wrong, and count."""
    right, confidence = _confidence(known)
    threshold = abstention_threshold(right, confidence, risk=risk)
    if threshold is None:
        return {"risk": risk, "threshold": None}
    right, confidence = _confidence(tested)
    kept = confidence >= threshold
    return {
        "risk": risk,
        "threshold": threshold,
        "decided": _share(kept),
        "wrong": _share(~right[kept]),
    }
