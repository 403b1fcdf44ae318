"""Every metric equals scikit-learn's, one resample (a row of weights) at a time."""

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.metrics import classification as metric


@st.composite
def samples(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_classes = draw(st.sampled_from([2, 3, 4]))
    num_cases = draw(st.integers(12, 40))
    y_true = np.concatenate(
        [np.arange(num_classes), generator.integers(num_classes, size=num_cases - num_classes)]
    )
    digits = draw(st.sampled_from([1, 8]))  # one digit makes ties
    scores = generator.random((num_cases, num_classes)).round(digits) + 0.05
    weights = 1.0 * generator.integers(0, 4, size=(3, num_cases))
    weights[:, :num_classes] += 1
    return y_true, scores / scores.sum(1, keepdims=True), weights


@settings(max_examples=15, deadline=None)
@given(samples())
def test_decision_metrics_equal_scikit_learn_on_every_resample(sample):
    y_true, probabilities, weights = sample
    decision, classes = probabilities.argmax(1), range(probabilities.shape[1])
    confusion = metric.confusion_matrix(y_true, decision, num_classes=len(classes), weights=weights)
    for row, w in enumerate(weights):
        given_weights = {"sample_weight": w}
        counts = reference.confusion_matrix(y_true, decision, labels=classes, **given_weights)
        np.testing.assert_allclose(confusion[row], counts)
        keep = np.repeat(np.arange(len(y_true)), w.astype(int))
        truth, decided = y_true[keep], decision[keep]
        pairs = [
            (metric.accuracy, reference.accuracy_score(truth, decided)),
            (metric.balanced_accuracy, reference.balanced_accuracy_score(truth, decided)),
            (metric.f1_score, reference.f1_score(truth, decided, average="macro")),
            (metric.f1_weighted, reference.f1_score(truth, decided, average="weighted")),
            (metric.matthews_corrcoef, reference.matthews_corrcoef(truth, decided)),
            (metric.cohen_kappa_score, reference.cohen_kappa_score(truth, decided)),
        ]
        for ours, expected in pairs:
            np.testing.assert_allclose(ours(confusion)[row], expected, atol=1e-12)
        recall = reference.recall_score(truth, decided, labels=classes, average=None)
        positive = reference.precision_score(
            truth, decided, labels=classes, average=None, zero_division=np.nan
        )
        for k in classes:
            np.testing.assert_allclose(metric.sensitivity(confusion, target=k)[row], recall[k])
            np.testing.assert_allclose(metric.precision(confusion, target=k)[row], positive[k])
            np.testing.assert_allclose(
                metric.specificity(confusion, target=k)[row],
                reference.recall_score(truth != k, decided != k),
            )


@settings(max_examples=15, deadline=None)
@given(samples())
def test_rank_and_probability_metrics_equal_scikit_learn_on_every_resample(sample):
    y_true, probabilities, weights = sample
    truth = metric.one_hot(y_true, num_classes=probabilities.shape[1])
    area = metric.macro_average(metric.roc_auc_score, truth, y_score=probabilities, weights=weights)
    average = metric.macro_average(
        metric.average_precision_score, truth, y_score=probabilities, weights=weights
    )
    brier = metric.brier_score_loss(y_true, probabilities, weights=weights)
    loss = metric.log_loss(y_true, probabilities, weights=weights)
    for row, w in enumerate(weights):
        columns = range(probabilities.shape[1])
        expected = [
            reference.roc_auc_score(truth[:, k], probabilities[:, k], sample_weight=w)
            for k in columns
        ]
        np.testing.assert_allclose(area[row], np.mean(expected))
        expected = [
            reference.average_precision_score(truth[:, k], probabilities[:, k], sample_weight=w)
            for k in columns
        ]
        np.testing.assert_allclose(average[row], np.mean(expected))
        scores = probabilities[:, 1] if len(columns) == 2 else probabilities
        np.testing.assert_allclose(
            brier[row],
            reference.brier_score_loss(y_true, scores, sample_weight=w),
        )
        expected = reference.log_loss(y_true, probabilities, sample_weight=w)
        np.testing.assert_allclose(loss[row], expected)


def test_a_metric_without_its_class_is_nan_and_not_zero():
    nobody = np.array([False, False])
    assert np.isnan(metric.roc_auc_score(nobody, np.array([0.1, 0.2])))
    assert np.isnan(metric.precision(np.array([[2.0, 0.0], [1.0, 0.0]]), target=1))


def test_predictive_values_follow_bayes():
    positive, negative = metric.predictive_values(0.8, 0.9, prevalence=0.5)
    assert positive == pytest.approx(0.4 / 0.45)
    assert negative == pytest.approx(0.45 / 0.55)
