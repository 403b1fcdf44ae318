"""Runs on the same test cases are compared pair by pair; others are refused."""

from dataclasses import replace

import numpy as np
import pytest

from vitrail.errors import DataError, InputError
from vitrail.evaluation.compare import compare_runs
from vitrail.evaluation.evaluate import evaluate


@pytest.fixture
def runs(predict):
    return {
        "plain": [predict(skill=1.0)],
        "deep": [predict(skill=2.0), predict("cnn", skill=0.5)],
    }


def test_every_pair_of_models_of_all_runs_is_compared(runs, alone):
    clusters = alone(runs["plain"])
    found = compare_runs(runs, clusters=clusters, unit="patient", resamples=100)
    assert found["runs"] == ["plain", "deep"]
    assert set(found["sets"]["test"]) == {"plain", "deep/vit", "deep/cnn"}
    areas = [c for c in found["comparisons"] if c["metric"] == "roc_auc_score"]
    names = {(c["a"], c["b"]) for c in areas}
    assert names == {("plain", "deep/vit"), ("plain", "deep/cnn"), ("deep/vit", "deep/cnn")}
    own = evaluate(runs["plain"], clusters=clusters, unit="patient", resamples=100)
    assert found["sets"]["test"]["plain"]["roc_auc_score"]["value"] == pytest.approx(
        own.sets["test"]["vit"]["roc_auc_score"].value
    )


def test_runs_with_other_test_cases_or_labels_are_refused_by_name(runs, predict, alone):
    other = predict(num_cases=57)
    with pytest.raises(DataError, match="plain and new differ in 3 cases, like test/57"):
        compare_runs(
            {"plain": runs["plain"], "new": [other]}, clusters=alone(runs["plain"]), unit="patient"
        )
    flipped = replace(runs["plain"][0], y_true=np.ones(60, dtype=np.int64))
    with pytest.raises(DataError, match="differ in the label of 30 cases, like test/0"):
        compare_runs(
            {"plain": runs["plain"], "new": [flipped]}, clusters=alone([flipped]), unit="patient"
        )


def test_one_run_alone_is_refused(runs):
    with pytest.raises(InputError, match="plain; two runs at least are compared"):
        compare_runs({"plain": runs["plain"]}, clusters={}, unit="patient")
