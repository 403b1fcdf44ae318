"""What a run folder holds, as the report reads it; a part that is not there yet is named.

The report reads the files alone and trusts none of them to be complete: an old run, a run that
was stopped, or one made by a later version still gets its page.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from vitrail.errors import RunFolderError
from vitrail.records import Preprocessing, label_names
from vitrail.runfolder import RunFolder, read_csv, read_json

Object = Mapping[str, Any]
"""A JSON object."""

PRIMARY, BASELINE = "vit", "cnn"
"""Names of the model that the run is about, and of the one that it has to beat."""

_PARTS = (
    ("cohort", "the table of cases", "inspect"),
    ("audit", "the audit of the data", "inspect"),
    ("split", "the split", "plan"),
    ("plan", "the plan", "plan"),
    ("models", "the training curves", "train"),
    ("predictions", "the predictions", "evaluate"),
    ("evaluation", "the evaluation", "evaluate"),
    ("explanations", "the maps", "explain"),
    ("environment", "the environment", "run"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of one model.

    Attributes:
        model: Name of the model.
        seed: Seed of the training.
        fold: Fold of the cross-validation.
        epochs: Lines of ``log.jsonl``.
        before: Lines of ``pretraining/log.jsonl``; empty where nothing came before the labels.
        about: Content of ``model.json``; empty before the end of the training.
    """

    model: str
    seed: int
    fold: int
    epochs: tuple[Object, ...]
    before: tuple[Object, ...]
    about: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part of the run that the report cannot show: what it is, and the verb that makes it."""

    key: str
    part: str
    verb: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one model said of one test case, over all its seeds and folds.

    Attributes:
        probabilities: Mean over the trainings, one a class.
        decision: Name of the class that the model chose.
        trainings: Number of trainings behind the mean.
        ends: The lowest and the highest probability over the trainings, one a class.
    """

    probabilities: tuple[float, ...]
    decision: str
    trainings: int
    ends: tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A run folder, read.

    Attributes:
        run: The folder's paths.
        cases: Rows of ``cohort.csv`` by ``case_id``.
        parts: Part of the split of each case; with folds, as what it is measured.
        folds: Number of folds; 1 where there is one split.
        classes: Class names, in the order of the probabilities.
        plan: ``plan.yaml``.
        audit: ``audit.json``.
        environment: ``environment.json``.
        evaluation: ``evaluation.json``.
        faithfulness: ``faithfulness.json``; empty where the maps were not tested.
        study: ``tuning/study.json``; empty where nothing was tuned.
        trainings: Every training found under ``models/``.
        judged: ``judged[model][case_id]`` on the test set.
        truth: Class name of each test case, from ``predictions.csv``.
        missing: What is not there.
    """

    run: RunFolder
    cases: Mapping[str, Mapping[str, str]]
    parts: Mapping[str, str]
    folds: int
    classes: tuple[str, ...]
    plan: Object
    audit: Object
    environment: Object
    evaluation: Object
    faithfulness: Object
    study: Object
    trainings: tuple[Training, ...]
    judged: Mapping[str, Mapping[str, Judged]]
    truth: Mapping[str, str]
    missing: tuple[Missing, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models: the run's own first, then its baseline, then the others."""
        evaluated = self.evaluation.get("sets", {}).get("test", {})
        names = {*evaluated, *self.judged, *(training.model for training in self.trainings)}
        order = {PRIMARY: 0, BASELINE: 1}
        return tuple(sorted(names, key=lambda name: (order.get(name, 2), name)))

    @property
    def knows_patients(self) -> bool:
        """Whether some case names its patient, or the numbers are by patient."""
        named = any(row.get("patient_id") for row in self.cases.values())
        return named or self.evaluation.get("unit") == "patient"

    def threshold(self, model: str) -> float | None:
        """Return the probability of the positive class from which a model's mean decides for it."""
        points = self.evaluation.get("operating_points") or {}
        return _threshold(points.get(model))

    def decide(self, model: str, shares: Mapping[str, float]) -> str:
        """Choose a class by its probability as the model's test cases were decided."""
        return _decide(
            np.asarray(list(shares.values())),
            tuple(shares),
            positive=self.evaluation.get("positive_class"),
            threshold=self.threshold(model),
        )

    def lacks(self, key: str) -> Missing | None:
        """Return what is missing of a part, or None where it is there."""
        return next((missing for missing in self.missing if missing.key == key), None)

    def preprocessing(self, model: str) -> Preprocessing | None:
        """Return how a model sees pictures, where its ``model.json`` tells."""
        for training in self.trainings:
            if training.model == model and "preprocessing" in training.about:
                return read_preprocessing(training.about["preprocessing"])
        return None


def read(run: RunFolder) -> Contents:
    """Read everything that the report shows, pictures and maps excepted.

    Raises:
        RunFolderError: If the folder does not exist, or one of its files is not what it should be.
    """
    if not run.root.is_dir():
        raise RunFolderError(
            str(run.root),
            "no such folder",
            "the report is made from a run folder",
            "make one with `vitrail run DIR --out RUN`",
        )
    rows = _table(run.cohort)
    split_rows = _table(run.split)
    split = {row["case_id"]: row.get("split", "") for row in split_rows}
    evaluation = read_object(run.evaluation)
    predictions = [row for row in _table(run.predictions) if row.get("split") == "test"]
    classes = _classes(predictions, rows)
    trainings = tuple(_trainings(run.root / "models"))
    found = {
        "models": bool(trainings),
        "explanations": any(run.explanations.glob("*.npz")),
    }
    missing = tuple(
        Missing(key=key, part=part, verb=verb)
        for key, part, verb in _PARTS
        if not found.get(key, key in found or getattr(run, key).exists())
    )
    return Contents(
        run=run,
        cases={row["case_id"]: row for row in rows},
        parts=split or {row["case_id"]: row.get("split", "") for row in rows},
        folds=max(1, sum(name.startswith("fold") for name in (split_rows or [{}])[0])),
        classes=classes,
        plan=_plan(run.plan),
        audit=read_object(run.audit),
        environment=read_object(run.environment),
        evaluation=evaluation,
        faithfulness=read_object(run.root / "faithfulness.json"),
        study=read_object(run.tuning),
        trainings=trainings,
        judged=_judged(predictions, classes, evaluation=evaluation),
        truth={row["case_id"]: _class_name(row["y_true"], classes) for row in predictions},
        missing=missing,
    )


def read_preprocessing(content: Object) -> Preprocessing:
    """Make the record from its JSON."""
    bounds = content.get("intensity_range")
    rows, columns = content["image_size"]
    return Preprocessing(
        image_size=(int(rows), int(columns)),
        channels=content.get("channels", 3),
        fit=content.get("fit", "squash"),
        mean=tuple(content.get("mean", ())),
        std=tuple(content.get("std", ())),
        interpolation=content.get("interpolation", "bicubic"),
        fill=float(content.get("fill", 0.0)),
        intensity_range=None if bounds is None else (float(bounds[0]), float(bounds[1])),
    )


def _table(path: Path) -> list[dict[str, str]]:
    """Read a table, empty where there is none."""
    return read_csv(path) if path.is_file() else []


def read_object(path: Path) -> Object:
    """Read a JSON object, empty where there is none."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise RunFolderError(
            str(path), f"a {type(content).__name__}", "it holds one object", "repeat the stage"
        )
    return cast("Object", content)


def _plan(path: Path) -> Object:
    """Read ``plan.yaml``, empty where there is none."""
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunFolderError(
            str(path), "not YAML", "it is a mapping of choices", "undo the last edit"
        ) from error
    return content if isinstance(content, dict) else {}


def _classes(predictions: list[dict[str, str]], rows: list[dict[str, str]]) -> tuple[str, ...]:
    """Read the class names off the probability columns, else off the labels."""
    if predictions:
        columns = [name for name in predictions[0] if name.startswith("prob_")]
        return tuple(name.removeprefix("prob_") for name in columns)
    return tuple(
        sorted({name for row in rows for name in label_names(row.get("label", "")) if name})
    )


def _class_name(y_true: str, classes: tuple[str, ...]) -> str:
    """Name a class that a table gives by its name or by its index."""
    if y_true in classes or not y_true.isdecimal() or int(y_true) >= len(classes):
        return y_true
    return classes[int(y_true)]


def _trainings(folder: Path) -> list[Training]:
    """Read every ``models/<name>/seed<k>/fold<k>/``."""
    trainings = [
        Training(
            model=path.parts[-3],
            seed=int(path.parts[-2].removeprefix("seed")),
            fold=int(path.parts[-1].removeprefix("fold")),
            epochs=_lines(path / "log.jsonl"),
            before=_lines(path / "pretraining" / "log.jsonl"),
            about=read_object(path / "model.json"),
        )
        for path in folder.glob("*/seed*/fold*")
    ]
    return sorted(trainings, key=lambda item: (item.model, item.seed, item.fold))


def _lines(log: Path) -> tuple[Object, ...]:
    """Read a log, a line an epoch; a log that is not there is empty."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return tuple(json.loads(line) for line in lines if line.strip())


def _judged(
    predictions: list[dict[str, str]], classes: tuple[str, ...], *, evaluation: Object
) -> dict[str, dict[str, Judged]]:
    """Average each model's probabilities of a case over its trainings, and decide."""
    gathered: dict[str, dict[str, list[list[float]]]] = {}
    for row in predictions:
        rows = gathered.setdefault(row["model"], {}).setdefault(row["case_id"], [])
        rows.append([float(row[f"prob_{name}"] or "nan") for name in classes])
    positive = evaluation.get("positive_class")
    points = evaluation.get("operating_points") or {}
    judged: dict[str, dict[str, Judged]] = {}
    for model, cases in gathered.items():
        threshold = _threshold(points.get(model))
        for case_id, rows in cases.items():
            stated = np.asarray(rows, dtype=np.float64)
            mean = stated.mean(axis=0)
            judged.setdefault(model, {})[case_id] = Judged(
                probabilities=tuple(float(value) for value in mean),
                decision=_decide(mean, classes, positive=positive, threshold=threshold),
                trainings=len(rows),
                ends=(tuple(stated.min(axis=0).tolist()), tuple(stated.max(axis=0).tolist())),
            )
    return judged


def _threshold(points: Any) -> float | None:
    """Average the thresholds of a model's trainings, as its probabilities are averaged."""
    stated = [point.get("threshold") for point in points or ()]
    known = [float(value) for value in stated if isinstance(value, int | float)]
    return sum(known) / len(known) if known else None


def _decide(
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    *,
    positive: str | None,
    threshold: float | None,
) -> str:
    """Choose a class: at the stated operating point if there is one, else the likeliest."""
    if threshold is None or positive not in classes or len(classes) != 2:
        return classes[int(np.argmax(probabilities))]
    index = classes.index(positive)
    return classes[index if probabilities[index] >= threshold else 1 - index]
