"""Pictures unlike the training set are noticed, at a measured rate of false alarms."""

import numpy as np
import pytest

from vitrail.errors import InputError
from vitrail.metrics.novelty import fit_training_range, intensity_fingerprint


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_the_false_alarm_rate_is_measured_on_cases_that_did_not_choose_the_threshold(generator):
    found = fit_training_range(generator.normal(size=(500, 6)), generator.normal(size=(400, 6)))
    rate, low, high = found.false_alarms
    assert found.num_measured == 200
    assert low <= rate <= high
    new = generator.normal(size=(2000, 6))
    # Seed 0, fixed before; 0.05 wanted, 200 cases chose the threshold: standard error 1.5 %.
    assert found.is_outside(new).mean() == pytest.approx(0.05, abs=0.05)
    assert found.is_outside(new + 4.0).all()


def test_the_distance_equals_its_definition(generator):
    training = generator.normal(size=(100, 2)) * np.array([1.0, 10.0])
    found = fit_training_range(training, training)
    point = np.array([[3.0, -5.0]])
    covariance = np.cov(training, rowvar=False)
    covariance[0, 1] = covariance[1, 0] = 0.9 * covariance[0, 1]
    away = point[0] - training.mean(0)
    expected = np.sqrt(away @ np.linalg.inv(covariance) @ away)
    assert found.distance(point)[0] == pytest.approx(expected, rel=1e-6)


def test_an_inverted_picture_is_unlike_the_training_pictures(generator):
    def pictures(number):
        return generator.beta(2, 6, size=(number, 1, 16, 16)).astype(np.float32)

    def features(batch):
        return np.stack([intensity_fingerprint(one) for one in batch])

    found = fit_training_range(features(pictures(300)), features(pictures(100)))
    assert found.is_outside(features(1 - pictures(20))).all()
    assert found.is_outside(features(pictures(200))).mean() < 0.2


def test_too_few_cases_and_features_that_are_no_numbers_are_refused(generator):
    few = generator.normal(size=(10, 2))
    with pytest.raises(InputError, match="10 training and 10 held-out cases"):
        fit_training_range(few, few)
    with pytest.raises(InputError, match="features are finite"):
        fit_training_range(np.full((30, 2), np.nan), np.zeros((30, 2)))
