"""Does the model serve every site alike? All metrics in each group, and the largest gap."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vitrail.evaluation.intervals import Resampling, draw, estimates
from vitrail.evaluation.measure import Sample
from vitrail.evaluation.scored import Run
from vitrail.records import Estimate

GAP_METRIC = "balanced_accuracy"


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
        and their difference), the gap None where fewer than two groups define the metric.
    """
    names = np.array([groups.get(name, "") for name in runs[0].case_ids])
    found: dict[str, dict[str, Estimate]] = {}
    values: dict[str, float] = {}
    for group in sorted(set(names.tolist()) - {""}):
        own = [_only(run, names == group) for run in runs]
        found[group] = estimates(own, draw(own, how), how=how)[runs[0].model]
        value = found[group][GAP_METRIC].value
        if np.isfinite(value):
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
    return replace(run, case_ids=names, sample=cut, calibrated=None)
