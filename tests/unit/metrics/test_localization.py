"""Maps against masks."""

import numpy as np
import pytest

from vitrail.metrics.localization import (
    coverage,
    lesion_size,
    mask_patches,
    outside_error,
    pointing_score,
    rank_accuracy_score,
    relevance_mass_score,
    top_iou_score,
)

COVERED = np.array([[1.0, 0.5], [0.0, 0.0]])


def test_coverage_is_the_share_of_each_patch():
    mask = np.zeros((4, 6), dtype=bool)
    mask[:3, :2] = True
    assert coverage(mask, (2, 2)) == pytest.approx(np.array([[4 / 6, 0], [2 / 6, 0]]))


def test_coverage_of_patches_with_fractional_sides_keeps_the_area():
    mask = np.random.default_rng(0).random((7, 10)) > 0.5
    assert coverage(mask, (3, 4)).mean() == pytest.approx(mask.mean())


def test_the_highest_patch_hits_or_misses_and_ties_share():
    assert pointing_score(np.array([[0.0, 2.0], [1.0, 0.0]]), COVERED) == 1.0
    assert pointing_score(np.array([[0.0, 1.0], [2.0, 0.0]]), COVERED) == 0.0
    assert pointing_score(np.ones((2, 2)), COVERED) == 0.5


def test_mass_counts_positive_relevance_inside_by_coverage():
    values = np.array([[2.0, 2.0], [1.0, -9.0]])
    assert relevance_mass_score(values, COVERED) == pytest.approx(3 / 5)
    assert outside_error(values, COVERED) == pytest.approx(2 / 5)


def test_mass_of_a_map_without_positive_values_is_not_defined():
    assert np.isnan(relevance_mass_score(-np.ones((2, 2)), COVERED))


def test_rank_accuracy_and_overlap_of_a_perfect_a_half_and_a_reversed_map():
    perfect = np.array([[3.0, 2.0], [1.0, 0.0]])
    half = np.array([[3.0, 1.0], [2.0, 0.0]])
    assert rank_accuracy_score(perfect, COVERED) == top_iou_score(perfect, COVERED) == 1.0
    assert rank_accuracy_score(half, COVERED) == 0.5
    assert top_iou_score(half, COVERED) == pytest.approx(1 / 3)
    assert rank_accuracy_score(-perfect, COVERED) == top_iou_score(-perfect, COVERED) == 0.0


def test_a_constant_map_has_the_ranks_of_chance():
    assert rank_accuracy_score(np.zeros((2, 2)), COVERED) == 0.5


def test_the_share_that_counts_as_highest_can_be_given():
    assert top_iou_score(np.array([[3.0, 1.0], [2.0, 0.0]]), COVERED, top=0.25) == 0.5


def test_a_tiny_lesion_is_its_most_covered_patch():
    assert mask_patches(np.array([[0.1, 0.02]])).tolist() == [[True, False]]


def test_lesions_are_small_below_one_and_large_above_five_percent():
    sizes = []
    for pixels in (9, 10, 50, 51):
        mask = np.zeros(1000, dtype=bool)
        mask[:pixels] = True
        sizes.append(lesion_size(mask.reshape(10, 100)))
    assert sizes == ["small", "medium", "medium", "large"]
