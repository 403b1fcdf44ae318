"""Does the map move to the class that is named?"""

import numpy as np
import pytest
import torch

from vitrail.faithfulness.contrast import (
    class_contrast,
    mosaic_pairs,
    mosaic_score,
    mosaics,
    rank_correlation,
    runner_up,
)


def test_the_runner_up_is_the_highest_other_class():
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 9.0]])
    assert runner_up(logits, np.array([0, 0])).tolist() == [2, 2]


def test_correlation_with_a_constant_map_is_not_defined():
    maps = np.arange(8.0).reshape(2, 2, 2)
    assert np.isnan(rank_correlation(maps, np.ones_like(maps))).all()


def exact(model, images, *, targets):
    """The linear model's own shares."""
    patches = torch.nn.functional.avg_pool2d(images.mean(dim=1), 4)
    return (patches * model.weights[torch.from_numpy(targets)]).detach().numpy()


def agnostic(model, images, *, targets):
    return torch.nn.functional.avg_pool2d(images.mean(dim=1), 4).numpy()


def test_a_map_that_knows_no_class_has_no_contrast(linear):
    model, images, _ = linear
    targets = np.array([0, 1, 2, 0, 1])
    assert class_contrast(model, images, method=agnostic, targets=targets) == pytest.approx(0)
    assert (class_contrast(model, images, method=exact, targets=targets) > 0.1).all()


def test_each_mosaic_pairs_two_classes():
    targets = np.array([0, 0, 1, 2])
    pairs = mosaic_pairs(targets)
    assert pairs[:, 0].tolist() == [0, 1, 2, 3]
    assert (targets[pairs[:, 0]] != targets[pairs[:, 1]]).all()
    assert len(mosaic_pairs(np.zeros(3, dtype=int))) == 0


def test_two_mosaics_show_every_half_once_at_its_place(linear):
    _, images, _ = linear
    both = mosaics(images, np.array([[0, 3]]))
    assert both.shape == (2, 1, 3, 16, 16)
    torch.testing.assert_close(both.sum(dim=0)[0], images[0] + images[3])


def test_evidence_on_its_own_picture_scores_one_and_without_class_a_half():
    images = torch.zeros(2, 1, 8, 8)
    images[0] = 1.0

    def bright(model, shown, *, targets):
        return torch.nn.functional.avg_pool2d(shown[:, 0], 2).numpy().astype(float)

    def flat(model, shown, *, targets):
        return np.ones((len(shown), 4, 4))

    targets = np.array([0, 1])
    assert mosaic_score(torch.nn.Identity(), images, method=bright, targets=targets)[0] == 1
    found = mosaic_score(torch.nn.Identity(), images, method=flat, targets=targets)
    assert found.tolist() == [0.5, 0.5]


def test_one_class_alone_has_no_mosaics(linear):
    model, images, _ = linear
    found = mosaic_score(model, images, method=exact, targets=np.zeros(5, dtype=int))
    assert np.isnan(found).all()


def test_a_picture_that_also_shows_the_label_is_no_partner_in_a_mosaic():
    present = np.array([[True, False], [True, True], [False, True]])
    pairs = mosaic_pairs(np.array([0, 1, 1]), present=present, seed=0)
    assert pairs.tolist() == [[0, 2], [1, 0], [2, 0]]
