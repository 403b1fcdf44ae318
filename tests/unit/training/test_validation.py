"""Validation scores are scikit-learn's, and what is not defined is None."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics

from vitrail.metrics.interval import delong_components
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
    least = indistinguishable_from([scores], "roc_auc_score")
    assert rank(scores, "roc_auc_score", least=least)[0] is False


def chosen(rows, error, metric="roc_auc_score"):
    """Choose among epochs as the loop does, one after another; return its place."""
    names = (metric, "validation_loss", "standard_error")
    history = [dict(zip(names, (*row, error), strict=True)) for row in rows]
    best = 0
    for place in range(1, len(history)):
        least = indistinguishable_from(history[: place + 1], metric)
        new, kept = (rank(history[one], metric, least=least) for one in (place, best))
        best = place if new > kept else best
    return best


FEW, MANY = 0.041, 0.004
"""Standard errors of an area of .8 by 118 cases and by 11800."""


def test_an_early_lucky_area_gives_way_to_a_smaller_loss():
    epochs = [(0.70, 0.68), (0.80, 0.66), (0.77, 0.55), (0.75, 0.60)]
    assert chosen(epochs, FEW) == 2  # .77 cannot be told from .80
    assert chosen(epochs, MANY) == 1


def test_an_area_that_is_really_larger_is_kept_whatever_the_loss():
    assert chosen([(0.70, 0.55), (0.80, 0.66)], FEW) == 1
    assert chosen([(0.80, 0.66), (0.70, 0.55)], FEW) == 0


def test_an_error_that_cannot_be_known_leaves_the_choice_to_the_loss():
    assert chosen([(0.80, 0.66), (0.60, 0.55)], None) == 1


def test_many_small_steps_down_do_not_add_up():
    falling = [(0.90 - 0.01 * step, 0.6 - 0.01 * step) for step in range(20)]
    assert falling[chosen(falling, FEW)][0] >= 0.85


@pytest.mark.parametrize("metric", ["loss", "balanced_accuracy_score"])
def test_other_metrics_are_compared_alike(metric):
    if metric == "loss":
        assert chosen([(None, 0.6), (None, 0.5), (None, 0.55)], None, metric) == 1
    else:
        assert chosen([(0.80, 0.66), (0.78, 0.55), (0.6, 0.5)], FEW, metric) == 1


def drawn(random, *, patients, slices, of_patient):
    """Draw slices of patients of two classes; ``of_patient`` is the share that slices share."""
    y_true = np.repeat(np.arange(patients) % 2, slices)
    person = np.repeat(random.normal(size=patients), slices)
    noise = np.sqrt(of_patient) * person + np.sqrt(1 - of_patient) * random.normal(size=len(y_true))
    likely = norm.cdf(noise + 1.2 * y_true - 0.6)
    names = np.repeat(np.arange(patients), slices).astype(str).tolist()
    return y_true, np.stack([1 - likely, likely], axis=1), names


@pytest.mark.parametrize("metric", ["roc_auc_score", "balanced_accuracy_score"])
@pytest.mark.parametrize(("slices", "of_patient"), [(1, 0.0), (8, 0.0), (8, 0.8)])
def test_the_standard_error_is_that_of_many_draws_of_patients(metric, slices, of_patient):
    random = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        y_true, both, names = drawn(random, patients=60, slices=slices, of_patient=of_patient)
        values.append(validation_scores(y_true, both)[metric])
        errors.append(standard_error(y_true, both, metric=metric, clusters=names))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def test_slices_of_a_patient_are_not_taken_for_as_many_patients():
    y_true, both, names = drawn(np.random.default_rng(1), patients=40, slices=10, of_patient=0.9)
    how = {"y_true": y_true, "probabilities": both, "metric": "roc_auc_score"}
    slices = [str(place) for place in range(len(y_true))]
    assert standard_error(**how, clusters=names) > 2 * standard_error(**how, clusters=slices)


def test_of_cases_each_by_itself_the_error_is_delongs():
    y_true, both, names = drawn(np.random.default_rng(2), patients=50, slices=1, of_patient=0.0)
    _, ((variance,),) = delong_components(y_true == 1, both[None, :, 1])
    error = standard_error(y_true, both, metric="roc_auc_score", clusters=names)
    assert error == pytest.approx(np.sqrt(variance), rel=0.03)
    hot = np.eye(2, dtype=np.int64)[y_true]
    assert standard_error(hot, both, metric="roc_auc_score", clusters=names) == pytest.approx(error)


def test_one_patient_tells_no_error_and_a_loss_has_none():
    y_true, both, _ = drawn(np.random.default_rng(3), patients=4, slices=1, of_patient=0.0)
    assert standard_error(y_true, both, metric="roc_auc_score", clusters=["one"] * 4) is None
    assert standard_error(y_true, both, metric="loss", clusters=list("abcd")) is None


def test_a_score_that_is_not_defined_has_no_error():
    both, names = np.full((3, 2), 0.5), list("abc")
    assert (
        standard_error(np.zeros(3, np.int64), both, metric="roc_auc_score", clusters=names) is None
    )
    hot = np.eye(3, 2, dtype=np.int64)
    assert standard_error(hot, both, metric="balanced_accuracy_score", clusters=names) is None
