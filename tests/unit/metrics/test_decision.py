"""Operating points are chosen as their rule says; net benefit is counted as in the paper."""

import numpy as np
import pytest

from vitrail.errors import InputError
from vitrail.metrics.decision import OperatingPoint, choose_threshold, net_benefit

Y_TRUE = np.array([False, False, False, True, False, True, True, True])
SCORE = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@pytest.mark.parametrize(
    ("rule", "wanted", "threshold"),
    [
        ("youden", 0.5, 0.55),
        ("sensitivity", 1.0, 0.35),
        ("specificity", 1.0, 0.55),
        ("specificity", 0.75, 0.35),
        ("cost", 10.0, 0.35),
        ("cost", 0.5, 0.55),
        ("fixed", 0.3, 0.3),
    ],
)
def test_each_rule_chooses_its_threshold(rule, wanted, threshold):
    point = OperatingPoint(rule=rule, wanted=wanted)
    assert choose_threshold(Y_TRUE, SCORE, point=point) == pytest.approx(threshold)
    assert str(point)


def test_the_best_threshold_equals_the_best_of_all_thresholds():
    generator = np.random.default_rng(0)
    y_true, score = generator.random(60) < 0.4, generator.random(60).round(1)

    def youden(threshold):
        called = score >= threshold
        return called[y_true].mean() - called[~y_true].mean()

    chosen = choose_threshold(y_true, score, point=OperatingPoint())
    assert youden(chosen) == pytest.approx(max(youden(t) for t in np.linspace(0, 1.1, 221)))


def test_no_threshold_can_be_chosen_without_both_classes_or_from_constant_scores():
    assert np.isnan(choose_threshold(Y_TRUE | True, SCORE, point=OperatingPoint()))
    assert np.isnan(choose_threshold(Y_TRUE, np.full(8, 0.5), point=OperatingPoint()))


@pytest.mark.parametrize(("rule", "wanted"), [("sensitivity", 95.0), ("cost", -1.0)])
def test_an_impossible_wish_is_refused(rule, wanted):
    with pytest.raises(InputError, match="wanted"):
        OperatingPoint(rule=rule, wanted=wanted)


def test_net_benefit_exchanges_false_for_true_positives_at_the_thresholds_odds():
    # At 0.25: called are 0.3 … 0.8, 4 true and 2 false; the odds are 1/3.
    assert net_benefit(Y_TRUE, SCORE, threshold=0.25) == pytest.approx((4 - 2 / 3) / 8)
    weights = np.stack([np.ones(8), np.repeat([0.0, 2.0], 4)])
    np.testing.assert_allclose(
        net_benefit(Y_TRUE, SCORE, weights=weights, threshold=0.25)[1], (6 - 2 / 3) / 8
    )


def test_nobody_is_called_where_every_threshold_costs_more_than_it_finds():
    score = np.array([0.9, 0.8, 0.7])
    point = OperatingPoint(rule="cost", wanted=0.3)
    assert choose_threshold(np.array([False, True, False]), score, point=point) > 0.9
