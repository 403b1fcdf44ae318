"""Curves equal scikit-learn's, and their bands hold what resampling gives."""

import numpy as np
import pytest
import sklearn.metrics as reference

from vitrail.evaluation.curves import (
    Band,
    calibration_curve,
    curves,
    decision_curve,
    precision_recall_curve,
    roc_curve,
)
from vitrail.evaluation.measure import Sample
from vitrail.metrics.decision import net_benefit


@pytest.fixture
def truth():
    return np.arange(60) % 3 == 0


@pytest.fixture
def score(truth):
    return (np.random.default_rng(0).normal(size=60) + 1.5 * truth).round(1)


@pytest.fixture
def band():
    return Band(clusters=np.arange(60) // 2, resamples=200)


def test_the_roc_curve_equals_scikit_learns(truth, score, band):
    drawn = roc_curve(truth, score, band=band)
    x, y, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(drawn["false_positive_rate"], x)
    np.testing.assert_allclose(drawn["true_positive_rate"], y)


def test_the_precision_recall_curve_equals_scikit_learns(truth, score, band):
    drawn = precision_recall_curve(truth, score, band=band)
    precision, recall, _ = reference.precision_recall_curve(truth, score)
    np.testing.assert_allclose(drawn["recall"], recall[-2::-1])
    np.testing.assert_allclose(drawn["precision"], precision[-2::-1])


def test_the_decision_curve_is_the_net_benefit_at_every_threshold(truth, score, band):
    probability = 1 / (1 + np.exp(-score))
    drawn = decision_curve(truth, probability, band=band)
    assert drawn["threshold"][49] == 0.5
    assert drawn["model"][49] == pytest.approx(
        float(net_benefit(truth, probability, threshold=0.5))
    )
    assert drawn["treat_all"][0] == pytest.approx(truth.mean() - 0.01 / 0.99 * (~truth).mean())


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve, decision_curve])
def test_a_band_is_of_one_length_with_its_curve_ordered_and_reproducible(curve, truth, score, band):
    drawn = curve(truth, 1 / (1 + np.exp(-score)), band=band)
    assert len({len(column) for column in drawn.values()}) == 1
    assert np.all(np.array(drawn["low"]) <= drawn["high"])
    assert np.array(drawn["high"]).max() > np.array(drawn["low"]).min()
    assert curve(truth, 1 / (1 + np.exp(-score)), band=band) == drawn


def test_the_roc_band_holds_a_literal_resample_by_resample_computation(truth, score, band):
    drawn = roc_curve(truth, score, band=band)
    place = len(drawn["low"]) // 2
    at, found = drawn["false_positive_rate"][place], []
    for weights in np.concatenate(list(band.weights())):
        x, y, _ = reference.roc_curve(truth, score, sample_weight=weights, drop_intermediate=False)
        found.append(y[x <= at + 1e-12].max())
    ends = np.quantile(found, [0.025, 0.975])
    np.testing.assert_allclose([drawn["low"][place], drawn["high"][place]], ends)


def test_what_has_no_curve_is_none_and_what_has_no_cases_has_no_bin(truth, score, band):
    assert roc_curve(truth & False, score, band=band) is None
    assert precision_recall_curve(truth & False, score, band=band) is None
    both = np.stack([1 - 0.05 * np.ones(60), 0.05 * np.ones(60)], axis=1)
    sample = Sample(truth.astype(int), both, np.zeros(60, dtype=int), 1)
    (point,) = calibration_curve(sample)
    assert point["n"] == 60
    assert point["frequency"] == pytest.approx(truth.mean())
    assert curves(sample, ("a", "b"), band=band)["confusion"]["counts"] == [[40, 0], [20, 0]]
