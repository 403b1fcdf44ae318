"""Two run folders become one record and one page."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import vitrail
from vitrail.data.cohort import write_cohort
from vitrail.data.split import clusters, write_split
from vitrail.errors import RunFolderError
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import write_predictions
from vitrail.pipeline.compare import compare
from vitrail.records import Case, Cohort, Predictions
from vitrail.runfolder import RunFolder, read_json, write_json


def write_run(root, noise):
    """Write an evaluated run of forty patients, without pictures or models."""
    run, generator = RunFolder(root), np.random.default_rng(noise)
    cases = [
        Case(case_id=f"{i:02d}", path=f"{i:02d}.png", label="ab"[i % 2], patient_id=f"p{i}")
        for i in range(40)
    ]
    cohort = Cohort(cases=tuple(cases), root=root, classes=("a", "b"))
    root.mkdir()
    write_cohort(run.cohort, cohort)
    split = {one.case_id: "validation" if i < 12 else "test" for i, one in enumerate(cases)}
    groups = clusters(cases)
    write_split(run.split, cohort, split=split, groups=groups)
    said = [
        _predictions(cases, split, part=part, generator=generator)
        for part in sorted(set(split.values()))
    ]
    write_predictions(run.predictions, said)
    found = evaluate(said, clusters=groups, unit="patient", resamples=50)
    write_json(run.evaluation, to_json(found))
    return run


def _predictions(cases, split, *, part, generator):
    own = [one for one in cases if split[one.case_id] == part]
    truth = np.array([one.label == "b" for one in own]).astype(int)
    score = np.clip(0.5 + 0.2 * (2 * truth - 1) + generator.normal(0, 0.2, len(own)), 0.01, 0.99)
    return Predictions(
        model="vit",
        seed=0,
        fold=0,
        split=part,
        classes=("a", "b"),
        case_ids=tuple(one.case_id for one in own),
        y_true=truth,
        probabilities=np.stack([1 - score, score], axis=1),
    )


def test_two_runs_become_a_record_that_fits_its_schema_and_a_page(tmp_path):
    runs = [write_run(tmp_path / name, noise) for noise, name in enumerate(("one", "two"))]
    result = compare(runs, out=tmp_path / "both")
    record = read_json(tmp_path / "both" / "compare.json")
    schema = Path(vitrail.__file__).parent / "schemas" / "compare.json"
    jsonschema.validate(record, json.loads(schema.read_text(encoding="utf-8")))
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "one: Vision Transformer against two: Vision Transformer, ROC AUC" in page
    assert result["summary"][0].startswith("one against two, ROC AUC")


def test_thresholds_are_chosen_as_the_first_run_was_asked_to(tmp_path):
    runs = [write_run(tmp_path / name, noise) for noise, name in enumerate(("one", "two"))]
    asked = {"operating_point": "sensitivity=0.9", "roll_up": "max"}
    stages = {"evaluate": {"result": {"asked": asked}}}
    write_json(runs[0].environment, {"stages": stages})
    compare(runs, out=tmp_path / "both")
    points = read_json(tmp_path / "both" / "compare.json")["operating_points"]
    assert {one["rule"] for of in points.values() for one in of} == {
        "sensitivity 0.9, on validation"
    }


def test_a_run_without_predictions_names_the_verb_that_makes_them(tmp_path):
    runs = [write_run(tmp_path / name, 0) for name in ("one", "two")]
    runs[1].predictions.unlink()
    with pytest.raises(RunFolderError, match="vitrail evaluate"):
        compare(runs, out=tmp_path / "both")
