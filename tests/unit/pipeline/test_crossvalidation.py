"""Folds in a run: who explains which case, and what folds say together."""

import numpy as np
import pytest

from vitrail.pipeline.crossvalidation import Folds, together
from vitrail.records import Predictions

DEALT = Folds(
    (
        {"a": "test", "b": "validation", "c": "train"},
        {"a": "train", "b": "test", "c": "validation"},
        {"a": "validation", "b": "train", "c": "test"},
    ),
    {"a": "a", "b": "b", "c": "c"},
)
GIVEN = Folds(
    (
        {"a": "test", "b": "validation", "c": "train"},
        {"a": "test", "b": "train", "c": "validation"},
    ),
    {},
)


def explained(folds, *, everything=False):
    return [
        [name for name, part in folds.explained(number, everything=everything).items() if part]
        for number in range(len(folds.each))
    ]


def test_each_case_is_explained_once_by_the_fold_that_tested_it():
    assert explained(DEALT) == [["a"], ["b"], ["c"]]
    assert explained(GIVEN) == [["a"], []]
    assert explained(GIVEN, everything=True) == [["a", "b"], ["c"]]


def test_a_shared_test_part_is_told_from_one_that_goes_round():
    assert GIVEN.share_test
    assert not DEALT.share_test
    assert not Folds(GIVEN.each[:1], {}).share_test
    assert DEALT.tested == DEALT.trained == {"a", "b", "c"}


def test_folds_that_share_a_case_say_their_mean_together():
    def said(fold, names, rows):
        return Predictions(
            "vit", 0, fold, "test", ("no", "yes"), names, np.zeros(len(names), int), np.array(rows)
        )

    first = said(0, ("a", "b"), [[0.2, 0.8], [0.4, 0.6]])
    second = said(1, ("b", "a"), [[0.6, 0.4], [0.4, 0.6]])
    (mean,) = together([first, second])
    assert (mean.fold, mean.case_ids) == (0, ("a", "b"))
    assert mean.probabilities == pytest.approx(np.array([[0.3, 0.7], [0.5, 0.5]]))
