"""What the command line asks of the bench."""

import pytest

from vitrail.errors import InputError
from vitrail.faithfulness.bench import METHODS
from vitrail.faithfulness.suite import PUBLISHED, TESTS
from vitrail.pipeline.bench import Asked


def test_names_stand_with_commas_between_and_empty_words_mean_the_default():
    asked = Asked.read(
        methods="", tests="removal, rise", imputers="blur,noise", cases=7, budget_minutes=0.5
    )
    assert asked == Asked(tests=("removal", "rise"), imputers=("blur", "noise"), cases=7,
                          budget_s=30.0)  # fmt: skip
    assert asked.methods == METHODS


def test_all_tests_are_the_default_ones_and_the_published_areas():
    assert set(Asked.read(tests="all", budget_minutes=None).tests) == {*TESTS, *PUBLISHED}


def test_an_unknown_imputer_is_refused_with_those_that_are_known():
    with pytest.raises(InputError, match="--imputers: 'magic'; known are token_drop, blur"):
        Asked.read(imputers="blur,magic", budget_minutes=None)
