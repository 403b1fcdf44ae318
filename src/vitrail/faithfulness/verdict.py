"""From numbers to what a reader is told: bands, strips, one recommendation with its limits.

Rule ``verdict-2``. A map fails, and is greyed with the reason, if half of its method's maps is
there without the learned weights (``randomization-2``), if the method's removal gain is not above
that of the best control by its whole interval (pictures paired), or if the map is constant. A
random order gains 0 on average by construction, so that ``removal_gain`` is the gain over random. A
method is recommended if it is class-specific, does not fail, and has the best mean rank of those;
the paired difference of removal gain to the next one says whether that is more than chance.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from vitrail.explain import methods as all_methods
from vitrail.faithfulness.interval import mean_estimates, span
from vitrail.faithfulness.record import Rank, Recommendation, Strip
from vitrail.faithfulness.suite import Suite
from vitrail.records import Estimate

Tables = Mapping[str, Mapping[str, Estimate]]
Clusters = Int[np.ndarray, " case"] | None

_RANKED = ("removal_gain", "saco_score", "sensitivity_n_score", "contrast_score", "mosaic_score")
BAND_RESAMPLES = 500


def is_ranked(test: str) -> bool:
    """Tell whether a test ranks methods: faithfulness does; plausibility and stability do not."""
    return test.partition("/")[0] in _RANKED


def bands(
    work: Suite, *, clusters: Clusters, seed: int
) -> dict[str, dict[str, dict[str, list[list[float]]]]]:
    """Return the curves' heights with intervals: imputer → method → most, least."""
    found: dict[str, dict[str, dict[str, list[list[float]]]]] = {}
    for curves in work.curves:
        values = {
            (name, side, step): heights["probability"][place, :, step]
            for side, heights in (("most", curves.most), ("least", curves.least))
            for place, name in enumerate(work.maps)
            for step in range(len(curves.fractions))
        }
        cells = mean_estimates(values, clusters=clusters, resamples=BAND_RESAMPLES, seed=seed)
        of_imputer: dict[str, dict[str, list[list[float]]]] = {}
        for (name, side, _), cell in cells.items():
            ends = [cell.value if np.isnan(end) else end for end in (cell.low, cell.high)]
            row = of_imputer.setdefault(name, {}).setdefault(side, [])
            row.append([round(part, 5) for part in (cell.value, *ends)])
        found[curves.imputer] = of_imputer
    return found


def main_gain(work: Suite) -> str:
    """Return the name of the removal test that verdicts use: the first imputer that was allowed."""
    return f"removal_gain/{work.curves[0].imputer}" if work.curves else ""


def over_controls(work: Suite) -> dict[tuple[str, str], Float[np.ndarray, " case"]]:
    """Return the removal gain of each map minus that of the control with the highest mean."""
    found = {}
    for test in sorted({test for test, _ in work.values if test.startswith("removal_gain/")}):
        best = max(work.controls, key=lambda name: float(np.nanmean(work.values[test, name])))
        work.best_control[test] = best
        for name in work.explainers:
            difference = work.values[test, name] - work.values[test, best]
            found[f"over_controls/{test}", name] = difference
    return found


def failures(work: Suite, name: str, *, tables: Tables, passed: Mapping[str, bool]) -> list[str]:
    """Say why a method's maps should not be trusted on this model; empty if nothing is known."""
    why = []
    gain = main_gain(work)
    if not passed.get(name, True):
        why.append("half of the map or more is there when all weights are shuffled")
    over = tables.get(f"over_controls/{gain}", {}).get(name)
    if over is not None and not over.low > 0:
        control = work.best_control[gain].replace("_", " ")
        why.append(f"not shown to mark what matters more to the model than the control {control!r}")
    return why


def strips(work: Suite, tables: Tables, *, passed: Mapping[str, bool]) -> list[dict[str, Strip]]:
    """Return the trust strip of every map of every method."""
    gain = main_gain(work)
    general = {name: failures(work, name, tables=tables, passed=passed) for name in work.explainers}
    found: list[dict[str, Strip]] = []
    for case in range(len(work.images)):
        found.append({})
        for name, explained in work.explained.items():
            over, own = tables.get(gain, {}).get(name), work.values.get((gain, name))
            steady = work.values.get(("stability_score", name))
            mean = tables.get("stability_score", {}).get(name)
            constant = ["the map is constant"] if np.ptp(explained.maps[case]) == 0 else []
            found[-1][name] = Strip(
                class_specific=all_methods()[name].class_specific,
                gain_over_random=_known(own[case]) if own is not None else None,
                gain_low=_known(over.low) if over is not None else None,
                gain_high=_known(over.high) if over is not None else None,
                stability=_known(steady[case]) if steady is not None else None,
                stability_of_method=_known(mean.value) if mean is not None else None,
                randomization_passed=passed.get(name),
                completeness_error=_known(explained.completeness_error[case]),
                prefix_share=_known(explained.prefix_share[case]),
                fails=tuple(general[name] + constant),
            )
    return found


def _known(value: float) -> float | None:
    """Return a number for JSON, None where it is not defined."""
    return round(float(value), 6) if np.isfinite(value) else None


def recommend(
    work: Suite,
    tables: Tables,
    *,
    ranks: Mapping[str, Rank],
    passed: Mapping[str, bool],
    clusters: Clusters,
) -> Recommendation:
    """Choose one method to look at first, by the module's rule."""
    gain = main_gain(work)
    order = sorted(work.explainers, key=lambda name: ranks[name].mean)
    good = [
        name
        for name in order
        if all_methods()[name].class_specific
        and not failures(work, name, tables=tables, passed=passed)
    ]
    limits = ["It holds for this model and these pictures; a map shows where, not why."]
    if not gain:
        return Recommendation(
            method="", reason="Without the removal test no method can be recommended.", limits=()
        )
    if not good:
        return Recommendation(
            method="",
            reason="No class-specific method is surely better than the controls on this model.",
            limits=("Look at the tables; more cases may decide.",),
        )
    best = good[0]
    cell, rank = tables[gain][best], ranks[best]
    reason = (
        f"{best} has the best mean rank ({rank.mean:.1f}, from {rank.best:.0f} to "
        f"{rank.worst:.0f}) of the class-specific methods that pass; its removal gain is "
        f"{cell.value:.3f} (95 % interval {span(cell)}; 0 is chance), above that of the best "
        f"control, {work.best_control[gain].replace('_', ' ')}."
    )
    if len(good) > 1:
        limits.append(_against(work, best, second=good[1], gain=gain, clusters=clusters))
    limits += other_hidings(tables, best, gain=gain)
    if cell.reason:
        limits.append(f"{cell.reason[0].upper()}{cell.reason[1:]}.")
    return Recommendation(method=best, reason=reason, limits=tuple(limits))


def other_hidings(tables: Tables, name: str, *, gain: str) -> list[str]:
    """Say under which other imputers a method's gain is not surely above the best control's."""
    said = []
    for test, row in tables.items():
        kind, _, hidden = test.partition("/")
        if kind != "over_controls" or hidden == gain or name not in row:
            continue
        cell = row[name]
        if not cell.low > 0:
            said.append(
                f"Hidden by {hidden.partition('/')[2].replace('_', ' ')}, its gain is not surely "
                f"above the best control's (difference {cell.value:.3f}, {span(cell)}): "
                "the order holds for the first way of hiding alone."
            )
    return said


def _against(work: Suite, best: str, *, second: str, gain: str, clusters: Clusters) -> str:
    """Say whether the best method's removal gain is surely larger than the next one's."""
    difference = {"": work.values[gain, best] - work.values[gain, second]}
    cell = mean_estimates(difference, clusters=clusters)[""]
    words = "cannot be told from"
    if cell.low > 0 or cell.high < 0:
        words = "is above" if cell.value > 0 else "is below"
    return (
        f"In removal gain it {words} {second} (paired difference {cell.value:.3f}, {span(cell)})."
    )
