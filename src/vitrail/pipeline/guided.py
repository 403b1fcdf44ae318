"""``vitrail guided``: a second stage that sees the picture and the transformer's map of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from vitrail.data.cohort import load_cohort
from vitrail.data.split import analysis_unit
from vitrail.errors import InputError, RunFolderError
from vitrail.evaluation.evaluate import AnalysisPlan
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.guided.arms import GUIDED, NO_MAP, Arm, choose_arms
from vitrail.guided.columns import count_missing
from vitrail.guided.study import FoldStudy, Stages
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.evaluate import evaluate
from vitrail.pipeline.guided_evidence import keep_evidence, share_sentence
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.processes import leads
from vitrail.pipeline.train import Training, trainings
from vitrail.pipeline.train import train as train_models
from vitrail.records import Cohort, Predictions, Progress, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json

_log = logging.getLogger("vitrail")
_REPEATED = (GUIDED.name, NO_MAP.name, "random map")
_METRIC = "roc_auc_score"
_NAMED = 5
_REPORT = "`vitrail report` on the run shows the arms, and what both stages looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of the study.

    Attributes:
        method: Explains stage one for the guided arm.
        classifier: timm name of stage two, a convolutional network; ``plan`` takes the baseline's.
        ablate: Whether every control is trained as well.
        seeds: Trainings of guided, no map and random map; the other arms have one.
        inner_folds: Stage-one models that share the maps of the training cases.
        end_to_end: Whether both stages are trained together as well.
        columns: Of the cases, joined to the last layer of stage two, in every arm.
    """

    method: str = "rollout"
    classifier: str = "resnet18"
    ablate: bool = False
    seeds: int = 1
    inner_folds: int = 3
    end_to_end: bool = False
    columns: tuple[str, ...] = ()


def train(run: RunFolder, *, command: str = "", progress: Progress = no_progress) -> Result:
    """Train what the plan asks for, and behind it the guided classifier where it names one.

    Args:
        run: Holds ``plan.yaml``, ``cohort.csv`` and ``split.csv``.
        command: The exact command line.
        progress: Told of each step.

    Raises:
        VitrailError: As :func:`vitrail.pipeline.train.train` and :func:`guided`.
    """
    trained = train_models(run, command=command, progress=progress)
    classifier = read_plan(run.plan).guided.value
    if classifier is None or not leads():
        return trained
    study = guided(run, Wanted(classifier=classifier), command=command, progress=progress)
    summary = [*trained["summary"], *study["summary"]]
    return {**trained, "guided": study, "summary": summary}


def guided(
    run: RunFolder,
    wanted: Wanted | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Train the second stage on a trained run of volumes, and compare what its map channel holds.

    The run is evaluated first, where it is not yet. Writes ``guided/predictions.csv``,
    ``guided/evaluation.json``, ``guided/study.json`` and both stages' evidence over each scan;
    every training that is finished is kept, so that a stopped study goes on.

    Args:
        run: Trained, best with folds: stage one is its ``vit`` of each fold.
        wanted: What is asked.
        command: The exact command line.
        progress: Told of each step.

    Raises:
        InputError: If the run is not of volumes with one label a case, an arm needs masks that
            are missing, or no case has a column.
        RunFolderError: If the run is not trained, or holds another study.
    """
    wanted = wanted or Wanted()
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    cohort = load_cohort(run.cohort)
    _require_volumes(run, plan, cohort)
    folds = crossvalidation.read(run, cohort, plan=plan)
    outer = [one for one in trainings(run, plan, classes=len(cohort.classes)) if one.name == "vit"]
    described = [run.require(one.folder / bundle.DESCRIPTION, "train") for one in outer]
    missing = count_missing(cohort, wanted.columns)
    evaluate(run, command=command, progress=progress)
    folder = run.root / "guided"
    _refuse_other(folder / "settings.json", plan, wanted)
    done = stage(
        f"guided {wanted.method} {wanted.classifier}" + (" ablate" if wanted.ablate else ""),
        run,
        inputs=hash_of(repr(wanted), plan.fingerprint(), run.split, *described),
        outputs=(folder / "predictions.csv", folder / "evaluation.json", folder / "study.json"),
        work=lambda: _study(run, plan, wanted, cohort=cohort, folds=folds, progress=progress),
        command=command,
    )
    lacking = [_lacking(name, cases, cohort=cohort) for name, cases in missing.items() if cases]
    return {**done, "missing": missing, "summary": [*done["summary"], *lacking]}


def _lacking(name: str, cases: Sequence[str], *, cohort: Cohort) -> str:
    """Name the cases without a value."""
    return (
        f"column {name}: {len(cases)} of {len(cohort.cases)} cases lack it ({_listed(cases)}); "
        "they are kept, their value is encoded as missing"
    )


def _refuse_other(path: Path, plan: Plan, wanted: Wanted) -> None:
    """Refuse to mix trainings of two studies in one folder."""
    settings = {
        "plan": plan.fingerprint(),
        "method": wanted.method,
        "classifier": wanted.classifier,
        "columns": list(wanted.columns),
        "inner_folds": wanted.inner_folds,
    }
    known = read_json(path) if path.exists() else settings
    if known != settings:
        odd = ", ".join(
            f"{name} {cast('Mapping[str, Any]', known).get(name)}"
            for name, value in settings.items()
            if cast("Mapping[str, Any]", known).get(name) != value
        )
        raise RunFolderError(
            str(path.parent),
            f"it holds a study with {odd}",
            "the arms of one study share stage one, classifier and columns",
            "ask for the same, or move the folder away",
        )
    write_json(path, settings)


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
    arms = _arms(wanted, cohort)
    models = {
        (one.name, one.fold): one
        for one in trainings(run, plan, classes=len(cohort.classes))
        if one.seed == plan.seed.value
    }
    predictions: list[Predictions] = []
    seconds: dict[str, float] = {}
    shares: list[dict[str, Any]] = []
    for number, split in enumerate(folds.each):
        study = FoldStudy(
            cohort=cohort,
            split=split,
            groups=folds.groups,
            number=number,
            stages=_stages(run, plan, wanted, own=(models["vit", number], models["cnn", number])),
            outer=bundle.load(models["vit", number].folder).model,
            folder=run.root / "guided" / f"fold{number}",
            seconds=seconds,
        )
        for arm in arms:
            for seed in range(wanted.seeds if arm.name in _REPEATED else 1):
                progress(f"guided fold {number}", done=0, total=1, note=f"{arm.name} {seed}")
                predictions += study.run(
                    arm, seed=plan.seed.value + seed, progress=_named(progress, arm.name, number)
                )
        shares += keep_evidence(run, study.evidence(arms[0], seed=plan.seed.value))
    own = [said for said in read_predictions(run.predictions) if said.seed == plan.seed.value]
    told = {
        **_asked(wanted, arms),
        "seconds": {work: round(taken, 1) for work, taken in seconds.items()},
        "shares": shares,
        "evidence": share_sentence(shares),
    }
    return _result(run, own, predictions, folds=folds, cohort=cohort, told=told)


def _arms(wanted: Wanted, cohort: Cohort) -> tuple[Arm, ...]:
    """List the arms that the cohort allows."""
    arms = choose_arms(wanted.method, ablate=wanted.ablate, end_to_end=wanted.end_to_end)
    without = [case.case_id for case in cohort if not case.mask]
    if not (without and wanted.ablate):
        return arms
    _log.warning(
        "guided: no arm of true masks, for %d of %d cases have none (%s)",
        len(without),
        len(cohort.cases),
        _listed(without),
    )
    return tuple(arm for arm in arms if arm.source != "mask")


def _asked(wanted: Wanted, arms: Sequence[Arm]) -> dict[str, Any]:
    """Say what the study is of."""
    return {
        "method": wanted.method,
        "classifier": wanted.classifier,
        "columns": list(wanted.columns),
        "arms": [{"name": arm.name, "about": arm.about} for arm in arms],
    }


def _listed(cases: Sequence[str]) -> str:
    """Name the first of some cases."""
    return ", ".join(cases[:_NAMED]) + (", …" if len(cases) > _NAMED else "")


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
        columns=wanted.columns,
    )


def _result(
    run: RunFolder,
    own: Sequence[Predictions],
    predictions: Sequence[Predictions],
    *,
    folds: Folds,
    cohort: Cohort,
    told: Mapping[str, Any],
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
    write_json(run.root / "guided" / "study.json", told)
    return {
        "evaluation": content,
        "seconds": told["seconds"],
        "summary": [*sentences(content), told["evidence"], _REPORT],
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
