"""Means over cases with intervals over patients."""

import numpy as np
import pytest

from vitrail.faithfulness.interval import mean_estimates, span, to_plain


def test_the_mean_leaves_out_what_is_not_defined():
    found = mean_estimates({"a": np.array([1.0, np.nan, 3.0])})["a"]
    assert (found.value, found.n) == (2.0, 2)


def test_weights_count_what_each_case_stands_for():
    found = mean_estimates({"a": np.array([1.0, 0.0])}, weights={"a": np.array([3.0, 1.0])})["a"]
    assert found.value == 0.75


def test_cases_of_one_patient_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).random(20), 10)
    alone = mean_estimates({"": values})[""]
    together = mean_estimates({"": values}, clusters=np.repeat(np.arange(20), 10))[""]
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert (alone.n, together.n) == (200, 20)
    assert "bootstrap over patients" in together.method


def test_few_cases_are_said_to_be_few():
    found = mean_estimates({"": np.arange(9.0)})[""]
    assert found.reason == "fewer than 10 images: the interval is a guess"


def test_proportions_that_never_fail_get_wilsons_interval_and_others_none():
    found = mean_estimates({"hits": np.ones(20), "zero": np.zeros(20)}, proportions=["hits"])
    assert found["hits"].low == pytest.approx(0.839, abs=1e-3)
    assert found["hits"].method == "Wilson"
    plain = to_plain(found["zero"])
    assert (plain["low"], plain["reason"]) == (None, "every case gave the same number")


def test_a_number_that_no_case_has_is_null():
    plain = to_plain(mean_estimates({"": np.full(12, np.nan)})[""])
    assert (plain["value"], plain["reason"]) == (None, "no case has this number")


def test_a_number_that_few_of_many_cases_have_is_flagged_like_one_of_few_cases():
    values = np.full(100, np.nan)
    values[:12] = np.random.default_rng(0).random(12)
    many, few = mean_estimates({"": values})[""], mean_estimates({"": values[:12]})[""]
    assert many.method == few.method
    assert "few clusters" in many.method


def test_one_case_has_no_interval_and_none_is_written():
    found = mean_estimates({"": np.array([0.3])})[""]
    assert found.reason == "every case gave the same number"
    assert span(found) == "no interval"
