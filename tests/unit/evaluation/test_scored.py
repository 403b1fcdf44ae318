"""Decisions come from validation cases, and folds join into one run."""

from dataclasses import replace

import numpy as np
import pytest

from vitrail.errors import DataError
from vitrail.evaluation.scored import Tuning, pool_folds, same_cases, score, tuned
from vitrail.metrics.decision import OperatingPoint
from vitrail.records import Predictions

POSITIVE = np.array([0.1, 0.3, 0.2, 0.4])


def predictions(names="abcd", *, fold=0, y_true=(0, 1, 0, 1)):
    both = np.stack([1 - POSITIVE, POSITIVE], axis=1)
    classes = ("clear", "nodule")
    return Predictions("vit", 0, fold, "test", classes, tuple(names), np.array(y_true), both)


def run(said):
    return score(said, tuning=Tuning(threshold=0.25), positive=1)


def test_the_threshold_comes_from_validation_cases_and_is_a_half_without_them():
    chosen = tuned(predictions(), point=OperatingPoint(), positive=1)
    assert chosen.threshold == pytest.approx(0.25)
    assert chosen.temperature > 0
    assert len(chosen.scale) == len(chosen.shift) == 2
    without = tuned(None, point=OperatingPoint(), positive=1)
    assert (without.threshold, without.temperature, without.scale) == (0.5, None, None)
    fixed = OperatingPoint(rule="fixed", wanted=0.2)
    assert tuned(None, point=fixed, positive=1).threshold == 0.2


def test_the_rule_that_is_told_is_the_one_that_was_followed():
    fixed = OperatingPoint(rule="fixed", wanted=0.2)
    assert tuned(predictions(), point=OperatingPoint(), positive=1).rule.startswith("Youden")
    one_class = tuned(predictions(y_true=(1, 1, 1, 1)), point=OperatingPoint(), positive=1)
    assert one_class.threshold == 0.5
    assert one_class.rule == "0.5, validation cases of one class or one score choose none"
    assert tuned(None, point=fixed, positive=1).rule == "fixed 0.2"
    assert tuned(None, point=OperatingPoint(), positive=1).rule == "0.5"


def test_a_wanted_sensitivity_is_kept_on_probabilities_that_sum_to_one_but_for_rounding():
    said = predictions(y_true=(1, 1, 0, 0))
    said = replace(said, probabilities=said.probabilities * 1.0005)
    wanted = OperatingPoint(rule="sensitivity", wanted=1.0)
    found = score(said, tuning=tuned(said, point=wanted, positive=1), positive=1)
    assert found.sample.decision[:2].tolist() == [1, 1]


def test_cases_are_scored_in_sorted_order():
    found = run(predictions("dcba"))
    assert found.case_ids == tuple("abcd")
    assert found.sample.decision.tolist() == [1, 0, 1, 0]
    assert found.sample.y_true.tolist() == [1, 0, 1, 0]


def test_folds_that_tested_other_cases_join_into_one_run():
    first, second = run(predictions("ahcd")), run(predictions("bfge", fold=1))
    (joined,) = pool_folds([first, second])
    assert joined.case_ids == tuple("abcdefgh")
    assert joined.sample.probabilities[1, 1] == pytest.approx(0.1)
    assert len(pool_folds([first, run(predictions("ahcd", fold=1))])) == 2


def test_folds_that_were_dealt_twice_join_into_a_run_each():
    once = [run(predictions("ahcd")), run(predictions("bfge", fold=1))]
    again = [run(predictions("abcd", fold=2)), run(predictions("efgh", fold=3))]
    joined = pool_folds([*once, *again])
    assert [one.case_ids for one in joined] == [tuple("abcdefgh")] * 2
    lacking = pool_folds([*once, again[0]])
    assert len(lacking) == 3


def test_models_of_other_cases_or_other_labels_cannot_be_compared():
    with pytest.raises(DataError, match="differ in 2 cases, like d"):
        same_cases([run(predictions()), run(predictions("abcz"))], "test")
    with pytest.raises(DataError, match="differ in the label of 1 cases, like b"):
        same_cases([run(predictions()), run(predictions(y_true=(0, 0, 0, 1)))], "test")
