"""Validation scores are scikit-learn's, and what is not defined is None."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from vitrail.training.validation import rank, validation_scores


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
    assert rank(scores, "roc_auc_score")[0] == float("-inf")


def test_epochs_of_equal_area_are_ranked_by_their_loss():
    y_true = np.array([0, 1])
    sure, unsure = (
        validation_scores(y_true, np.array([[p, 1 - p], [1 - p, p]])) for p in (0.9, 0.6)
    )
    assert rank(sure, "roc_auc_score") > rank(unsure, "roc_auc_score")
    assert rank(sure, "loss") > rank(unsure, "loss")
