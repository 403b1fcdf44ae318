"""``vitrail evaluate``: stored models predict, predictions become numbers with intervals."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from torch import nn

from vitrail.data.cohort import load_cohort
from vitrail.data.loader import PictureDataset
from vitrail.data.split import analysis_unit
from vitrail.evaluation.evaluate import AnalysisPlan, count_opening, to_json
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.table import write_predictions
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.train import Training, dataset, trainings
from vitrail.records import Cohort, Predictions, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json
from vitrail.training.fit import predict

_PARTS: tuple[SplitName, ...] = ("validation", "test")
_HEADLINE = ("roc_auc_score", "balanced_accuracy_score", "accuracy_score")


def evaluate(run: RunFolder, *, command: str = "", progress: Progress = no_progress) -> Result:
    """Write ``predictions.csv`` and ``evaluation.json`` from the stored models.

    Args:
        run: Holds the plan, the split and the trained models.
        command: The exact command line.
        progress: Told of each batch and resample.

    Raises:
        RunFolderError: If something is missing; the message names the verb that makes it.
    """
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    cohort = load_cohort(run.cohort)
    wanted = list(trainings(run, plan, classes=len(cohort.classes)))
    described = [run.require(training.folder / bundle.DESCRIPTION, "train") for training in wanted]
    return stage(
        "evaluate",
        run,
        inputs=hash_of(plan.fingerprint(), run.split, *described),
        outputs=(run.predictions, run.evaluation),
        work=lambda: _evaluate(run, plan, cohort=cohort, progress=progress),
        command=command,
    )


def _evaluate(run: RunFolder, plan: Plan, *, cohort: Cohort, progress: Progress) -> Result:
    """Predict, evaluate, write."""
    folds = crossvalidation.read(run, cohort, plan=plan)
    wanted = list(trainings(run, plan, classes=len(cohort.classes)))
    predictions = []
    for done, training in enumerate(wanted, start=1):
        predictions += _predict(training, plan, cohort=cohort, folds=folds, cache=run.cache)
        progress("predict", done=done, total=len(wanted), note=str(training))
    if folds.share_test:
        predictions = crossvalidation.together(predictions)
    write_predictions(run.predictions, predictions)
    tested = [case for case in cohort if case.case_id in folds.tested]
    evaluation = evaluate_predictions(
        predictions,
        clusters=folds.groups,
        unit=analysis_unit(tested),
        seed=plan.seed.value,
        plan=analysis(run, cohort, folds=folds, openings=count_opening(previous(run))),
        progress=progress,
    )
    content = to_json(evaluation)
    write_json(run.evaluation, content)
    return {"evaluation": content, "summary": sentences(content)}


def previous(run: RunFolder) -> Mapping[str, Any] | None:
    """Return the evaluation that is there already."""
    if not run.evaluation.exists():
        return None
    return cast("Mapping[str, Any]", read_json(run.evaluation))


def analysis(run: RunFolder, cohort: Cohort, *, folds: Folds, openings: int) -> AnalysisPlan:
    """Say what the numbers are held against: the training classes, the shortcuts, the sites.

    Args:
        run: Holds ``audit.json``.
        cohort: Every case whose site may be known.
        folds: The parts of the run's cases.
        openings: How often the test set was looked at, this time included.
    """
    audit = cast("Mapping[str, Any]", read_json(run.audit))
    sites = {case.case_id: case.site for case in cohort if case.site}
    return AnalysisPlan(
        training_counts=Counter(
            name for case in cohort if case.case_id in folds.trained for name in case.labels
        ),
        shortcuts=audit["shortcuts"],
        subgroups={"site": sites} if len(set(sites.values())) > 1 else {},
        test_openings=openings,
    )


def _predict(
    training: Training, plan: Plan, *, cohort: Cohort, folds: Folds, cache: Path
) -> list[Predictions]:
    """Let one stored model say what it thinks of its fold's validation and test cases."""
    model = bundle.load(training.folder).model
    split = folds.each[training.fold]
    parts = {part: dataset(cohort, split, plan=plan, part=part, cache=cache) for part in _PARTS}
    return [
        predict_cases(model, cases, training=training, part=part, batch_size=plan.batch_size.value)
        for part, cases in parts.items()
        if len(cases)
    ]


def predict_cases(
    model: nn.Module,
    cases: PictureDataset,
    *,
    training: Training,
    part: SplitName | Literal["external"],
    batch_size: int,
) -> Predictions:
    """Let one model say what it thinks of some cases.

    Args:
        model: The model.
        cases: The cases.
        training: What made the model: its name, seed and fold.
        part: What the cases are to the run.
        batch_size: Pictures at a time.
    """
    return Predictions(
        model=training.name,
        seed=training.seed,
        fold=training.fold,
        split=part,
        classes=cases.classes,
        case_ids=tuple(case.case_id for case in cases.cases),
        y_true=np.array(cases.labels, dtype=bool if cases.multi_label else np.int64),
        probabilities=predict(model, cases, batch_size=batch_size, multi_label=cases.multi_label),
    )


def sentences(content: Mapping[str, Any], *, part: str = "test") -> list[str]:
    """Say the headline numbers of one part, the comparisons and the warnings.

    Args:
        content: Of ``evaluation.json``.
        part: ``test`` or ``external``.
    """
    said = []
    for model, metrics in content["sets"].get(part, {}).items():
        for name in _HEADLINE:
            if name in metrics and metrics[name]["value"] is not None:
                one = metrics[name]
                low, high = one["low"], one["high"]
                span = f" (95 % {low:.3f} to {high:.3f})" if low is not None else ""
                said.append(f"{part} {model} {name} {one['value']:.3f}{span}, n = {one['n']}")
    if part == "test":
        said += [comparison["sentence"] for comparison in content["comparisons"]]
        said.append(f"the test set was opened {content['test_openings']} times so far")
    return said + list(content["warnings"])
