"""What a run can tell for a reporting checklist, and what only its authors know.

The published wordings of CLAIM 2024, TRIPOD+AI and STARD-AI are not part of this package. So no
item numbers and no item texts are given: the run's answers stand by topic, and whoever fills the
form in finds the item. The topics are the same for each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from vitrail.errors import InputError
from vitrail.report.contents import Contents
from vitrail.report.results import OWN_SETS, headline, openings
from vitrail.report.tables import choices, flow, interval, metric_name, model_name, number

Name = Literal["claim-2024", "tripod-ai", "stard-ai"]

_TITLES: dict[str, str] = {
    "claim-2024": "CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence, 2024)",
    "tripod-ai": "TRIPOD+AI (Collins et al., BMJ, 2024)",
    "stard-ai": "STARD-AI (Sounderajah et al., Nature Medicine, 2025)",
}
_OPEN = (
    "Title, abstract, scientific background and intended use",
    "Objectives and hypotheses, registration, protocol",
    "Where and when the cases were collected; eligibility; consecutive or not",
    "Ethics approval, consent, de-identification",
    "Reference standard: who labelled, how, how well they agreed",
    "Demographic and clinical characteristics of the people",
    "Reason for the sample size",
    "Interpretation, clinical role, generalizability",
    "Funding, conflicts of interest, availability of data",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """A pre-filled checklist.

    Attributes:
        title: The published checklist.
        answered: (topic, what the run says, section of the page that shows it).
        unanswered: Topics that the run should answer and does not hold.
        open: Topics that no run can answer.
    """

    title: str
    answered: tuple[tuple[str, str, str], ...]
    unanswered: tuple[str, ...]
    open: tuple[str, ...]


def checklist(contents: Contents, name: str) -> Checklist:
    """Fill in what the run answers.

    Args:
        contents: The run.
        name: ``claim-2024``, ``tripod-ai`` or ``stard-ai``.

    Raises:
        InputError: If there is no such checklist.
    """
    if name not in get_args(Name):
        raise InputError(
            "checklist", repr(name), f"it is one of {', '.join(get_args(Name))}", "choose one"
        )
    told = [(topic, answer(contents), section) for topic, section, answer in _TOPICS]
    return Checklist(
        title=_TITLES[name],
        answered=tuple(one for one in told if one[1]),
        unanswered=tuple(topic for topic, text, _ in told if not text),
        open=_OPEN,
    )


def _cases(contents: Contents) -> str:
    counted = flow(contents)
    if not counted.found:
        return ""
    parts = ", ".join(f"{count} {part}" for part, count, _ in counted.parts)
    return (
        f"{counted.found} found, {len(counted.unreadable)} not readable and left out, "
        f"{counted.used} used: {parts}."
    )


def _partition(contents: Contents) -> str:
    if not contents.parts:
        return ""
    kept = "whole patients" if contents.knows_patients else "patients unknown; near-duplicates"
    leaks = len(contents.audit.get("leaks") or ())
    return f"Kept on one side of the split: {kept}. Known leaks between its parts: {leaks}."


def _preprocessing(contents: Contents) -> str:
    seen = contents.preprocessing(contents.models[0]) if contents.models else None
    if seen is None:
        return ""
    rows, columns = seen.image_size
    return (
        f"{seen.channels} channel{'s' * (seen.channels > 1)}, {rows} \N{MULTIPLICATION SIGN} "
        f"{columns} px, {seen.fit}, {seen.interpolation}."
    )


def _model(contents: Contents) -> str:
    stated = [
        f"{model_name(one.model)}: {spec['architecture']}"
        for one in contents.trainings
        if "architecture" in (spec := one.about.get("spec") or one.about)
    ]
    return "; ".join(dict.fromkeys(stated))


def _training(contents: Contents) -> str:
    wanted = ("epochs", "batch size", "learning rate", "weights", "class weights")
    stated = [f"{one.name}: {one.value}" for one in choices(contents) if one.name in wanted]
    seeds = len({one.seed for one in contents.trainings})
    return "; ".join([*stated, f"seeds: {seeds}"]) + "." if stated else ""


def _selection(contents: Contents) -> str:
    points = contents.evaluation.get("operating_points") or {}
    rules = dict.fromkeys(str(one["rule"]) for own in points.values() for one in own)
    return "; ".join(rules)


def _metrics(contents: Contents) -> str:
    table = headline(contents)
    if table is None:
        return ""
    names = ", ".join(metric_name(name) for name, _ in table.rows)
    return f"By {contents.evaluation.get('unit')}: {names}. {' '.join(table.notes)}"


def _performance(contents: Contents) -> str:
    table = headline(contents)
    if table is None:
        return ""
    metric, row = table.rows[0]
    return "; ".join(
        f"{model_name(model)}: {metric_name(metric)} {number(one['value'])} "
        f"({interval(one) or 'no interval'})"
        for model, one in zip(table.models, row, strict=True)
        if one
    )


def _comparison(contents: Contents) -> str:
    pairs = len(contents.evaluation.get("comparisons") or ())
    return f"{pairs} paired comparisons on the test set." if pairs else ""


def _calibration(contents: Contents) -> str:
    drawn = (contents.evaluation.get("curves") or {}).get("test", {})
    return "Reliability diagrams." if any(one.get("calibration") for one in drawn.values()) else ""


def _uncertainty(contents: Contents) -> str:
    stated = contents.evaluation.get("uncertainty")
    return "Prediction sets and abstention, made on validation cases." if stated else ""


def _subgroups(contents: Contents) -> str:
    return ", ".join(contents.evaluation.get("subgroups") or ())


def _external(contents: Contents) -> str:
    return ", ".join(name for name in contents.evaluation.get("sets") or () if name not in OWN_SETS)


def _explanations(contents: Contents) -> str:
    if contents.lacks("explanations"):
        return ""
    return "Maps of the test cases, each stamped class-agnostic or class-specific."


def _software(contents: Contents) -> str:
    about = contents.environment
    if not about:
        return ""
    return f"vitrail {about.get('vitrail', '?')}, Python {about.get('python', '?')}; exact command."


Answer = Callable[[Contents], str]
_TOPICS: tuple[tuple[str, str, Answer], ...] = (
    ("Flow of cases, exclusions and their reasons", "cases", _cases),
    ("How the data were divided, and independence of the parts", "data", _partition),
    ("Preprocessing of the pictures", "plan", _preprocessing),
    ("Model architecture", "plan", _model),
    ("Training: settings, initialization, repetitions", "training", _training),
    ("Choice of the threshold", "results", _selection),
    ("How often the test set was opened", "results", openings),
    ("Metrics, unit of analysis, and how uncertainty was measured", "results", _metrics),
    ("Performance on the test set", "results", _performance),
    ("Comparison with another model", "results", _comparison),
    ("Calibration", "results", _calibration),
    ("Uncertainty of single predictions", "results", _uncertainty),
    ("Performance in subgroups; fairness", "subgroups", _subgroups),
    ("Evaluation on external data", "external", _external),
    ("Explanation of single predictions", "gallery", _explanations),
    ("Software, versions, code to repeat it", "making", _software),
)
