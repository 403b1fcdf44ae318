"""Models are held against each other, the training set's majority class and trivial features."""

from dataclasses import replace

import numpy as np
import pytest

from vitrail.evaluation.evaluate import AnalysisPlan, evaluate
from vitrail.metrics.comparison import delong_test, holm, mcnemar_test


@pytest.fixture
def blocks(predict):
    return [
        predict(model, skill=skill) for model, skill in (("vit", 2.5), ("cnn", 0.5), ("mlp", 0.4))
    ]


def test_exact_p_values_stand_in_their_own_fields(blocks, alone):
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=100)
    pairs = {(c.a, c.b, c.metric): c for c in found.comparisons}
    a, b = blocks[0], blocks[1]
    area = pairs["vit", "cnn", "roc_auc_score"]
    scores = np.stack([a.probabilities[:, 1], b.probabilities[:, 1]])
    order = np.argsort(a.case_ids)
    assert area.exact_test == "DeLong"
    assert area.exact_p_value == pytest.approx(
        delong_test(a.y_true[order] == 1, scores[:, order])[3]
    )
    right = [(block.probabilities.argmax(1) == block.y_true) for block in (a, b)]
    accuracy = pairs["vit", "cnn", "accuracy"]
    assert (accuracy.exact_test, accuracy.exact_p_value) == ("McNemar", mcnemar_test(*right))
    assert pairs["vit", "cnn", "brier_score_loss"].exact_test == ""


def test_holm_adjusts_over_all_pairs_of_models_of_one_metric(blocks, alone):
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=100)
    pairs = [c for c in found.comparisons if c.metric == "roc_auc_score"]
    assert len(pairs) == 3
    assert [c.p_value_holm for c in pairs] == pytest.approx(holm([c.p_value for c in pairs]))


def test_a_difference_that_no_resample_changes_has_no_interval(predict, alone):
    block = predict()
    of_truth = np.eye(2)[block.y_true]
    blocks = [replace(block, probabilities=of_truth)]
    blocks += [replace(block, model="coin", probabilities=np.full_like(of_truth, 0.5))]
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=100)
    area = next(pair for pair in found.comparisons if pair.metric == "roc_auc_score")
    assert np.isnan([area.low, area.high, area.p_value]).all()
    assert area.sentence == "vit against coin, ROC AUC: +0.500; no interval can be stated"


def test_the_interval_of_a_difference_and_its_p_value_say_the_same(predict, alone):
    blocks = [replace(predict(seed=s, skill=0.5 + s / 2), model=f"m{s}", seed=0) for s in range(5)]
    found = evaluate(blocks, clusters=alone(blocks), unit="patient", resamples=999)
    known = [pair for pair in found.comparisons if np.isfinite(pair.p_value)]
    sure = [pair for pair in known if pair.p_value < 0.05]
    assert 0 < len(sure) < len(known)
    assert [pair for pair in known if not pair.low <= 0 <= pair.high] == sure
    assert all("percentile" in pair.method for pair in known)
    kept = [pair for pair in sure if pair.p_value_holm < 0.05]
    assert 0 < len(kept) < len(sure)
    words = "but not after Holm's correction for 10 pairs"
    assert [pair for pair in sure if words not in pair.sentence] == kept
    assert not [pair for pair in known if words in pair.sentence and pair not in sure]


def test_the_majority_class_is_that_of_the_training_cases(blocks, alone):
    plan = AnalysisPlan(training_counts={"clear": 10, "nodule": 90})
    found = evaluate(blocks[:1], clusters=alone(blocks), unit="patient", plan=plan, resamples=50)
    (majority,) = [c for c in found.comparisons if c.b == "majority class"]
    own = found.sets["test"]["vit"]["accuracy"].value
    assert majority.difference == pytest.approx(own - blocks[0].y_true.mean())
    alone_ = evaluate(blocks[:1], clusters=alone(blocks), unit="patient", resamples=50)
    assert alone_.comparisons == ()  # neither training nor validation cases are known


@pytest.mark.parametrize(("reached", "verdict"), [(0.55, "sees more"), (0.99, "may see no more")])
def test_a_model_stands_beside_the_strongest_trivial_feature(blocks, alone, reached, verdict):
    audit = [
        {"feature": "file bytes", "roc_auc_score": reached, "low": None, "high": None},
        {"feature": "width", "roc_auc_score": 0.5, "low": 0.4, "high": 0.6},
        {"feature": "height", "roc_auc_score": None, "low": None, "high": None},
    ]
    plan = AnalysisPlan(shortcuts=audit)
    found = evaluate(blocks[:1], clusters=alone(blocks), unit="patient", plan=plan, resamples=50)
    (beside,) = found.shortcuts
    assert beside["feature"] == "file bytes"
    assert verdict in beside["sentence"]
