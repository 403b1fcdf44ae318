"""How much too good the best of many looks."""

import numpy as np
import pytest

from vitrail.tuning.optimism import optimism


def configurations(count, *, skill, cases=80):
    generator = np.random.default_rng(count)
    truth = np.arange(cases) % 2
    scores = [generator.normal(size=cases) + skill * truth for _ in range(count)]
    probabilities = [1 / (1 + np.exp(-one)) for one in scores]
    return truth, [np.stack([1 - one, one], axis=1) for one in probabilities]


def test_the_best_of_many_that_know_nothing_is_expected_to_know_nothing():
    truth, said = configurations(40, skill=0.0)
    found = optimism(truth, said, clusters=np.arange(80))
    assert found["chosen"] > 0.6
    assert found["corrected"] == pytest.approx(0.5, abs=0.08)
    assert found["optimism"] == pytest.approx(found["chosen"] - found["corrected"])


def test_one_configuration_alone_is_hardly_too_good():
    truth, said = configurations(1, skill=1.5, cases=200)
    found = optimism(truth, said, clusters=np.arange(200))
    assert abs(found["optimism"]) < 0.02


def test_without_both_classes_nothing_is_said():
    _, said = configurations(3, skill=1.0)
    assert optimism(np.zeros(80, dtype=int), said, clusters=np.arange(80)) is None
