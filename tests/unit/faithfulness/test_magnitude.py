"""Saliences against what hiding costs."""

import numpy as np
import pytest

from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.magnitude import saco_scores, sensitivity_n_scores

BLACK = Hiding(imputer="black", black=(0.0, 0.0, 0.0))
TARGETS = np.ones(5, dtype=int)


def test_a_linear_models_own_shares_correlate_fully_and_reversed_ones_negatively(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, 3 * perfect, -perfect, np.ones_like(perfect)])
    found = sensitivity_n_scores(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert found[:2] == pytest.approx(1)
    assert found[2] == pytest.approx(-1)
    assert found[3] == pytest.approx(0)


def test_saco_is_one_for_the_right_order_and_minus_one_for_the_reversed(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, -perfect, np.ones_like(perfect)])
    found = saco_scores(model, images, maps=maps, targets=TARGETS, groups=4, hiding=BLACK)
    assert found[0].min() > 0.5
    assert found[1].max() < 0
    assert found[2] == pytest.approx(0)


def test_saco_sees_no_factor(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, 100 * perfect])
    found = saco_scores(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert found[0] == pytest.approx(found[1])
