"""Cases with several labels: each label is a task of its own, the headline is their mean."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import sklearn.metrics as reference

from vitrail.errors import DataError
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.record import from_json, to_json
from vitrail.evaluation.table import read_predictions, write_predictions


@pytest.fixture(scope="module")
def found(predict_labels, alone):
    blocks = [
        predict_labels(model, split, skill=skill)
        for model, skill in (("vit", 2.0), ("cnn", 1.0))
        for split in ("validation", "test")
    ]
    return evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=100)


def test_the_headline_is_the_macro_average_over_labels(found, predict_labels):
    block = predict_labels(skill=2.0)
    expected = reference.roc_auc_score(block.y_true, block.probabilities, average="macro")
    area = found.sets["test"]["vit"]["roc_auc_score"]
    assert area.value == pytest.approx(expected)
    assert area.low < area.value < area.high
    assert "bootstrap" in area.method
    by_label = found.by_class["test"]["vit"]
    assert set(by_label) == {"edema", "mass", "scar"}
    labels = [one["roc_auc_score"] for one in by_label.values()]
    assert np.mean([one.value for one in labels]) == pytest.approx(expected)
    assert {one.method for one in labels} == {"DeLong, logit scale"}


def test_exact_match_asks_for_all_labels_at_the_chosen_thresholds(found, predict_labels):
    block = predict_labels(skill=2.0)
    thresholds = {one["label"]: one["threshold"] for one in found.operating_points["vit"]}
    called = block.probabilities >= np.array([thresholds[name] for name in block.classes])
    expected = reference.accuracy_score(block.y_true, called)
    assert found.sets["test"]["vit"]["exact_match"].value == pytest.approx(expected)


def test_models_are_compared_by_the_macro_average_and_the_record_fits_the_schema(found):
    (pair,) = [one for one in found.comparisons if one.metric == "roc_auc_score"]
    mean = [found.sets["test"][model]["roc_auc_score"].value for model in ("vit", "cnn")]
    assert pair.difference == pytest.approx(mean[0] - mean[1])
    assert np.isnan(pair.exact_p_value)
    content = to_json(found)
    schema = json.loads(files("vitrail").joinpath("schemas/evaluation.json").read_text())
    jsonschema.validate(json.loads(json.dumps(content, allow_nan=False)), schema)
    assert to_json(from_json(content)) == content
    assert set(found.curves["test"]["vit"]["roc"]) == {"edema", "mass", "scar"}


def test_a_label_that_no_case_has_is_left_out_of_the_mean_and_said(predict_labels, alone):
    block = predict_labels()
    block = replace(block, y_true=block.y_true & np.array([True, True, False]))
    found = evaluate([block], clusters=alone([block]), unit="image", resamples=50)
    assert np.isfinite(found.sets["test"]["vit"]["roc_auc_score"].value)
    assert np.isnan(found.by_class["test"]["vit"]["scar"]["roc_auc_score"].value)
    assert any(said.startswith("scar: 1 of 2 classes have no case") for said in found.warnings)


def test_several_labels_come_back_from_the_table_as_written(tmp_path, predict_labels):
    block = predict_labels(num_cases=12)
    write_predictions(tmp_path / "p.csv", [block])
    (again,) = read_predictions(tmp_path / "p.csv")
    np.testing.assert_array_equal(again.y_true, block.y_true)
    only = replace(block, y_true=np.eye(3, dtype=bool)[np.arange(12) % 3])
    write_predictions(tmp_path / "p.csv", [only])
    np.testing.assert_array_equal(read_predictions(tmp_path / "p.csv")[0].y_true, only.y_true)


def test_one_kind_of_truth_cannot_stand_beside_the_other(predict_labels, alone):
    several = predict_labels()
    one = replace(
        several,
        model="cnn",
        y_true=np.zeros(80, dtype=np.int64),
        probabilities=np.full((80, 3), 1 / 3),
    )
    with pytest.raises(DataError, match="one kind of truth"):
        evaluate([several, one], clusters=alone([several]), unit="image")


def test_each_of_several_classes_is_measured_against_the_rest(predict, alone):
    block = predict(num_classes=3)
    found = evaluate([block], clusters=alone([block]), unit="image", resamples=50)
    decided = block.probabilities.argmax(1)
    recall = reference.recall_score(block.y_true, decided, average=None)
    for place, name in enumerate("abc"):
        own = found.by_class["test"]["vit"][name]["sensitivity"]
        assert own.value == pytest.approx(recall[place])
        assert own.method == "Wilson"
