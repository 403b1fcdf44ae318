"""Calibration errors, Cox's fit, scaling, conformal sets and abstention do what they promise."""

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from vitrail.metrics.calibration import (
    abstention_threshold,
    apply_temperature,
    apply_vector_scaling,
    calibration_intercept_slope,
    conformal_thresholds,
    equal_count_edges,
    expected_calibration_error,
    fit_temperature,
    fit_vector_scaling,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_the_expected_calibration_error_equals_a_loop_over_bins(generator):
    probability = generator.random(200)
    outcome = generator.random(200) < probability**2
    total = 0.0
    for low in np.arange(10) / 10:
        own = (probability > low) & (probability <= low + 0.1)
        total += own.mean() * abs(outcome[own].mean() - probability[own].mean())
    assert expected_calibration_error(outcome, probability) == pytest.approx(total)


def test_the_adaptive_error_has_as_many_cases_in_each_bin(generator):
    probability = generator.random(100) ** 3
    edges = equal_count_edges(probability)
    counts = np.histogram(probability, edges)[0]
    assert len(counts) == 10
    assert counts.min() == counts.max() == 10
    assert expected_calibration_error(probability > 2, probability, edges=edges) == pytest.approx(
        probability.mean()
    )


def test_weights_of_the_calibration_error_are_repeated_cases(generator):
    probability, weights = generator.random(50), generator.integers(0, 4, size=(3, 50)) * 1.0
    outcome = generator.random(50) < probability
    found = expected_calibration_error(outcome, probability, weights=weights)
    for value, w in zip(found, weights.astype(int), strict=True):
        again = expected_calibration_error(np.repeat(outcome, w), np.repeat(probability, w))
        assert value == pytest.approx(float(again))


def test_intercept_and_slope_equal_scikit_learns_logistic_regression_on_every_resample(generator):
    x = generator.normal(size=300)
    outcome = generator.random(300) < expit(0.5 + 0.7 * x)
    weights = generator.integers(0, 3, size=(4, 300)) * 1.0
    large, slope = calibration_intercept_slope(outcome, expit(x), weights=weights)
    for row, w in enumerate(weights):
        fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        fit.fit(x[:, None], outcome, sample_weight=w)
        assert slope[row] == pytest.approx(fit.coef_[0, 0], abs=1e-5)
        # The score equation of the intercept with the slope held at 1: sums agree.
        assert w @ expit(large[row] + x) == pytest.approx(w @ outcome)


def test_a_slope_without_meaning_is_nan():
    outcome, probability = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.8, 0.9])
    assert np.isnan(calibration_intercept_slope(outcome, probability)[1])
    assert np.isnan(calibration_intercept_slope(np.zeros(4, dtype=bool), probability)[1])


def test_temperature_finds_back_by_how_much_logits_were_exaggerated(generator):
    logits = 2 * generator.normal(size=(4000, 3))
    y_true = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    exaggerated = softmax(3 * logits, axis=1)
    temperature = fit_temperature(y_true, exaggerated)
    assert temperature == pytest.approx(3.0, rel=0.05)
    scaled = apply_temperature(exaggerated, temperature)
    np.testing.assert_allclose(scaled.sum(1), 1.0)
    np.testing.assert_array_equal(scaled.argmax(1), logits.argmax(1))


def test_vector_scaling_undoes_a_shift_that_temperature_cannot(generator):
    logits = generator.normal(size=(4000, 3))
    y_true = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    shifted = softmax(logits + np.array([2.0, 0.0, -1.0]), axis=1)
    scale, shift = fit_vector_scaling(y_true, shifted)
    mended = apply_vector_scaling(shifted, scale=scale, shift=shift)

    def loss(probabilities):
        return -np.log(probabilities[np.arange(4000), y_true]).mean()

    best = -log_softmax(logits, axis=1)[np.arange(4000), y_true].mean()
    assert loss(mended) == pytest.approx(best, abs=0.01)
    assert loss(apply_temperature(shifted, fit_temperature(y_true, shifted))) > best + 0.1


def test_conformal_sets_hold_the_truth_of_every_class_as_often_as_promised(generator):
    logits = generator.normal(size=(8000, 3)) + np.array([1.0, 0.0, -1.0])
    y_true = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    probabilities = softmax(logits, axis=1)
    thresholds = conformal_thresholds(y_true[:4000], probabilities[:4000], error=0.1)
    inside = (probabilities >= thresholds)[np.arange(8000), y_true]
    for k in range(3):
        # Seed 0, fixed before: half a thousand rare cases, standard error about 1.3 %.
        assert inside[4000:][y_true[4000:] == k].mean() == pytest.approx(0.9, abs=0.04)


def test_a_class_with_too_few_validation_cases_is_in_every_set():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    np.testing.assert_array_equal(
        conformal_thresholds(np.array([0, 0, 1]), probabilities, error=0.1), [0.0, 0.0]
    )


def test_abstention_promises_a_risk_only_where_the_cases_prove_it(generator):
    confidence = 0.5 + 0.5 * generator.random(3000)
    right = generator.random(3000) < confidence
    threshold = abstention_threshold(right, confidence, risk=0.1)
    assert 0.8 <= threshold <= 0.9
    assert np.mean(~right[confidence >= threshold]) < 0.1
    assert abstention_threshold(right[:20], confidence[:20], risk=0.1) is None
