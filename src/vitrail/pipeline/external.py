"""``vitrail evaluate RUN --external DIR``: the run's models on another source's cases."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from vitrail.data.audit import audit
from vitrail.data.cohort import load_cohort, with_several_labels
from vitrail.data.loader import PictureDataset
from vitrail.data.patients import without_placeholders
from vitrail.data.scan import content_hash
from vitrail.data.split import analysis_unit, clusters
from vitrail.data.stacks import dataset_of
from vitrail.errors import DataError, InputError
from vitrail.evaluation.evaluate import evaluate as evaluate_predictions
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.analysis import Asked, analysis, groups_of
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.evaluate import evaluate, predict_cases, previous, sentences
from vitrail.pipeline.ledger import Result, entries, stage
from vitrail.pipeline.source import read_source
from vitrail.pipeline.train import trainings
from vitrail.records import Case, Cohort, Predictions, Progress, no_progress
from vitrail.runfolder import RunFolder, write_json

STAGE = "evaluate external"
_PREFIX = "external/"


def evaluate_external(
    run: RunFolder,
    folder: Path | None,
    *,
    asked: Asked | None = None,
    manifest: Path | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Add the set ``external`` to ``predictions.csv`` and ``evaluation.json``.

    Threshold and temperature stay those that the run's validation cases gave. What the set holds
    replaces an external set that was there before; how often one was looked at is counted.

    Args:
        run: A trained run; it is evaluated on its own test cases first if it was not yet.
        folder: The other source: a folder of pictures or scans, or a file that holds many; see
            :func:`read_source`. None where a manifest lists them.
        asked: As for the run's own numbers, which are made again if it says something new.
        manifest: A CSV that lists them; its paths are relative to it.
        command: The exact command line.
        progress: Told of each picture, batch and resample.

    Raises:
        DataError: If the pictures are of classes that the run does not know, or are the run's own.
        RunFolderError: If something is missing; the message names the verb that makes it.
    """
    asked = Asked(**evaluate(run, asked, command=command, progress=progress)["asked"])
    plan = read_plan(run.plan)
    own = load_cohort(run.cohort)
    other, doubts = without_placeholders(_read(run, folder, manifest, progress))
    other = _alike(own, other)
    _require_classes(own, other)
    openings = 1 + entries(run).get(STAGE, {}).get("result", {}).get("openings", 0)
    return stage(
        STAGE,
        run,
        inputs=None,
        outputs=(run.predictions, run.evaluation),
        work=lambda: _evaluate(
            run,
            plan,
            asked,
            sets=(own, other),
            doubts=[*doubts, *unknown_patients(other.cases)],
            openings=openings,
            progress=progress,
        ),
        command=command,
    )


def _read(run: RunFolder, folder: Path | None, manifest: Path | None, progress: Progress) -> Cohort:
    """Read the other source's cases."""
    source = manifest or folder
    if source is None:
        came, rule = "neither a folder nor a manifest", "an external set lies somewhere"
        raise InputError("external", came, rule, "pass --external DIR")
    name = sha256(str(source.resolve()).encode()).hexdigest()[:12]
    unpacked = run.external / name
    return read_source(unpacked, source, manifest=manifest, with_split=False, progress=progress)


def _alike(own: Cohort, other: Cohort) -> Cohort:
    """Let cases of one label each stand for cases that can have several, where the run's can."""
    if other.multi_label and not own.multi_label:
        raise DataError(
            str(other.root),
            "cases with several labels",
            "the run's cases have one label each",
            "give each case one label",
        )
    return with_several_labels(other) if own.multi_label and not other.multi_label else other


def _evaluate(
    run: RunFolder,
    plan: Plan,
    asked: Asked,
    *,
    sets: tuple[Cohort, Cohort],
    doubts: Sequence[str],
    openings: int,
    progress: Progress,
) -> Result:
    """Predict the other cases and evaluate all sets again, the run's own unchanged."""
    own, other = sets
    before = previous(run) or {}
    found = audit(other, progress=progress)
    readable = found.readable(other)
    cases = tuple(_renamed(case) for case in readable)
    _require_others(own, replace(readable, cases=cases))
    kind = dataset_of(plan.preprocessing)
    pictures = kind(cases, readable.root, preprocessing=plan.preprocessing, classes=own.classes)
    kept = [said for said in read_predictions(run.predictions) if said.split != "external"]
    added = _predict(run, plan, pictures=pictures)
    folds = crossvalidation.read(run, own, plan=plan)
    if folds.share_test:
        added = crossvalidation.together(added)
    how = analysis(run, own, folds=folds, openings=before["test_openings"], asked=asked)
    evaluation = evaluate_predictions(
        [*kept, *added],
        clusters={**folds.groups, **_clusters(cases, found.duplicate_pairs())},
        unit=analysis_unit(case for case in own if case.case_id in folds.tested),
        positive_class=asked.positive_class,
        seed=plan.seed.value,
        plan=replace(how, subgroups=groups_of(cases)),
        progress=progress,
    )
    content = beside(before, to_json(evaluation), doubts=doubts)
    write_predictions(run.predictions, [*kept, *added])
    write_json(run.evaluation, content)
    left_out = f"{len(found.unreadable)} unreadable and left out"
    said = f"external set: {len(cases)} cases, {left_out}; looked at {openings} times so far"
    return {
        "evaluation": content,
        "openings": openings,
        "summary": [said, *sentences(content, part="external")],
    }


def beside(
    own: Mapping[str, Any], found: Mapping[str, Any], *, doubts: Sequence[str]
) -> dict[str, Any]:
    """Put the external set's part of a new record beside the run's own, which stays as it is.

    The new record's warnings are of all sets; those of an external set of before are gone.
    """
    parts = {
        name: {**own[name], "external": found[name]["external"]}
        for name in ("sets", "image_level", "calibrated", "vector_scaled", "by_class", "curves")
        if "external" in found[name]
    }
    parts["external_subgroups"] = found["external_subgroups"]
    doubted = [f"External set: {doubt}." for doubt in doubts]
    return {**own, **parts, "warnings": [*found["warnings"], *doubted]}


def unknown_patients(cases: Sequence[Case]) -> list[str]:
    """Say how many pictures are counted as independent for want of a patient id."""
    without = sum(not case.patient_id for case in cases)
    if not without:
        return []
    many = f"{without} of {len(cases)} pictures have no patient id and are taken for independent"
    return [f"{many}: intervals can be too narrow"]


def _predict(run: RunFolder, plan: Plan, *, pictures: PictureDataset) -> list[Predictions]:
    """Let every model of the run say what it thinks of the other pictures."""
    return [
        predict_cases(
            bundle.load(training.folder).model,
            pictures,
            training=training,
            part="external",
            batch_size=plan.batch_size.value,
        )
        for training in trainings(run, plan, classes=len(pictures.classes))
    ]


def _renamed(case: Case) -> Case:
    """Tell a case, its patient and its group apart from the run's own of the same name."""
    return replace(
        case,
        case_id=_PREFIX + case.case_id,
        patient_id=case.patient_id and _PREFIX + case.patient_id,
        group=case.group and _PREFIX + case.group,
        split="",
    )


def _clusters(cases: Sequence[Case], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Find what stays together among readable cases; the pairs have the names of the source."""
    known = {case.case_id for case in cases}
    own = [(_PREFIX + first, _PREFIX + second) for first, second in pairs]
    return clusters(cases, [pair for pair in own if known.issuperset(pair)])


def _require_classes(own: Cohort, other: Cohort) -> None:
    """Refuse classes that no model of the run can answer."""
    unknown = sorted(set(other.classes) - set(own.classes))
    if unknown:
        raise DataError(
            str(other.root),
            f"classes {', '.join(unknown)}",
            f"an external set has the run's classes: {', '.join(own.classes)}",
            "name them alike (in the label column, or the folders)",
        )


def _require_others(own: Cohort, other: Cohort) -> None:
    """Refuse pictures that are the run's own, byte for byte."""
    known = {content_hash(own.root / case.path) for case in own}
    shared = [case.path for case in other if content_hash(other.root / case.path) in known]
    if shared:
        raise DataError(
            str(other.root),
            f"{len(shared)} pictures are the run's own, {shared[0]} for one",
            "an external set shares no picture with the run",
            "leave them out, or name another folder",
        )
