"""Predictions become the numbers, warnings and sentences that a reader can trust."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vitrail.errors import DataError, InputError
from vitrail.evaluation.evaluate import AnalysisPlan, evaluate, from_json, positive_index, to_json
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.records import Predictions


def predictions(model="vit", split="test", *, num_cases=60, seed=0, num_classes=2, skill=1.5):
    generator = np.random.default_rng([seed, num_cases, int(10 * skill)])
    y_true = np.arange(num_cases) % num_classes
    scores = np.exp(
        generator.normal(size=(num_cases, num_classes)) + skill * np.eye(num_classes)[y_true]
    )
    names = ("clear", "nodule") if num_classes == 2 else tuple("abcd"[:num_classes])
    ids = tuple(f"{split}/{place}" for place in range(num_cases))
    return Predictions(
        model, seed, 0, split, names, ids, y_true, scores / scores.sum(1, keepdims=True)
    )


def alone(blocks):
    return {name: name for block in blocks for name in block.case_ids}


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_record_fits_its_schema_and_comes_back_from_json(num_classes):
    blocks = [
        predictions(model, split, num_classes=num_classes, skill=skill)
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


def test_the_patient_is_the_unit_and_its_images_count_once():
    block = predictions(num_cases=80)
    clusters = {name: f"p{place % 2}-{place // 8}" for place, name in enumerate(block.case_ids)}
    found = evaluate([block], clusters=clusters, unit="patient", resamples=50)
    patients = sorted(set(clusters.values()))
    score = [
        np.mean(
            [p for n, p in zip(block.case_ids, block.probabilities[:, 1]) if clusters[n] == who]
        )
        for who in patients
    ]
    area = found.sets["test"]["vit"]["roc_auc_score"]
    assert area.n == len(patients) == 20
    assert area.value == pytest.approx(roc_auc_score([who[1] == "1" for who in patients], score))
    assert found.image_level["test"]["vit"]["roc_auc_score"].n == 80


def test_several_seeds_are_averaged_and_their_spread_is_told():
    blocks = [replace(predictions(skill=s), seed=k) for k, s in enumerate((0.5, 1.0, 1.5))]
    area = evaluate(blocks, clusters=alone(blocks), unit="image", resamples=50).sets["test"]["vit"]
    own = [roc_auc_score(b.y_true, b.probabilities[:, 1]) for b in blocks]
    assert area["roc_auc_score"].value == pytest.approx(np.mean(own))
    assert area["roc_auc_score"].spread == pytest.approx(np.std(own, ddof=1))


def test_an_absent_class_gives_null_with_the_reason_and_never_a_silent_number():
    block = predictions()
    block = replace(block, y_true=np.zeros(60, dtype=np.int64))
    found = to_json(evaluate([block], clusters=alone([block]), unit="image", resamples=50))
    area = found["sets"]["test"]["vit"]["roc_auc_score"]
    assert area["value"] is None
    assert "a class is absent" in area["reason"]
    assert any("have no case in test" in warning for warning in found["warnings"])


def test_constant_scores_and_a_single_patient_are_said():
    block = predictions()
    block = replace(block, probabilities=np.full((60, 2), 0.5))
    one = dict.fromkeys(block.case_ids, "p")
    said = " ".join(evaluate([block], clusters=one, unit="patient", resamples=50).warnings)
    assert "same scores" in said
    assert "one patient" in said


def test_models_that_predicted_other_cases_are_refused():
    blocks = [predictions(), predictions("cnn", num_cases=58)]
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


def test_the_table_comes_back_as_written(tmp_path):
    blocks = [predictions(num_classes=3), predictions("cnn", "validation", num_classes=3)]
    write_predictions(tmp_path / "predictions.csv", blocks)
    for old, new in zip(blocks, read_predictions(tmp_path / "predictions.csv"), strict=True):
        assert (new.model, new.split, new.case_ids) == (old.model, old.split, old.case_ids)
        np.testing.assert_array_equal(new.y_true, old.y_true)
        np.testing.assert_allclose(new.probabilities, old.probabilities, rtol=1e-8)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("vit,0,0,a,test,clear,0.5,0.9", "sum to one"),
        ("vit,0,0,a,test,clear,nan,0.9", "sum to one"),
        ("vit,0,0,a,test,cat,0.1,0.9", "line 2, y_true: 'cat'"),
        ("vit,0,0,a,test,clear,x,0.9", "are numbers"),
        ("vit,0,0,a,test,clear,0.1,0.9\nvit,0,0,a,test,clear,0.1,0.9", "a twice"),
    ],
)
def test_a_broken_table_says_what_is_wrong_and_where(tmp_path, broken, message):
    header = "model,seed,fold,case_id,split,y_true,prob_clear,prob_nodule"
    (tmp_path / "p.csv").write_text(f"{header}\n{broken}\n")
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "p.csv")
