"""Planted pictures, and how explainers are judged by them; no training."""

import numpy as np
import pytest
import torch

from vitrail.errors import InputError, TrainingError
from vitrail.faithfulness.conformance import call_explainer, conformance, judge
from vitrail.faithfulness.mistakes import known_mistakes, recognize
from vitrail.faithfulness.planted import (
    GRID,
    MOTIFS,
    PATCH_PX,
    motif_tiles,
    plant,
    tiny_vit,
    train_tiny_vit,
)


@pytest.fixture(scope="module")
def pictures():
    return plant(40, seed=1)


@pytest.fixture(scope="module")
def model():
    return tiny_vit(seed=0)


def test_motifs_cannot_be_told_by_brightness_or_contrast():
    tiles = motif_tiles()
    assert tiles.mean(axis=(1, 2)) == pytest.approx(0)
    assert tiles.std(axis=(1, 2)) == pytest.approx(1)


def test_causes_are_squares_that_do_not_touch_and_labels_say_so(pictures):
    causes = pictures.causes.numpy()
    assert (causes.any(axis=(2, 3)) == pictures.present.numpy()).all()
    assert causes.sum(axis=1).max() == 1
    sizes = {
        int(causes[case, motif].sum()) for case, motif in np.argwhere(pictures.present.numpy())
    }
    assert sizes == {1, 4, 9}


def test_the_motif_is_in_the_pixels_of_its_cause(pictures):
    tiles = np.tile(motif_tiles(), (1, GRID, GRID))
    images = pictures.images[:, 0].numpy()
    for case, motif in np.argwhere(pictures.present.numpy()):
        pixels = np.kron(pictures.causes[case, motif].numpy(), np.ones((PATCH_PX, PATCH_PX)))
        likeness = [(images[case] * tile * pixels).sum() / pixels.sum() for tile in tiles]
        assert int(np.argmax(likeness)) == motif


def test_the_largest_motif_can_be_one_patch():
    causes = plant(30, seed=2, largest=1).causes
    assert set(causes.flatten(2).sum(dim=2).unique().tolist()) == {0, 1}


def test_the_same_seed_gives_the_same_pictures(pictures):
    assert torch.equal(plant(40, seed=1).images, pictures.images)


def test_the_causes_themselves_are_a_perfect_map(pictures):
    row = judge("truth", pictures.causes.numpy().swapaxes(0, 1).astype(float), pictures=pictures)
    assert row.conforms
    assert row.pointing.value == row.average_precision.value == row.right_class.value == 1.0
    assert row.pointing.low < 1.0


def test_one_map_for_all_classes_scores_a_half_in_right_class(pictures):
    same = np.random.default_rng(0).random((1, 40, GRID, GRID)).repeat(len(MOTIFS), axis=0)
    row = judge("agnostic", same, pictures=pictures)
    assert row.right_class.value == pytest.approx(0.5)
    assert not row.conforms


def test_a_constant_map_points_by_the_area_of_the_motif(pictures):
    row = judge("constant", np.ones((4, 40, GRID, GRID)), pictures=pictures)
    areas = pictures.causes.sum(dim=(2, 3))[pictures.present] / GRID**2
    assert row.pointing.value == pytest.approx(float(areas.mean()))


def test_a_known_mistake_is_recognized_by_name_whatever_its_scale(model, pictures):
    mistakes = known_mistakes(model, pictures.images)
    for name, maps in mistakes.items():
        assert recognize(7 * maps + 1, mistakes) == name
    assert recognize(np.random.default_rng(0).random((4, 40, 8, 8)), mistakes) == ""


def test_constant_maps_neither_hide_a_known_mistake_nor_are_one(model, pictures):
    mistakes = known_mistakes(model, pictures.images)
    name, maps = next(iter(mistakes.items()))
    blank = maps.copy()
    blank[:, 0] = 0
    assert recognize(blank, mistakes) == name
    assert recognize(np.zeros_like(maps), mistakes) == ""


def test_anyones_explainer_is_called_for_each_class(model, pictures):
    def brightness(network, images, motif):
        return torch.nn.functional.avg_pool2d(images[:, 0], PATCH_PX) + motif

    rows = conformance(model, pictures, methods=["rollout"], explainers={"mine": brightness})
    assert {row.name for row in rows[:2]} == {"rollout", "mine"}
    assert [row.name for row in rows[2:]] == ["random", "blurred_random", "center", "edges"]
    assert all(row.is_control for row in rows[2:])
    assert rows[0].to_json()["right_class"]["value"] == 0.5


def test_an_explainer_that_returns_another_shape_is_told_what_is_needed(model, pictures):
    with pytest.raises(InputError, match=r"it returned \(40, 64, 64\); one finite map \[8 8\]"):
        call_explainer(lambda m, images, c: images[:, 0], model, pictures=pictures)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ("amount", "of the variance of the true logits of new pictures is explained"),
        ("presence", "of the labels of new pictures are right"),
    ],
)
def test_a_model_that_has_not_learned_its_task_is_refused(evidence, said):
    with pytest.raises(TrainingError, match=said):
        train_tiny_vit(steps=2, evidence=evidence)


def test_every_patch_of_a_motif_adds_one_half_to_its_true_logit(pictures):
    patches = pictures.causes.sum(dim=(2, 3))
    chance = pictures.labels("amount")
    assert torch.allclose(chance, torch.sigmoid((patches - 4) / 2))
    assert torch.equal(chance.logit().ge(0.1), patches > 4)
    assert torch.equal(pictures.labels("presence"), (patches > 0).float())
