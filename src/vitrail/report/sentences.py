"""What the page says in words: the summary, what the shortcut audit means, and the limits."""

from collections import Counter
from collections.abc import Iterable, Mapping

from vitrail.report.contents import BASELINE, Contents, Object
from vitrail.report.differences import comparison
from vitrail.report.results import OWN_SETS
from vitrail.report.tables import interval, lower_is_better, metric_name, model_name, number, signed

HEADLINE = ("roc_auc_score", "balanced_accuracy", "balanced_accuracy_score", "accuracy")
"""Metrics that the summary may open with, the first one present is taken."""

_GUESSING = 0.5
"""ROC AUC of a coin."""


def summary(contents: Contents) -> tuple[str, ...]:
    """Say in three sentences what was found, against what, and how far to trust it."""
    tests = contents.evaluation.get("sets", {}).get("test", {})
    models = [model for model in contents.models if model in tests]
    if not models:
        return ("The models of this run have not been evaluated yet.",)
    return (
        _found(contents, models[0], metrics=tests[models[0]]),
        _against(contents, models),
        _trust(contents, tests[models[0]]),
    )


def _found(contents: Contents, model: str, *, metrics: Object) -> str:
    """Say what the model reached."""
    named = [name for name in HEADLINE if name in metrics][:1]
    named += [name for name in metrics if name.startswith(("sensitivity", "specificity"))]
    numbers = [
        f"{'an' if metric_name(name)[:2] in {'Ac', 'Av'} else 'a'} {_lower(metric_name(name))} of "
        f"{_with_interval(metrics[name])}"
        for name in named
    ]
    count = next((one["n"] for one in metrics.values() if "n" in one), len(contents.truth))
    positive = contents.evaluation.get("positive_class")
    others = [name for name in contents.classes if name != positive]
    task = (
        f"told “{positive}” from “{others[0]}”"
        if positive and len(others) == 1
        else f"told {len(contents.classes)} classes apart"
        if not any("|" in truth for truth in contents.truth.values())
        else f"found {len(contents.classes)} labels, of which a case can have several,"
    )
    return (
        f"On {count} {unit(contents, count)}{_unknown(contents, count)} that took no part in its "
        "training, "
        f"the {model_name(model)} {task} with {_join(numbers)}."
    )


def _unknown(contents: Contents, count: int) -> str:
    """Say how the test cases without a patient id were counted."""
    tested = [row for name, row in contents.cases.items() if contents.parts.get(name) == "test"]
    known = {name for row in tested if (name := row.get("patient_id"))}
    without = sum(not row.get("patient_id") for row in tested)
    if not without or contents.evaluation.get("unit") != "patient":
        return ""
    named = f"{len(known)} known by an id"
    if without == 1:
        return f" ({named}, and one picture without an id)"
    apart = count - len(known)
    many = f"{without} pictures without an id"
    if apart == without:
        return f" ({named}, and {many}, each counted as a patient)"
    return f" ({named}, and {many}, counted as {apart}: near-duplicates as one)"


def _with_interval(estimate: Object) -> str:
    """Write a number with its interval in brackets, finer where rounding would make it perfect."""
    value = estimate.get("value")
    perfect = isinstance(value, float) and value < 1 and round(value, 2) == 1
    digits = 3 if perfect else 2
    span, value = interval(estimate, digits=digits), number(value, digits=digits)
    return f"{value} (95\N{NO-BREAK SPACE}% interval {span})" if span else value


def _lower(name: str) -> str:
    """Write a metric's name inside a sentence; abbreviations keep their capitals."""
    return name if name[:2].isupper() else name[0].lower() + name[1:]


def _join(parts: list[str]) -> str:
    """Join parts of a sentence."""
    if len(parts) < 2:
        return "".join(parts) or "no defined headline number"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _against(contents: Contents, models: list[str]) -> str:
    """Say how the model compares with its baseline."""
    comparisons = contents.evaluation.get("comparisons", ())
    pairs = [one for one in comparisons if BASELINE in {one.get("a"), one.get("b")}]
    order = {name: place for place, name in enumerate(HEADLINE)}
    pairs.sort(key=lambda one: order.get(one.get("metric", ""), len(order)))
    if pairs:
        return _difference(pairs[0])
    if BASELINE in models:
        return "Beside it stands a CNN baseline; the two were not compared in pairs."
    return "No CNN baseline was trained beside it, so nothing says whether a ViT was needed."


def _difference(one: Object) -> str:
    """Say a paired difference as a person would."""
    low, high, difference = one.get("low"), one.get("high"), one.get("difference")
    if low is None or high is None or difference is None:
        return comparison(one)
    name, other = model_name(str(one["a"])), model_name(str(one["b"]))
    metric = _lower(metric_name(str(one["metric"])))
    value, start, end = (signed(part, digits=3) for part in (difference, low, high))
    span = f"{value} (95\N{NO-BREAK SPACE}% interval {start} to {end})"
    if low <= 0 <= high:
        return (
            f"Between it and the {other} there is no evidence of a difference in {metric}: {span}."
        )
    better = (difference < 0) == lower_is_better(str(one["metric"]))
    return f"The {name} is {'better' if better else 'worse'} than the {other} in {metric}: {span}."


def _trust(contents: Contents, metrics: Object) -> str:
    """Say the gravest reason for doubt."""
    leaks = contents.audit.get("leaks") or ()
    if leaks:
        return (
            f"The audit found {len(leaks)} leak{'s' * (len(leaks) > 1)} between the parts of the "
            "split, so these numbers may be too good."
        )
    strongest = strongest_shortcut(contents)
    reached, low = (metrics.get("roc_auc_score", {}).get(name) for name in ("value", "low"))
    if low is not None and low <= _GUESSING:
        return (
            f"Its ROC AUC is not shown to be above {number(_GUESSING, digits=1)}, which guessing "
            "reaches: nothing here shows that it learned to tell the classes apart."
        )
    if strongest and reached is not None and strongest["roc_auc_score"] >= reached - 0.05:
        return (
            f"Mind the shortcut: {str(strongest['feature']).replace('_', ' ')} alone reaches a "
            f"ROC AUC of {number(strongest['roc_auc_score'], digits=2)}, so the model may have "
            "learned the "
            "source of the pictures and not the disease."
        )
    if not contents.knows_patients:
        return (
            "The patients are unknown, so every interval treats each picture as a patient of its "
            "own and may be too narrow."
        )
    return (
        "The intervals resample whole patients; they say nothing about another hospital, "
        "scanner or population."
    )


def strongest_shortcut(contents: Contents) -> Object | None:
    """Return the trivial feature that reaches most."""
    known = [
        one
        for one in contents.audit.get("shortcuts", ())
        if isinstance(one.get("roc_auc_score"), int | float)
    ]
    return max(known, key=lambda one: float(one["roc_auc_score"]), default=None)


def unit(contents: Contents, count: int) -> str:
    """Name the unit of analysis, in the number that fits."""
    name = "patient" if contents.evaluation.get("unit") == "patient" else "picture"
    return name if count == 1 else f"{name}s"


def limits(contents: Contents) -> tuple[str, ...]:
    """List what the numbers and maps do not say, gravest first."""
    device = "This is a research result, not a medical device: do not diagnose or treat with it."
    said = [device, *_known_faults(contents)]
    if contents.evaluation and not contents.knows_patients:
        said.append(
            "Patients are unknown. Near-duplicate pictures were kept on one side of the split, but "
            "two different pictures of one person may still stand on both sides."
        )
    said += [f"Patient ids: {doubt}." for doubt in contents.audit.get("doubts", ())]
    stated = contents.plan.get("accept_leakage") or {}
    reason = contents.audit.get("accepted_leakage") or stated.get("value")
    if reason:
        said.append(f"A leak across the split was accepted by the user, who wrote: “{reason}”.")
    if set(contents.evaluation.get("sets") or ()) <= OWN_SETS:
        said.append(
            "All cases come from the same source as the training data. How the model does "
            "elsewhere was not measured."
        )
    if len({training.seed for training in contents.trainings}) == 1:
        said.append(
            "One training a model: the intervals hold the chance of the test cases, not that of "
            "another random start."
        )
    said.append(
        "A map shows where a model's computation drew from. It is no proof of a cause, and no "
        "outline of a lesion; its finest grain is one patch."
    )
    return tuple(said)


def _known_faults(contents: Contents) -> list[str]:
    """Say what is known to be wrong with a public set."""
    known = contents.audit.get("known_set") or {}
    return [f"Known of {known['title']}: {fault}" for fault in known.get("faults", ())]


_KINDS = {"exact": "duplicate", "near": "near-duplicate", "moved": "moved copy"}


def leak_counts(leaks: Iterable[object]) -> str:
    """Count leaks by what is shared and by the parts of the split that share it.

    Example:
        >>> leak_counts([{"kind": "near", "splits": ["test", "train"]}] * 2)
        '2 near-duplicates in test and train'
    """
    found = Counter(
        (_kind(one), " and ".join(one.get("splits", ())))
        for one in leaks
        if isinstance(one, Mapping)
    )
    said = []
    for (kind, parts), count in found.most_common():
        many = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        said.append(f"{count} {kind if count == 1 else many} in {parts}")
    return ", ".join(said)


def _kind(one: Object) -> str:
    """Name what is shared by the parts of a split."""
    return _KINDS.get(str(one.get("kind")), str(one.get("kind")))


def leak(one: object) -> str:
    """Tell one leak without naming a person: only cases are named."""
    if not isinstance(one, Mapping):
        return str(one)
    kind = _kind(one)
    cases = [str(case) for case in one.get("cases", ())]
    shown = ", ".join(cases[:6]) + (f" and {len(cases) - 6} more" if len(cases) > 6 else "")
    return f"one {kind} in {' and '.join(one.get('splits', ()))}: {shown}"
