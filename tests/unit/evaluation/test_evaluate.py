"""Predictions become the numbers, warnings and sentences that a reader can trust."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vitrail.errors import DataError, InputError
from vitrail.evaluation.evaluate import (
    AnalysisPlan,
    count_opening,
    evaluate,
    positive_index,
)
from vitrail.evaluation.record import from_json, to_json


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_record_fits_its_schema_and_comes_back_from_json(num_classes, predict, alone):
    blocks = [
        predict(model, split, num_classes=num_classes, skill=skill)
        for model, skill in (("vit", 1.5), ("cnn", 1.0))
        for split in ("validation", "test")
    ]
    clusters = alone(blocks)
    plan = AnalysisPlan(subgroups={"site": {name: name[-1] for name in clusters if name[-1] < "2"}})
    found = to_json(evaluate(blocks, clusters=clusters, unit="patient", plan=plan, resamples=50))
    schema = json.loads(files("vitrail").joinpath("schemas/evaluation.json").read_text())
    jsonschema.validate(json.loads(json.dumps(found, allow_nan=False)), schema)
    assert to_json(from_json(found)) == found
    assert set(found["sets"]["test"]) == {"vit", "cnn"}
    assert set(found["subgroups"]["site"]["vit"]["groups"]) == {"0", "1"}


def test_the_patient_is_the_unit_and_its_images_count_once(predict):
    block = predict(num_cases=80)
    clusters = {name: f"p{place % 2}-{place // 8}" for place, name in enumerate(block.case_ids)}
    found = evaluate([block], clusters=clusters, unit="patient", resamples=50)
    patients = sorted(set(clusters.values()))
    score = [
        np.mean(
            [
                p
                for n, p in zip(block.case_ids, block.probabilities[:, 1], strict=True)
                if clusters[n] == who
            ]
        )
        for who in patients
    ]
    area = found.sets["test"]["vit"]["roc_auc_score"]
    assert area.n == len(patients) == 20
    assert area.value == pytest.approx(roc_auc_score([who[1] == "1" for who in patients], score))
    assert found.image_level["test"]["vit"]["roc_auc_score"].n == 80


def test_several_seeds_are_averaged_and_their_spread_is_told(predict, alone):
    blocks = [replace(predict(skill=s), seed=k) for k, s in enumerate((0.5, 1.0, 1.5))]
    area = evaluate(blocks, clusters=alone(blocks), unit="image", resamples=50).sets["test"]["vit"]
    own = [roc_auc_score(b.y_true, b.probabilities[:, 1]) for b in blocks]
    assert area["roc_auc_score"].value == pytest.approx(np.mean(own))
    assert area["roc_auc_score"].spread == pytest.approx(np.std(own, ddof=1))


def test_an_absent_class_gives_null_with_the_reason_and_never_a_silent_number(predict, alone):
    block = predict()
    block = replace(block, y_true=np.zeros(60, dtype=np.int64))
    found = to_json(evaluate([block], clusters=alone([block]), unit="image", resamples=50))
    area = found["sets"]["test"]["vit"]["roc_auc_score"]
    assert area["value"] is None
    assert "a class is absent" in area["reason"]
    assert any("have no case in test" in warning for warning in found["warnings"])


def test_constant_scores_and_a_single_patient_are_said(predict):
    block = predict()
    block = replace(block, probabilities=np.full((60, 2), 0.5))
    one = dict.fromkeys(block.case_ids, "p")
    said = " ".join(evaluate([block], clusters=one, unit="patient", resamples=50).warnings)
    assert "same scores" in said
    assert "one patient" in said


def test_one_test_case_and_one_patient_alone_give_numbers_without_intervals(predict, alone):
    block = predict(num_cases=1)
    found = to_json(evaluate([block], clusters=alone([block]), unit="patient", resamples=20))
    assert found["sets"]["test"]["vit"]["roc_auc_score"]["value"] is None
    assert found["sets"]["test"]["vit"]["accuracy"]["low"] is None
    block = replace(predict(), probabilities=np.eye(2)[predict().y_true])
    one = dict.fromkeys(block.case_ids, "p")
    for unit in ("patient", "image"):
        found = to_json(evaluate([block], clusters=one, unit=unit, resamples=20))
        assert {cell["low"] for cell in found["sets"]["test"]["vit"].values()} == {None}
        assert any("one patient" in said for said in found["warnings"])


def test_ties_everywhere_give_the_area_that_ties_deserve(predict, alone):
    block = predict()
    block = replace(block, probabilities=block.probabilities.round(1))
    found = evaluate([block], clusters=alone([block]), unit="image", resamples=50)
    area = found.sets["test"]["vit"]["roc_auc_score"]
    assert area.value == pytest.approx(roc_auc_score(block.y_true, block.probabilities[:, 1]))
    assert area.low < area.value < area.high


def test_resamples_that_lack_a_class_are_counted(predict, alone):
    block = predict(num_cases=40)
    block = replace(block, y_true=(np.arange(40) < 2).astype(np.int64))
    found = evaluate([block], clusters=alone([block]), unit="image", resamples=200)
    assert "of 200 resamples give no number" in (
        found.sets["test"]["vit"]["average_precision_score"].reason
    )


def test_no_predictions_at_all_or_a_set_without_cases_is_refused(predict):
    with pytest.raises(DataError, match="at least one model predicts"):
        evaluate([], clusters={}, unit="image")
    empty = replace(
        predict(), case_ids=(), y_true=np.empty(0, dtype=int), probabilities=np.empty((0, 2))
    )
    with pytest.raises(DataError, match="no cases; a set has cases"):
        evaluate([empty], clusters={}, unit="image")


def test_an_external_set_is_measured_with_the_threshold_of_the_runs_validation_cases(
    predict, alone
):
    known = predict(split="validation")
    blocks = [known, predict(split="external"), predict("cnn", "external", skill=0.5)]
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=50)
    assert set(found.sets) == {"validation", "external"}
    (point,) = found.operating_points["vit"]
    block = blocks[1]
    called = block.probabilities[:, 1] >= point["threshold"]
    expected = (called == (block.y_true == 1)).mean()
    assert found.sets["external"]["vit"]["accuracy"].value == pytest.approx(expected)
    assert any((c.a, c.b) == ("vit", "cnn") for c in found.comparisons)


def test_openings_of_the_test_set_are_counted_and_told(predict, alone):
    block, previous = predict(), None
    for opening in (1, 2):
        plan = AnalysisPlan(test_openings=count_opening(previous))
        found = evaluate([block], clusters=alone([block]), unit="image", plan=plan, resamples=20)
        previous = to_json(found)
        assert previous["test_openings"] == opening
        assert any("opened" in said for said in found.warnings) == (opening > 1)


def test_predictive_values_are_stated_at_the_wanted_prevalence(predict, alone):
    block = predict()
    plan = AnalysisPlan(prevalence=0.02)
    found = evaluate([block], clusters=alone([block]), unit="image", plan=plan, resamples=200)
    metrics = found.sets["test"]["vit"]
    sensitive, specific = metrics["sensitivity"].value, metrics["specificity"].value
    called = sensitive * 0.02 + (1 - specific) * 0.98
    at = metrics["precision_at_prevalence"]
    assert at.value == pytest.approx(sensitive * 0.02 / called)
    assert at.low < at.value < at.high < metrics["precision"].value
    with pytest.raises(InputError, match="a prevalence lies between 0 and 1"):
        AnalysisPlan(prevalence=2.0)


def test_the_largest_gap_between_subgroups_is_named(predict, alone):
    block = predict(num_cases=120)
    probabilities = block.probabilities.copy()
    probabilities[60:] = (
        0.5 + (probabilities[60:] - 0.5) * np.where(np.arange(60) % 3, 1, -1)[:, None]
    )
    block = replace(block, probabilities=probabilities)
    site = {name: "ab"[place >= 60] for place, name in enumerate(block.case_ids)}
    plan = AnalysisPlan(subgroups={"site": site})
    found = evaluate([block], clusters=alone([block]), unit="image", plan=plan, resamples=50)
    told = found.subgroups["site"]["vit"]
    balanced = [told["groups"][name]["balanced_accuracy"].value for name in "ab"]
    assert told["gap"]["high"] == "a"
    assert told["gap"]["gap"] == pytest.approx(balanced[0] - balanced[1])
    assert told["groups"]["a"]["roc_auc_score"].n == 60


def test_a_group_without_cases_of_a_class_takes_no_part_in_the_largest_gap(predict, alone):
    block = predict(num_cases=120, num_classes=3)
    site = {
        name: "c" if truth == 0 and place < 30 else "ab"[place >= 60]
        for place, (name, truth) in enumerate(zip(block.case_ids, block.y_true, strict=True))
    }
    plan = AnalysisPlan(subgroups={"site": site})
    found = evaluate([block], clusters=alone([block]), unit="image", plan=plan, resamples=50)
    told = found.subgroups["site"]["vit"]
    assert np.isfinite(told["groups"]["c"]["balanced_accuracy"].value)
    assert {told["gap"]["high"], told["gap"]["low"]} == {"a", "b"}


def test_the_external_set_has_subgroups_of_its_own(predict, alone):
    blocks = [predict("vit", split) for split in ("validation", "test")]
    outside = replace(predict("vit", "test", num_cases=60), split="external")
    outside = replace(outside, case_ids=tuple(f"external/{name}" for name in outside.case_ids))
    scanner = {name: "ab"[place % 2] for place, name in enumerate(outside.case_ids)}
    blocks.append(outside)
    plan = AnalysisPlan(subgroups={"scanner": scanner})
    found = evaluate(blocks, clusters=alone(blocks), unit="image", plan=plan, resamples=50)
    assert found.subgroups == {}
    groups = found.external_subgroups["scanner"]["vit"]["groups"]
    assert {name: one["accuracy"].n for name, one in groups.items()} == {"a": 30, "b": 30}


def test_patients_with_images_of_several_classes_are_measured_by_image_and_said(predict):
    block = predict()
    clusters = {name: str(place // 4) for place, name in enumerate(block.case_ids)}
    blocks = [block, predict("cnn", skill=0.5)]
    found = evaluate(blocks, clusters=clusters, unit="patient", resamples=50)
    assert {c.exact_test for c in found.comparisons} == {""}  # images are not independent
    assert found.unit == "image"
    assert any("images of several classes" in said for said in found.warnings)
    assert "patients" in found.sets["test"]["vit"]["roc_auc_score"].method


def test_folds_of_one_seed_are_measured_together(predict, alone):
    whole = predict()
    halves = [
        replace(
            whole,
            fold=fold,
            case_ids=whole.case_ids[fold::2],
            y_true=whole.y_true[fold::2],
            probabilities=whole.probabilities[fold::2],
        )
        for fold in (0, 1)
    ]
    halves = [replace(one, y_true=np.arange(30) % 2) for one in halves]
    found = evaluate(halves, clusters=alone([whole]), unit="image", resamples=50)
    assert found.sets["test"]["vit"]["roc_auc_score"].n == 60
    assert len(found.operating_points["vit"]) == 2


def test_models_that_predicted_other_cases_are_refused(predict, alone):
    blocks = [predict(), predict("cnn", num_cases=58)]
    with pytest.raises(DataError, match="differ in 2 cases"):
        evaluate(blocks, clusters=alone(blocks), unit="image")
    with pytest.raises(DataError, match="the cases of the split"):
        evaluate(blocks, clusters={}, unit="image")


def test_the_positive_class_is_the_one_not_named_like_a_negative():
    assert positive_index(("COVID", "NonCOVID"), None) == 0
    assert positive_index(("clear", "nodule"), None) == 1
    assert positive_index(("a", "b", "c"), None) is None
    with pytest.raises(InputError, match="it is one of a, b"):
        positive_index(("a", "b"), "x")


def test_a_calibration_error_is_stated_without_chance_and_beside_its_plug_in_value(predict, alone):
    blocks = [predict(split="validation", num_cases=200), predict(num_cases=200)]
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=200)
    for level in (found.sets, found.calibrated, found.vector_scaled):
        error = level["test"]["vit"]["expected_calibration_error"]
        plug_in = float(error.reason.split()[0])
        assert error.low <= error.value <= error.high
        assert error.value < plug_in
        assert "test inversion" in error.method


def test_vector_scaling_mends_what_temperature_cannot(predict, alone):
    def shifted(block):
        odds = block.probabilities * np.array([1.0, 6.0])
        return replace(block, probabilities=odds / odds.sum(1, keepdims=True))

    blocks = [shifted(predict(split="validation", num_cases=400)), shifted(predict(num_cases=300))]
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=20)
    loss = [
        level["test"]["vit"]["log_loss"].value
        for level in (found.sets, found.calibrated, found.vector_scaled)
    ]
    assert loss[2] < min(loss[:2]) - 0.05
    (point,) = found.operating_points["vit"]
    assert len(point["scale"]) == len(point["shift"]) == 2
    assert found.curves["test"]["vit"]["calibration_vector"]


def test_configurations_tried_are_counted_and_told(predict, alone):
    block = predict()
    plan = AnalysisPlan(configurations_tried=27)
    found = evaluate([block], clusters=alone([block]), unit="image", plan=plan, resamples=20)
    assert found.configurations_tried == 27
    assert any(said.startswith("27 configurations were tried") for said in found.warnings)


def test_the_risk_of_abstaining_is_the_stated_one(predict, alone):
    blocks = [predict(split="validation", num_cases=300, skill=4.0), predict(skill=4.0)]
    plan = AnalysisPlan(risk=0.2)
    found = evaluate(blocks, clusters=alone(blocks), unit="image", plan=plan, resamples=20)
    assert found.uncertainty["vit"]["abstention"]["risk"] == 0.2
    assert found.uncertainty["vit"]["abstention"]["threshold"] is not None
    with pytest.raises(InputError, match="a risk lies between 0 and 1"):
        AnalysisPlan(risk=1.0)
