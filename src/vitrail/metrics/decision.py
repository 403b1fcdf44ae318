"""What acting on a score is worth: operating points and net benefit."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from vitrail.errors import InputError
from vitrail.metrics.classification import Values, Weights, cumulative_counts, ratio

Rule = Literal["youden", "sensitivity", "specificity", "cost", "fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """How the threshold of a binary decision is chosen, on validation cases.

    Attributes:
        rule: ``youden`` (most sensitivity + specificity), ``sensitivity`` or ``specificity`` (at
            least ``wanted``, then the most of the other), ``cost`` (a missed positive costs
            ``wanted`` false alarms) or ``fixed`` (the threshold is ``wanted``).
        wanted: The rule's number; ``youden`` has none.
    """

    rule: Rule = "youden"
    wanted: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers that the rule cannot use."""
        most = np.inf if self.rule == "cost" else 1.0
        if not 0 <= self.wanted <= most:
            raise InputError(
                "wanted", str(self.wanted), "a share lies in [0, 1]", "write 95 % as 0.95"
            )

    def __str__(self) -> str:
        """Say the rule in words."""
        if self.rule == "youden":
            return "Youden: most sensitivity + specificity"
        if self.rule == "cost":
            return f"a missed positive costs {self.wanted:g} false alarms"
        return f"{self.rule} {self.wanted:g}"


def choose_threshold(
    y_true: Bool[np.ndarray, " case"],
    y_score: Float[np.ndarray, " case"],
    *,
    point: OperatingPoint,
) -> float:
    """Choose the score at or above which a case is called positive.

    The threshold lies halfway between the last score called positive and the next lower one. Among
    equally good ones the middle of the highest such gap is taken.

    Returns:
        The threshold; NaN where a class is absent or the scores are constant.
    """
    if point.rule == "fixed":
        return point.wanted
    if y_true.all() or not y_true.any() or np.ptp(y_score) == 0:
        return float("nan")
    false_positive, true_positive, scores = cumulative_counts(y_true, y_score)
    sensitivity = true_positive / true_positive[-1]
    specificity = 1 - false_positive / false_positive[-1]
    if point.rule == "sensitivity":
        worth = np.where(sensitivity >= point.wanted - 1e-12, specificity, -1.0)
    elif point.rule == "specificity":
        worth = np.where(specificity >= point.wanted - 1e-12, sensitivity, -1.0)
    elif point.rule == "cost":
        worth = point.wanted * true_positive - false_positive
    else:
        worth = sensitivity + specificity
    best = int(np.argmax(worth))
    if worth[best] < 0:  # calling nobody positive is better
        return float(np.nextafter(scores[0], np.inf))
    following = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float((scores[best] + following) / 2)


def net_benefit(
    y_true: Bool[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
    threshold: float,
) -> Values:
    """Give true positives a case, less false positives at the exchange rate of the threshold.

    Treating nobody has net benefit 0; treating everybody has that of ``probability = 1``.

    Source: vickers2006.
    """
    w = np.ones(len(y_true)) if weights is None else weights
    called = probability >= threshold
    true_positive, false_positive = w @ (called & y_true), w @ (called & ~y_true)
    return ratio(true_positive - false_positive * threshold / (1 - threshold), w.sum(-1))
