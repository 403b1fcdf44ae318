"""Comparisons equal hand computation, and their sentences claim no more than the interval."""

import numpy as np
import pytest
from scipy.stats import norm

from vitrail.metrics.comparison import (
    bootstrap_p_value,
    delong_test,
    holm,
    mcnemar_test,
    sentence,
)
from vitrail.metrics.interval import Draws, delong_components, mean_draws


def test_delongs_test_is_the_difference_over_its_standard_error():
    generator = np.random.default_rng(0)
    y_true, scores = np.arange(40) % 2 == 1, generator.normal(size=(2, 40))
    (first, second), covariance = delong_components(y_true, scores)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference, low, high, p_value = delong_test(y_true, scores)
    assert difference == pytest.approx(first - second)
    assert (low, high) == pytest.approx(
        (difference - 1.959964 * error, difference + 1.959964 * error)
    )
    assert p_value == pytest.approx(2 * norm.sf(abs(difference) / error))


def test_a_model_does_not_differ_from_itself():
    y_true, score = np.arange(10) % 2 == 1, np.arange(10.0)
    assert delong_test(y_true, np.stack([score, score])) == (0.0, 0.0, 0.0, 1.0)
    assert mcnemar_test(y_true, y_true) == 1.0


def test_mcnemar_and_holm_equal_hand_computation():
    first, second = np.repeat([True, False], [9, 1]), np.repeat([False, True], [9, 1])
    assert mcnemar_test(first, second) == pytest.approx(2 * 11 / 1024)
    assert holm([0.01, float("nan"), 0.6, 0.4]) == pytest.approx(
        [0.03, np.nan, 0.8, 0.8], nan_ok=True
    )


def test_the_sentence_claims_no_more_than_the_interval():
    names = ("vit", "cnn")
    assert "no evidence of a difference" in sentence(names, "accuracy", interval=(0.1, -0.01, 0.2))
    assert "vit is better" in sentence(names, "accuracy", interval=(0.1, 0.01, 0.2))
    assert "vit is worse" in sentence(names, "brier_score_loss", interval=(0.1, 0.01, 0.2))
    assert "not defined" in sentence(names, "accuracy", interval=(np.nan, np.nan, np.nan))


def test_the_bootstrap_p_value_is_never_zero():
    ahead = Draws(0.1, np.full(199, 0.1), np.empty(0), 50)
    assert bootstrap_p_value(ahead) == pytest.approx(2 / 200)
    assert np.isnan(bootstrap_p_value(Draws(np.nan, np.full(9, np.nan), np.empty(0), 50)))


def test_what_only_rounding_left_of_a_difference_is_no_difference():
    seeds = [np.array([share, 0.5]) for share in (0.1, 0.2, 0.3)]
    runs = [Draws(float(draws[0]), draws, draws, 40) for draws in seeds]
    difference = mean_draws(runs) - mean_draws(runs[::-1])
    assert difference.value == 0
    assert not difference.draws.any()
    assert bootstrap_p_value(difference) == 1
