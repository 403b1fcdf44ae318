"""Intervals agree with published and literal computations, and cover what they promise."""

import numpy as np
import pytest
from scipy.stats import norm

from vitrail.metrics.classification import roc_auc_score
from vitrail.metrics.comparison import delong_test, holm, mcnemar_test, sentence
from vitrail.metrics.interval import (
    bootstrap,
    bootstrap_interval,
    delong,
    delong_components,
    separated,
    wilson,
)

# DeLong, DeLong and Clarke-Pearson (1988): 43 ovarian cancer patients with all three tests, as
# reprinted in SAS/STAT's PROC LOGISTIC example "Comparing ROC curves": albumin, total protein,
# K-G score, outcome.
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


@pytest.fixture
def ovarian():
    table = np.array(OVARIAN.split(), dtype=np.float64).reshape(-1, 4)
    return table[:, 3] == 1, np.stack([table[:, 0], 10 - table[:, 2], table[:, 1]])


def test_delong_equals_the_published_ovarian_cancer_example(ovarian):
    y_true, scores = ovarian
    area, covariance = delong_components(y_true, scores)
    np.testing.assert_allclose(area, [0.7361, 0.7258, 0.6478], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.0927, 0.1028, 0.1000], atol=5e-5)


def test_delong_equals_the_definition_pair_by_pair(ovarian):
    y_true, scores = ovarian
    x, y = scores[:, y_true], scores[:, ~y_true]
    psi = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    area, covariance = delong_components(y_true, scores)
    np.testing.assert_allclose(area, psi.mean((1, 2)))
    expected = np.cov(psi.mean(2)) / x.shape[1] + np.cov(psi.mean(1)) / y.shape[1]
    np.testing.assert_allclose(covariance, expected)
    difference, low, high, p_value = delong_test(y_true, scores[0], scores[1])
    error = np.sqrt(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1])
    assert p_value == pytest.approx(2 * norm.sf(abs(difference) / error))
    assert (low + high) / 2 == pytest.approx(difference)


def test_a_perfect_result_still_has_an_interval_that_says_how_few_cases_there_were():
    y_true = np.repeat([False, True], 20)
    low, high = delong(y_true, np.arange(40.0))
    assert 0.85 < low < 0.95
    assert high == 1.0
    assert separated(1.0, 200, 200)[0] > low
    assert wilson(20.0, 20.0)[0] == pytest.approx(0.8389, abs=1e-4)


def test_the_cluster_bootstrap_covers_the_true_roc_area_on_clustered_cases():
    generator = np.random.default_rng(0)
    effect, patients, images, covered, rounds = 1.0, 100, 4, 0, 200
    truth = norm.cdf(effect / np.sqrt(2 * 2.0))  # patient and image noise, variance 1 each
    clusters = np.repeat(np.arange(patients), images)
    y_true = clusters % 2 == 1
    for _ in range(rounds):
        score = effect * y_true + generator.normal(size=patients)[clusters]
        score = score + generator.normal(size=len(clusters))
        draws = bootstrap(
            lambda w, s=score: {"auc": roc_auc_score(y_true, s, w)},
            clusters,
            resamples=400,
            seed=int(generator.integers(2**31)),
        )["auc"]
        low, high, _ = bootstrap_interval(draws)
        covered += low <= truth <= high
    assert 0.92 <= covered / rounds <= 0.98  # 200 rounds: the standard error is 1.5 %


def test_mcnemar_and_holm_equal_hand_computation():
    first, second = np.repeat([True, False], [9, 1]), np.repeat([False, True], [9, 1])
    assert mcnemar_test(first, second) == pytest.approx(2 * 11 / 1024)
    assert holm([0.01, float("nan"), 0.6, 0.4]) == pytest.approx(
        [0.03, np.nan, 0.8, 0.8], nan_ok=True
    )


def test_the_sentence_claims_no_more_than_the_interval():
    names = ("vit", "cnn")
    assert "no evidence of a difference" in sentence(names, "accuracy", (0.1, -0.01, 0.2))
    assert "vit is better" in sentence(names, "accuracy", (0.1, 0.01, 0.2))
    assert "vit is worse" in sentence(names, "brier_score_loss", (0.1, 0.01, 0.2))
    assert "not defined" in sentence(names, "accuracy", (np.nan, np.nan, np.nan))
