"""``vitrail evaluate``: stored models predict, predictions become numbers with intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitrail.data.cohort import load_cohort
from vitrail.data.split import analysis_unit, load_split
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.evaluate import to_json
from vitrail.evaluation.table import write_predictions
from vitrail.models import bundle
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.train import dataset, trainings
from vitrail.records import Cohort, Predictions, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, write_json
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
    split, groups = load_split(run.split, cohort)
    predictions = [
        said
        for training in trainings(run, plan, classes=len(cohort.classes))
        for said in _predict(
            run, plan, cohort=cohort, split=split, at=(training.name, training.seed)
        )
    ]
    write_predictions(run.predictions, predictions)
    tested = [case for case in cohort if split[case.case_id] == "test"]
    evaluation = evaluate_predictions(
        predictions,
        clusters=groups,
        unit=analysis_unit(tested),
        positive_class=None,
        seed=plan.seed.value,
        progress=progress,
    )
    content = to_json(evaluation)
    write_json(run.evaluation, content)
    return {"evaluation": content, "summary": _sentences(content)}


def _predict(
    run: RunFolder,
    plan: Plan,
    *,
    cohort: Cohort,
    split: Mapping[str, SplitName],
    at: tuple[str, int],
) -> list[Predictions]:
    """Let one stored model say what it thinks of the validation and the test cases."""
    name, seed = at
    loaded = bundle.load(run.model(name, seed=seed))
    said = []
    for part in _PARTS:
        cases = dataset(cohort, split, plan=plan, part=part)
        if not len(cases):
            continue
        said.append(
            Predictions(
                model=name,
                seed=seed,
                fold=0,
                split=part,
                classes=cohort.classes,
                case_ids=tuple(case.case_id for case in cases.cases),
                y_true=np.array(cases.labels),
                probabilities=predict(loaded.model, cases, batch_size=plan.batch_size.value),
            )
        )
    return said


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say the headline numbers, the comparisons and the warnings."""
    said = []
    for model, metrics in content["sets"].get("test", {}).items():
        for name in _HEADLINE:
            if name in metrics and metrics[name]["value"] is not None:
                one = metrics[name]
                low, high = one["low"], one["high"]
                span = f" (95 % {low:.3f} to {high:.3f})" if low is not None else ""
                said.append(f"test {model} {name} {one['value']:.3f}{span}, n = {one['n']}")
    said += [comparison["sentence"] for comparison in content["comparisons"]]
    return said + list(content["warnings"])
