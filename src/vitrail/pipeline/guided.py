"""``vitrail guided``: a second stage that sees the picture and the transformer's map of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitrail.data.cohort import load_cohort
from vitrail.data.split import analysis_unit
from vitrail.errors import InputError
from vitrail.evaluation.evaluate import AnalysisPlan, to_json
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.guided.arms import GUIDED, NO_MAP, choose_arms
from vitrail.guided.study import FoldStudy, Stages
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.train import Training, trainings
from vitrail.records import Cohort, Predictions, Progress, no_progress
from vitrail.runfolder import RunFolder, write_json

_log = logging.getLogger("vitrail")
_REPEATED = (GUIDED.name, NO_MAP.name, "random map")
_METRIC = "roc_auc_score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of the study.

    Attributes:
        method: Explains stage one for the guided arm.
        classifier: timm name of stage two, a convolutional network; ``plan`` takes the baseline's.
        ablate: Whether every control is trained as well.
        seeds: Trainings of guided, no map and random map; the other arms have one.
        inner_folds: Stage-one models that share the maps of the training cases.
    """

    method: str = "rollout"
    classifier: str = "resnet18"
    ablate: bool = False
    seeds: int = 1
    inner_folds: int = 3


def guided(
    run: RunFolder,
    wanted: Wanted | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Train the second stage on a trained run of volumes, and compare what its map channel holds.

    Writes ``guided/predictions.csv`` and ``guided/evaluation.json``; every training that is
    finished is kept, so that a stopped study goes on.

    Args:
        run: Trained, best with folds: stage one is its ``vit`` of each fold.
        wanted: What is asked.
        command: The exact command line.
        progress: Told of each step.

    Raises:
        InputError: If the run is not of volumes with one label a case, or an arm needs masks that
            are missing.
        RunFolderError: If the run is not trained and evaluated.
    """
    wanted = wanted or Wanted()
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    run.require(run.predictions, "evaluate")
    cohort = load_cohort(run.cohort)
    _require_volumes(run, plan, cohort)
    folds = crossvalidation.read(run, cohort, plan=plan)
    outer = [one for one in trainings(run, plan, classes=len(cohort.classes)) if one.name == "vit"]
    described = [run.require(one.folder / bundle.DESCRIPTION, "train") for one in outer]
    folder = run.root / "guided"
    return stage(
        f"guided {wanted.method} {wanted.classifier}" + (" ablate" if wanted.ablate else ""),
        run,
        inputs=hash_of(repr(wanted), plan.fingerprint(), run.split, *described),
        outputs=(folder / "predictions.csv", folder / "evaluation.json"),
        work=lambda: _study(run, plan, wanted, cohort=cohort, folds=folds, progress=progress),
        command=command,
    )


def _require_volumes(run: RunFolder, plan: Plan, cohort: Cohort) -> None:
    """Refuse what the study is not made for."""
    if plan.volume.value is None or cohort.multi_label:
        raise InputError(
            str(run.root),
            "several labels a case" if plan.volume.value is not None else "a run of pictures",
            "the guided classifier is for volumes with one label each",
            "inspect DICOM series or NIfTI files, see docs/volumes.md",
        )


def _study(
    run: RunFolder,
    plan: Plan,
    wanted: Wanted,
    *,
    cohort: Cohort,
    folds: Folds,
    progress: Progress,
) -> Result:
    """Run every arm in every fold, then evaluate them beside the run's own models."""
    arms = choose_arms(wanted.method, ablate=wanted.ablate)
    without = [case.case_id for case in cohort if not case.mask]
    if without:
        arms = tuple(arm for arm in arms if arm.source != "mask")
        _log.warning("guided: %d cases have no mask: no arm of true masks", len(without))
    models = {
        (one.name, one.fold): one
        for one in trainings(run, plan, classes=len(cohort.classes))
        if one.seed == plan.seed.value
    }
    predictions: list[Predictions] = []
    seconds: dict[str, float] = {}
    for number, split in enumerate(folds.each):
        study = FoldStudy(
            cohort=cohort,
            split=split,
            groups=folds.groups,
            number=number,
            stages=_stages(run, plan, wanted, own=(models["vit", number], models["cnn", number])),
            outer=bundle.load(models["vit", number].folder).model,
            folder=run.root / "guided" / f"fold{number}",
        )
        for arm in arms:
            for seed in range(wanted.seeds if arm.name in _REPEATED else 1):
                progress(f"guided fold {number}", done=0, total=1, note=f"{arm.name} {seed}")
                predictions += study.run(
                    arm, seed=plan.seed.value + seed, progress=_named(progress, arm.name, number)
                )
        for work, taken in study.seconds.items():
            seconds[work] = seconds.get(work, 0.0) + taken
    own = [said for said in read_predictions(run.predictions) if said.seed == plan.seed.value]
    return _result(run, own, predictions, folds=folds, cohort=cohort, seconds=seconds)


def _named(progress: Progress, arm: str, fold: int) -> Progress:
    """Name the bar of a training by its arm."""

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        del stage
        progress(f"fold {fold}: {arm}", done=done, total=total, note=note)

    return told


def _stages(
    run: RunFolder, plan: Plan, wanted: Wanted, *, own: tuple[Training, Training]
) -> Stages:
    """Put the plan's choices into the study's words."""
    vit, cnn = own
    spec: ModelSpec = cnn.spec
    if wanted.classifier != "plan":
        spec = replace(spec, architecture=wanted.classifier, parameters={})
    return Stages(
        vit=vit.spec,
        cnn=spec,
        vit_fit=vit.settings,
        cnn_fit=cnn.settings,
        preprocessing=plan.preprocessing,
        augmentation=plan.augmentation.value,
        inner_folds=wanted.inner_folds,
        cache=run.cache,
    )


def _result(
    run: RunFolder,
    own: Sequence[Predictions],
    predictions: Sequence[Predictions],
    *,
    folds: Folds,
    cohort: Cohort,
    seconds: Mapping[str, float],
) -> Result:
    """Evaluate all arms, and say what guided is worth against each."""
    renamed = [replace(said, model=f"{said.model} alone") for said in own]
    said = [*predictions, *(one for one in renamed if one.split != "external")]
    if folds.share_test:
        said = crossvalidation.together(said)
    write_predictions(run.root / "guided" / "predictions.csv", said)
    evaluation = evaluate_predictions(
        said,
        clusters=folds.groups,
        unit=analysis_unit([case for case in cohort if case.case_id in folds.tested]),
        plan=AnalysisPlan(configurations_tried=len({one.model for one in said})),
    )
    content = to_json(evaluation)
    write_json(run.root / "guided" / "evaluation.json", content)
    return {
        "evaluation": content,
        "seconds": {work: round(taken, 1) for work, taken in seconds.items()},
        "summary": sentences(content),
    }


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Say each arm's ROC AUC, and the difference of guided from every other arm."""
    said = []
    for model, metrics in content["sets"]["test"].items():
        one = metrics.get(_METRIC)
        if one and one["value"] is not None:
            low, high = one["low"], one["high"]
            said.append(f"{model}: ROC AUC {one['value']:.3f} (95 % {low:.3f} to {high:.3f})")
    return said + [
        pair["sentence"]
        for pair in content["comparisons"]
        if pair["metric"] == _METRIC and GUIDED.name in (pair["a"], pair["b"])
    ]
