"""Prediction sets and abstention come from validation cases and are counted on the test set."""

from dataclasses import replace

import numpy as np
import pytest

from vitrail.evaluation.evaluate import evaluate
from vitrail.metrics.calibration import conformal_thresholds


def test_prediction_sets_are_made_on_validation_and_counted_on_test(predict, alone):
    known, tested = (
        predict(split="validation", num_cases=200),
        predict(num_cases=300, num_classes=2),
    )
    found = evaluate([known, tested], clusters=alone([known, tested]), unit="image", resamples=20)
    told = found.uncertainty["vit"]["conformal"]
    thresholds = conformal_thresholds(known.y_true, known.probabilities, error=0.1)
    assert list(told["thresholds"].values()) == pytest.approx(thresholds.tolist())
    members = tested.probabilities >= thresholds
    for k, name in enumerate(("clear", "nodule")):
        share = told["coverage"][name]
        assert share["value"] == pytest.approx(members[tested.y_true == k, k].mean())
        assert share["low"] < share["value"] < share["high"]
    assert told["mean_size"] == pytest.approx(members.sum(1).mean())


def test_abstention_tells_how_many_cases_it_decides_and_how_many_of_them_wrongly(predict, alone):
    blocks = [predict(split=split, num_cases=600, skill=4.0) for split in ("validation", "test")]
    found = evaluate(blocks, clusters=alone(blocks), unit="image", resamples=20)
    told = found.uncertainty["vit"]["abstention"]
    confidence = blocks[1].probabilities.max(1)
    kept = confidence >= told["threshold"]
    assert told["decided"]["value"] == pytest.approx(kept.mean())
    assert told["wrong"]["n"] == kept.sum()
    assert told["wrong"]["value"] <= told["risk"] + 0.03


def test_a_risk_that_validation_cases_cannot_prove_has_no_threshold(predict, alone):
    blocks = [predict(split=split, num_cases=20) for split in ("validation", "test")]
    found = evaluate(blocks, clusters=alone(blocks), unit="image", resamples=20)
    assert found.uncertainty["vit"]["abstention"] == {"risk": 0.05, "threshold": None}
    without = evaluate(blocks[1:], clusters=alone(blocks), unit="image", resamples=20)
    assert without.uncertainty == {}
    assert not np.isnan(found.uncertainty["vit"]["conformal"]["mean_size"])


def test_no_promise_is_made_from_the_validation_cases_of_one_fold_for_the_models_of_others(
    predict, alone
):
    tested, known = predict(num_cases=60), predict(split="validation", num_cases=60)
    folds = [cut(tested, 0, 30), cut(tested, 30, 60, fold=1)]
    folds += [cut(known, 0, 40), cut(known, 20, 60, fold=1)]
    found = evaluate(folds, clusters=alone(folds), unit="image", resamples=20)
    assert found.uncertainty == {}
    folds[2:] = [cut(known, 0, 30), cut(known, 30, 60, fold=1)]
    found = evaluate(folds, clusters=alone(folds), unit="image", resamples=20)
    assert set(found.uncertainty) == {"vit"}


def cut(said, start, stop, fold=0):
    part = slice(start, stop)
    return replace(
        said,
        fold=fold,
        case_ids=said.case_ids[part],
        y_true=said.y_true[part],
        probabilities=said.probabilities[part],
    )
