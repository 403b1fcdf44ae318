"""``vitrail evaluate``: stored models predict, predictions become numbers with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from torch import nn

from vitrail.data.cohort import load_cohort
from vitrail.data.loader import PictureDataset
from vitrail.data.split import analysis_unit
from vitrail.data.stacks import VolumeDataset
from vitrail.evaluation.evaluate import count_opening
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.medmnist import write_medmnist
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.analysis import Asked, analysis
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.guards import require_same_plan
from vitrail.pipeline.ledger import Result, entries, hash_of, require_run, stage
from vitrail.pipeline.train import Training, dataset, trainings
from vitrail.records import Cohort, Predictions, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json
from vitrail.training.fit import predict

_PARTS: tuple[SplitName, ...] = ("validation", "test")
_HEADLINE = ("roc_auc_score", "balanced_accuracy", "accuracy")


def evaluate(
    run: RunFolder,
    asked: Asked | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Write ``predictions.csv`` and ``evaluation.json`` from the stored models.

    Models that predicted already do not predict again; a new question to their predictions is one
    more look at the test set, and counted.

    Args:
        run: Holds the plan, the split and the trained models.
        asked: How the numbers are to be made; what it leaves open stays as it was asked before.
        command: The exact command line.
        progress: Told of each batch and resample.

    Raises:
        InputError: If what is asked cannot be done.
        LeakageError: If the split is not the one that the certificate was written for.
        RunFolderError: If something is missing; the message names the verb that makes it.
    """
    require_run(run)
    before = entries(run).get("evaluate", {}).get("result", {})
    asked = (asked or Asked()).after(before.get("asked", {}))
    asked.plan()
    plan = read_plan(run.require(run.plan, "plan"))
    cohort = load_cohort(run.cohort)
    wanted = list(trainings(run, plan, classes=len(cohort.classes)))
    require_same_plan((one.folder for one in wanted), plan)
    described = [run.require(training.folder / bundle.DESCRIPTION, "train") for training in wanted]
    models = hash_of(plan.fingerprint(), run.split, *described)

    def work() -> Result:
        if not run.predictions.exists() or before.get("models") != models:
            write_predictions(
                run.predictions, _predictions(run, plan, cohort=cohort, progress=progress)
            )
        content = _evaluate(run, plan, asked, cohort=cohort, progress=progress)
        write_json(run.evaluation, content)
        made = {"models": models, "asked": asdict(asked)}
        return {"evaluation": content, "summary": sentences(content), **made}

    return stage(
        "evaluate",
        run,
        inputs=hash_of(models, repr(asked), run.tuning),
        outputs=(run.predictions, run.evaluation),
        work=work,
        command=command,
    )


def _predictions(
    run: RunFolder, plan: Plan, *, cohort: Cohort, progress: Progress
) -> list[Predictions]:
    """Let every model say what it thinks of its validation and test cases."""
    folds = crossvalidation.read(run, cohort, plan=plan)
    wanted = list(trainings(run, plan, classes=len(cohort.classes)))
    predictions = []
    for done, training in enumerate(wanted, start=1):
        predictions += _predict(training, plan, cohort=cohort, folds=folds, cache=run.cache)
        progress("predict", done=done, total=len(wanted), note=str(training))
    return crossvalidation.together(predictions) if folds.share_test else predictions


def _evaluate(
    run: RunFolder, plan: Plan, asked: Asked, *, cohort: Cohort, progress: Progress
) -> dict[str, Any]:
    """Make the record of the predictions."""
    folds = crossvalidation.read(run, cohort, plan=plan)
    openings = count_opening(previous(run))
    evaluation = evaluate_predictions(
        [said for said in read_predictions(run.predictions) if said.split != "external"],
        clusters=folds.groups,
        unit=analysis_unit([case for case in cohort if case.case_id in folds.tested]),
        positive_class=asked.positive_class,
        seed=plan.seed.value,
        plan=analysis(run, cohort, folds=folds, openings=openings, asked=asked),
        progress=progress,
    )
    return to_json(evaluation)


def for_medmnist(run: RunFolder, flag: str) -> list[str]:
    """Write each model's answers to a MedMNIST test set, and say where they are."""
    tested = [said for said in read_predictions(run.predictions) if said.split == "test"]
    files = [write_medmnist(run.root / "medmnist", said, flag=flag) for said in tested]
    return [f"for MedMNIST's Evaluator: {file}" for file in files]


def previous(run: RunFolder) -> Mapping[str, Any] | None:
    """Return the evaluation that is there already."""
    if not run.evaluation.exists():
        return None
    return cast("Mapping[str, Any]", read_json(run.evaluation))


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
        probabilities=np.mean(
            [
                predict(model, shown, batch_size=batch_size, multi_label=cases.multi_label)
                for shown in _windows(cases)
            ],
            axis=0,
        ),
    )


def _windows(cases: PictureDataset) -> Sequence[PictureDataset]:
    """Show pictures once, and volumes through each of their windows of slices."""
    return cases.votes() if isinstance(cases, VolumeDataset) else [cases]


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
        said.append(
            f"times the test set was opened so far: {content['test_openings']}; configurations "
            f"tried: {content['configurations_tried']}"
        )
    return said + list(content["warnings"])
