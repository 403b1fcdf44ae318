"""Does the model serve every site alike? All metrics in each group, and the largest gap."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vitrail.evaluation.intervals import Resampling, draw, estimates
from vitrail.evaluation.measure import Sample
from vitrail.evaluation.scored import Run
from vitrail.records import Estimate

GAP_METRIC = "balanced_accuracy"
_BANDS = ((18, "0 to 17"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"))


def age_band(age: str) -> str:
    """Name the band of an age in years, as manifests and DICOM write it; empty where it is none.

    Example:
        >>> age_band("63"), age_band("081Y"), age_band("006M"), age_band("unknown")
        ('60 to 79', '80 and older', '0 to 17', '')
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d*)?)([DWMY]?)", age.strip().upper())
    if found is None:
        return ""
    years = float(found[1]) if found[2] in ("", "Y") else 0.0
    return next((name for limit, name in _BANDS if years < limit), "80 and older")


def subgroup(
    runs: Sequence[Run], groups: Mapping[str, str], *, how: Resampling
) -> dict[str, object]:
    """Measure the runs of one model in each group of one column.

    Args:
        runs: The seeds of one model on one set.
        groups: Group of each case; cases without one (or with an empty one) are left out.
        how: Of the intervals.

    Returns:
        ``groups`` (name → metric → :class:`Estimate`) and ``gap`` (metric, highest and lowest group
        and their difference) among the groups that have cases of every class, since means over
        other classes are no like numbers; empty where those are fewer than two.
    """
    names = np.array([groups.get(name, "") for name in runs[0].case_ids])
    found: dict[str, dict[str, Estimate]] = {}
    values: dict[str, float] = {}
    for group in sorted(set(names.tolist()) - {""}):
        own = [_only(run, names == group) for run in runs]
        found[group] = estimates(own, draw(own, how), how=how)[runs[0].model]
        value = found[group][GAP_METRIC].value
        classes = set(own[0].sample.y_true.tolist())
        if np.isfinite(value) and classes == set(runs[0].sample.y_true.tolist()):
            values[group] = value
    gap: dict[str, object] = {}
    if len(values) > 1:
        high, low = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        gap = {"metric": GAP_METRIC, "high": high, "low": low, "gap": values[high] - values[low]}
    return {"groups": found, "gap": gap}


def _only(run: Run, keep: np.ndarray) -> Run:
    """Cut a run to some of its cases."""
    s = run.sample
    cut = Sample(s.y_true[keep], s.probabilities[keep], s.decision[keep], s.positive)
    names = tuple(name for name, kept in zip(run.case_ids, keep.tolist(), strict=True) if kept)
    return replace(run, case_ids=names, sample=cut, calibrated=None, vector_scaled=None)
