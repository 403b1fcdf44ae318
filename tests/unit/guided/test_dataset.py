import numpy as np
import pytest
import torch

from vitrail.data.augment import Augmentation
from vitrail.data.loader import PictureDataset
from vitrail.guided.dataset import GuidedDataset, MapScale
from vitrail.records import Case, Preprocessing, VolumeView

UNIT = MapScale(0.0, 1.0, 0.0, 1.0)


class Windows(PictureDataset):
    """Two cases through one window each; pixel (r, c) of case n is drawn from seed n."""

    def __init__(self, seed=0):
        self.cases = tuple(Case(case_id=name, path=name, label="x") for name in "ab")
        self.labels = (0, 1)
        self.preprocessing = Preprocessing(
            image_size=(24, 24), channels=1, mean=(0.0,), std=(1.0,), volume=VolumeView(tile_px=8)
        )
        self.seed = seed

    def pixels(self, index):
        drawn = np.random.default_rng([self.seed, index]).integers(0, 256, size=(1, 24, 24))
        return drawn.astype(np.uint8)


def test_a_map_lies_on_its_picture_pixel_by_pixel_whatever_moves_them():
    windows = Windows()
    maps = np.stack([windows.pixels(index) / 255 for index in range(2)]).astype(np.float32)
    moving = Augmentation(
        name="ct",
        reason="",
        mirror=True,
        quarter_turns=True,
        rotation_deg=20.0,
        shift=0.1,
        scale=0.2,
    )
    shown = GuidedDataset([windows], maps, scale=UNIT, augment=moving)
    still = GuidedDataset([windows], maps, scale=UNIT)[0][0]
    torch.testing.assert_close(still[0], still[1])
    for epoch in range(8):
        shown.set_epoch(epoch)
        image, label, index = shown[1]
        assert (label, index) == (1, 1)
        torch.testing.assert_close(image[0], image[1], atol=1e-5, rtol=0)


def test_tiles_stay_in_their_places_when_they_turn():
    windows = Windows()
    map_ = np.kron(np.arange(9).reshape(3, 3) / 9, np.ones((8, 8))).astype(np.float32)
    maps = np.stack([map_[None]] * 2)
    turning = Augmentation(name="ct", reason="", mirror=True, quarter_turns=True)
    shown = GuidedDataset([windows], maps, scale=UNIT, augment=turning)
    for epoch in range(6):
        shown.set_epoch(epoch)
        torch.testing.assert_close(shown[0][0][1], torch.from_numpy(map_))


def test_brightness_changes_the_picture_and_never_the_map():
    windows = Windows()
    maps = np.full((2, 1, 3, 3), 0.5, dtype=np.float32)
    bright = Augmentation(name="ct", reason="", brightness=0.5)
    shown = GuidedDataset([windows], maps, scale=UNIT, augment=bright)
    still = GuidedDataset([windows], maps, scale=UNIT)
    assert (shown[0][0][0] - still[0][0][0]).abs().max() > 0.05
    torch.testing.assert_close(shown[0][0][1], still[0][0][1])


def test_the_window_of_evaluation_is_the_one_that_is_asked_for():
    maps = np.zeros((2, 2, 3, 3), dtype=np.float32)
    windows = [Windows(0), Windows(1)]
    for number, window in enumerate(windows):
        image = GuidedDataset(windows, maps, scale=UNIT, window=number)[0][0]
        torch.testing.assert_close(image[0], torch.from_numpy(window.pixels(0)[0]) / 255)


def test_the_scale_is_learned_once_and_holds_for_other_maps():
    training = np.random.default_rng(0).normal(5, 2, size=(40, 1, 6, 6)).astype(np.float32)
    scale = MapScale.learn(training)
    unit = scale.to_unit(torch.from_numpy(training))
    assert scale.normalize(unit).mean() == pytest.approx(0, abs=1e-4)
    assert scale.normalize(unit).std() == pytest.approx(1, abs=1e-2)
    other = torch.tensor([scale.low - 9, (scale.low + scale.high) / 2, scale.high + 9])
    torch.testing.assert_close(scale.to_unit(other), torch.tensor([0.0, 0.5, 1.0]))


def test_an_empty_map_channel_is_zero_and_finite():
    scale = MapScale.learn(np.zeros((3, 1, 2, 2), dtype=np.float32))
    normalized = scale.normalize(scale.to_unit(torch.zeros(2, 2)))
    assert not normalized.any()
