"""Do probabilities mean what they say, and mending them with what validation cases show.

Every function compares an outcome (it happened or not) with the probability that was given for it:
of the positive class in a binary task, of the decided class (was it right?) with more classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import beta

from vitrail.metrics.classification import Values, Weights, ratio

NUM_BINS = 10
_SMALLEST = 1e-7
_ITERATIONS = 25
_SETTLED = 1e-6
_FLAT = 1e-12


def equal_width_edges(num_bins: int = NUM_BINS) -> Float[np.ndarray, " edge"]:
    """Cut [0, 1] into bins of one width."""
    return np.linspace(0.0, 1.0, num_bins + 1)


def equal_count_edges(
    probability: Float[np.ndarray, " case"], num_bins: int = NUM_BINS
) -> Float[np.ndarray, " edge"]:
    """Cut [0, 1] so that each bin holds about as many cases; equal probabilities stay together."""
    inner = np.unique(np.quantile(probability, np.arange(1, num_bins) / num_bins))
    return np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])


def binned(
    outcome: Bool[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    *,
    edges: Float[np.ndarray, " edge"],
    weights: Weights | None = None,
) -> tuple[Any, Any, Any]:
    """Sum weights, outcomes and probabilities in each bin ``(edge, next edge]``, 0 in the first."""
    if weights is None:
        weights = np.ones(len(outcome))
    place = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, len(edges) - 2)
    member = (place[:, None] == np.arange(len(edges) - 1)).astype(np.float64)
    return (
        weights @ member,
        weights @ (member * outcome[:, None]),
        weights @ (member * probability[:, None]),
    )


def calibration_deviations(
    outcome: Bool[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
    edges: Float[np.ndarray, " edge"] | None = None,
) -> Float[np.ndarray, "*resample bin"]:
    """Give bin by bin: observed frequency minus stated probability, times its share of cases.

    The sizes of these sum to the plug-in calibration error; their signs are what
    :func:`~vitrail.metrics.interval.folded_interval` needs to take chance out of it.

    Args:
        outcome: Whether it happened.
        probability: What was stated for it.
        weights: Of resamples.
        edges: Of the bins; :func:`equal_count_edges` makes the error the adaptive one.
    """
    bins = equal_width_edges() if edges is None else edges
    count, happened, stated = binned(outcome, probability, edges=bins, weights=weights)
    return ratio(happened - stated, count.sum(-1, keepdims=True))


def expected_calibration_error(
    outcome: Bool[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
    edges: Float[np.ndarray, " edge"] | None = None,
) -> Values:
    """Mean distance, over bins, of the stated probability from the observed frequency.

    This is the plug-in value of the literature. It counts chance as miscalibration and is too high,
    the more so the fewer cases there are.

    Args:
        outcome: Whether it happened.
        probability: What was stated for it.
        weights: Of resamples.
        edges: Of the bins; :func:`equal_count_edges` makes it the adaptive error.

    Source: guo2017, eq. 3; nixon2019 (adaptive); roelofs2022 (the bias).
    """
    found = calibration_deviations(outcome, probability, weights=weights, edges=edges)
    return np.asarray(np.abs(found).sum(-1))


def calibration_intercept_slope(
    outcome: Bool[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
) -> tuple[Values, Values]:
    """Fit the outcome by the logit of the probability (Cox).

    Returns:
        Calibration in the large (the intercept with the slope held at 1; above 0: risks are
        understated) and the slope (below 1: too extreme). NaN where Newton's steps do not settle
        (one class only, or classes that are fully separated).

    Source: vancalster2019.
    """
    x = logit(np.clip(probability, _SMALLEST, 1 - _SMALLEST))
    rows = np.atleast_2d(np.ones(len(x)) if weights is None else weights)
    ones = np.ones_like(x)
    large = _logistic(ones[None], outcome, offset=x, weights=rows)[:, 0]
    slope = _logistic(np.stack([ones, x]), outcome, offset=np.zeros_like(x), weights=rows)[:, 1]
    shape = () if weights is None else weights.shape[:-1]
    return large.reshape(shape), slope.reshape(shape)


def _logistic(
    design: Float[np.ndarray, "parameter case"],
    outcome: Bool[np.ndarray, " case"],
    *,
    offset: Float[np.ndarray, " case"],
    weights: Float[np.ndarray, "resample case"],
) -> Float[np.ndarray, "resample parameter"]:
    """Fit a logistic regression to each resample by Newton's method; NaN where it does not settle.

    All resamples start from the fit to their mean weights, so that few steps are needed; those
    that have settled are left alone.
    """
    start = np.zeros((1, len(design)))
    mean_weights = weights.mean(0)[None]
    found = _settle(start, design, outcome=outcome, offset=offset, weights=mean_weights)
    if np.isnan(found).any():
        return np.full((len(weights), len(design)), np.nan)
    start = found + _newton_step(found, design, outcome=outcome, offset=offset, weights=weights)
    return _settle(start, design, outcome=outcome, offset=offset, weights=weights)


def _settle(
    start: Float[np.ndarray, "resample parameter"],
    design: Float[np.ndarray, "parameter case"],
    *,
    outcome: Bool[np.ndarray, " case"],
    offset: Float[np.ndarray, " case"],
    weights: Float[np.ndarray, "resample case"],
) -> Float[np.ndarray, "resample parameter"]:
    """Take Newton's steps until none moves; rows that still move at the end become NaN."""
    found, moving = start.copy(), np.arange(len(weights))
    for _ in range(_ITERATIONS):
        step = _newton_step(
            found[moving], design, outcome=outcome, offset=offset, weights=weights[moving]
        )
        found[moving] += step
        moving = moving[np.abs(step).max(1) > _SETTLED]
        if not len(moving):
            return found
    found[moving] = np.nan
    return found


def _newton_step(
    found: Float[np.ndarray, "#resample parameter"],
    design: Float[np.ndarray, "parameter case"],
    *,
    outcome: Bool[np.ndarray, " case"],
    offset: Float[np.ndarray, " case"],
    weights: Float[np.ndarray, "resample case"],
) -> Float[np.ndarray, "resample parameter"]:
    """Give Newton's step of each resample; NaN where its curvature vanishes."""
    mean = expit(found @ design + offset)
    gradient = (weights * (outcome - mean)) @ design.T
    products = (design[:, None] * design).reshape(-1, design.shape[1])
    curvature = ((weights * mean * (1 - mean)) @ products.T).reshape(-1, len(design), len(design))
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # a resample that ran off to infinity is flat
        flat = ~(np.abs(np.linalg.det(curvature)) > _FLAT)
    curvature[flat] = np.eye(len(design))
    step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
    step[flat] = np.nan
    return np.asarray(step)


def _log_probabilities(
    probabilities: Float[np.ndarray, "case class"],
) -> Float[np.ndarray, "case class"]:
    return np.asarray(np.log(np.clip(probabilities, _SMALLEST, 1.0)))


def fit_temperature(
    y_true: Int[np.ndarray, " case"], probabilities: Float[np.ndarray, "case class"]
) -> float:
    """Find the temperature in [0.05, 20] that makes the log loss of validation cases least.

    Source: guo2017, section 4.2.
    """
    logits = _log_probabilities(probabilities)
    truth = np.arange(len(y_true)), y_true

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[truth].mean())

    bounds = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def apply_temperature(
    probabilities: Float[np.ndarray, "case class"], temperature: float
) -> Float[np.ndarray, "case class"]:
    """Soften (above 1) or sharpen probabilities; the order of a case's classes stays."""
    return np.asarray(softmax(_log_probabilities(probabilities) / temperature, axis=1))


def fit_vector_scaling(
    y_true: Int[np.ndarray, " case"], probabilities: Float[np.ndarray, "case class"]
) -> tuple[Float[np.ndarray, " class"], Float[np.ndarray, " class"]]:
    """Find a scale and a shift for each class's log probability by the least log loss.

    A penalty of a thousandth keeps the shifts (which are known only up to a constant) at mean zero.

    Source: guo2017, section 4.2.
    """
    logits = _log_probabilities(probabilities)
    num_classes = logits.shape[1]
    truth = y_true[:, None] == np.arange(num_classes)

    def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
        scale, shift = parameters[:num_classes], parameters[num_classes:]
        scaled = logits * scale + shift
        rest = (softmax(scaled, axis=1) - truth) / len(logits)
        value = -log_softmax(scaled, axis=1)[truth].mean() + 5e-4 * (shift @ shift)
        return float(value), np.concatenate([(rest * logits).sum(0), rest.sum(0) + 1e-3 * shift])

    start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])
    found = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)
    return found[:num_classes], found[num_classes:]


def apply_vector_scaling(
    probabilities: Float[np.ndarray, "case class"],
    *,
    scale: Float[np.ndarray, " class"],
    shift: Float[np.ndarray, " class"],
) -> Float[np.ndarray, "case class"]:
    """Apply what :func:`fit_vector_scaling` found."""
    return np.asarray(softmax(_log_probabilities(probabilities) * scale + shift, axis=1))


def conformal_thresholds(
    y_true: Int[np.ndarray, " case"],
    probabilities: Float[np.ndarray, "case class"],
    *,
    error: float,
) -> Float[np.ndarray, " class"]:
    """Find, class by class, the least probability at which a class stays in the set.

    Sets ``probabilities >= thresholds`` then hold the truth with chance at least ``1 - error`` for
    cases of *every* class, if new cases are like the validation cases. A class with too few
    validation cases gets 0: it is in every set.

    Source: vovk2005, section 4.5 (label-conditional); sadinle2019.
    """
    thresholds = np.zeros(probabilities.shape[1])
    for k in range(len(thresholds)):
        own = np.sort(probabilities[y_true == k, k])
        rank = int(np.floor(error * (len(own) + 1)))
        thresholds[k] = own[rank - 1] if rank >= 1 else 0.0
    return thresholds


def abstention_threshold(
    right: Bool[np.ndarray, " case"],
    confidence: Float[np.ndarray, " case"],
    *,
    risk: float,
    candidates: Sequence[float] = tuple(np.round(np.arange(0.5, 1.0, 0.025), 3)),
    chance: float = 0.05,
) -> float | None:
    """Find the least confidence at which decisions may be given at a stated risk.

    Of the decisions at or above it, at most the share ``risk`` is wrong, except with probability
    ``chance`` over the draw of validation cases: exact binomial bounds, shared out evenly over the
    candidates.

    Returns:
        The threshold, or None where the cases are too few or too often wrong to promise it.

    Source: geifman2017, section 3; clopper1934.
    """
    for candidate in sorted(candidates):
        kept = right[confidence >= candidate]
        wrong = int(np.sum(~kept))
        if wrong < len(kept):
            bound = beta.ppf(1 - chance / len(candidates), wrong + 1, len(kept) - wrong)
            if bound <= risk:
                return float(candidate)
    return None
