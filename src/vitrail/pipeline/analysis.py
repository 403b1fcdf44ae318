"""What a user may ask of the numbers, and what they are held against."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast, get_args

from vitrail.errors import InputError
from vitrail.evaluation.evaluate import AnalysisPlan
from vitrail.evaluation.subgroup import age_band
from vitrail.evaluation.unit import RollUp
from vitrail.metrics.decision import OperatingPoint, Rule
from vitrail.pipeline.crossvalidation import Folds
from vitrail.records import Case, Cohort
from vitrail.runfolder import RunFolder, read_json

_ROLL_UPS = ("mean", "max", "top", "vote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of ``vitrail evaluate``; None keeps what was asked before, else the default.

    Attributes:
        prevalence: At which predictive values are stated besides those of the test set.
        operating_point: ``youden``, ``sensitivity=0.95``, ``specificity=0.9``, ``cost=5`` (a missed
            positive costs five false alarms) or ``fixed=0.5``.
        roll_up: How a patient's images become the patient: ``mean``, ``max``, ``vote``, ``top=3``.
        risk: Share of wrong decisions that abstaining is to keep to.
        positive_class: Of a binary task.
    """

    prevalence: float | None = None
    operating_point: str | None = None
    roll_up: str | None = None
    risk: float | None = None
    positive_class: str | None = None

    def after(self, before: Mapping[str, Any]) -> "Asked":
        """Keep what was asked before, where nothing is asked now."""
        kept = {name: before.get(name) for name, value in asdict(self).items() if value is None}
        return replace(self, **kept)

    def plan(self) -> AnalysisPlan:
        """Read the words.

        Raises:
            InputError: If a word or a number cannot be used; the nearest one is named.
        """
        plan = AnalysisPlan(prevalence=self.prevalence)
        if self.risk is not None:
            plan = replace(plan, risk=self.risk)
        if self.operating_point is not None:
            rule, wanted = _word("operating-point", self.operating_point, get_args(Rule))
            point = OperatingPoint(
                rule=cast("Rule", rule), wanted=0.5 if wanted is None else wanted
            )
            plan = replace(plan, operating_point=point)
        if self.roll_up is not None:
            how, count = _word("roll-up", self.roll_up, _ROLL_UPS)
            name = "top_k" if how == "top" else how
            plan = replace(plan, roll_up=RollUp(how=cast("Any", name), k=int(count or 3)))
        return plan


def _word(option: str, text: str, known: tuple[str, ...]) -> tuple[str, float | None]:
    """Read ``word`` or ``word=number``."""
    word, _, number = text.partition("=")
    nearest = difflib.get_close_matches(word, known, n=1)
    if word not in known:
        rule = f"it is one of {', '.join(known)}"
        remedy = f"write {nearest[0] if nearest else known[0]}"
        raise InputError(f"--{option}", repr(text), rule, remedy)
    needs = word in ("sensitivity", "specificity", "cost", "fixed")
    try:
        value = float(number) if number or needs else None
    except ValueError as error:
        rule = f"{word} has a number"
        raise InputError(f"--{option}", repr(text), rule, f"write {word}=0.95") from error
    return word, value


def analysis(
    run: RunFolder,
    cohort: Cohort,
    *,
    folds: Folds,
    openings: int,
    asked: Asked = Asked(),
) -> AnalysisPlan:
    """Say what the numbers are held against: training classes, shortcuts, groups, configurations.

    Args:
        run: Holds ``audit.json``, and ``tuning/study.json`` where the run was tuned.
        cohort: Every case whose site and attributes may be known.
        folds: The parts of the run's cases.
        openings: How often the test set was looked at, this time included.
        asked: What the user asked for.
    """
    audit = cast("Mapping[str, Any]", read_json(run.audit))
    return replace(
        asked.plan(),
        training_counts=Counter(
            name for case in cohort if case.case_id in folds.trained for name in case.labels
        ),
        shortcuts=audit["shortcuts"],
        subgroups=groups_of(cohort),
        test_openings=openings,
        configurations_tried=_configurations(run),
    )


def groups_of(cases: Iterable[Case]) -> dict[str, dict[str, str]]:
    """Find the groups that cases can be told apart by: column → case → group."""
    columns: dict[str, dict[str, str]] = {}
    for case in cases:
        for name, value in {"site": case.site, **case.attributes}.items():
            group = age_band(value) if name == "age" else value
            if group:
                columns.setdefault(name, {})[case.case_id] = group
    return {name: groups for name, groups in columns.items() if len(set(groups.values())) > 1}


def _configurations(run: RunFolder) -> int:
    """Count the configurations that the run's models were chosen from."""
    if not run.tuning.exists():
        return 1
    return int(cast("Mapping[str, Any]", read_json(run.tuning))["configurations_tried"])
