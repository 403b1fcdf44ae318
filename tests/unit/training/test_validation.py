"""Validation scores are scikit-learn's, and what is not defined is None."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn import metrics

from vitrail.training.validation import (
    indistinguishable_from,
    rank,
    standard_error,
    validation_scores,
)


@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([1, 8]))
def test_the_scores_are_those_of_scikit_learn(seed, classes, levels):
    random = np.random.default_rng(seed)
    y_true = np.concatenate([np.arange(classes), random.integers(0, classes, 20)])
    probabilities = random.integers(1, levels + 2, (len(y_true), classes)) / (levels + 2)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scores = validation_scores(y_true, probabilities)
    hot = np.eye(classes)[y_true]
    decision = probabilities.argmax(axis=1)
    assert scores["roc_auc_score"] == pytest.approx(metrics.roc_auc_score(hot, probabilities))
    assert scores["balanced_accuracy_score"] == pytest.approx(
        metrics.balanced_accuracy_score(y_true, decision)
    )
    assert scores["validation_loss"] == pytest.approx(metrics.log_loss(y_true, probabilities))
    assert scores["classes_predicted"] == len(set(decision))


def test_a_class_that_is_missing_leaves_the_area_undefined():
    scores = validation_scores(np.array([0, 0, 1]), np.full((3, 3), 1 / 3))
    assert scores["roc_auc_score"] is None
    least = indistinguishable_from([scores], "roc_auc_score", y_true=np.array([0, 0, 1]))
    assert rank(scores, "roc_auc_score", least=least)[0] is False


def chosen(rows, y_true, metric="roc_auc_score"):
    """Choose among epochs as the loop does, one after another; return its place."""
    history = [dict(zip((metric, "validation_loss"), row, strict=True)) for row in rows]
    best = 0
    for place in range(1, len(history)):
        least = indistinguishable_from(history[: place + 1], metric, y_true=y_true)
        new, kept = (rank(history[one], metric, least=least) for one in (place, best))
        best = place if new > kept else best
    return best


FEW, MANY = np.repeat([0, 1], 59), np.repeat([0, 1], 5900)


def test_an_early_lucky_area_gives_way_to_a_smaller_loss():
    epochs = [(0.70, 0.68), (0.80, 0.66), (0.77, 0.55), (0.75, 0.60)]
    assert chosen(epochs, FEW) == 2  # with 118 cases .77 cannot be told from .80
    assert chosen(epochs, MANY) == 1


def test_an_area_that_is_really_larger_is_kept_whatever_the_loss():
    assert chosen([(0.70, 0.55), (0.80, 0.66)], FEW) == 1
    assert chosen([(0.80, 0.66), (0.70, 0.55)], FEW) == 0


def test_many_small_steps_down_do_not_add_up():
    falling = [(0.90 - 0.01 * step, 0.6 - 0.01 * step) for step in range(20)]
    assert falling[chosen(falling, FEW)][0] >= 0.87


@pytest.mark.parametrize("metric", ["loss", "balanced_accuracy_score"])
def test_other_metrics_are_compared_alike(metric):
    if metric == "loss":
        assert chosen([(None, 0.6), (None, 0.5), (None, 0.55)], FEW, metric) == 1
    else:
        assert chosen([(0.80, 0.66), (0.78, 0.55), (0.6, 0.5)], FEW, metric) == 1


@pytest.mark.parametrize("area", [0.6, 0.8, 0.95])
def test_the_standard_error_is_that_of_many_draws(area):
    distance = np.sqrt(2) * norm.ppf(area)  # of two normal scores whose area is that
    random = np.random.default_rng(0)
    y_true = np.repeat([0, 1], [40, 60])
    areas = []
    for _ in range(2000):
        score = random.normal(size=100) + distance * y_true
        ranks = rankdata(score)[y_true == 1]
        areas.append((ranks.sum() - 60 * 61 / 2) / (40 * 60))
    error = standard_error(area, "roc_auc_score", y_true=y_true)
    assert error == pytest.approx(np.std(areas), rel=0.15)
    hot = np.eye(2, dtype=int)[y_true]
    assert standard_error(area, "roc_auc_score", y_true=hot) == pytest.approx(error)
