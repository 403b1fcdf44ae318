import numpy as np
import pytest
import torch

from vitrail.data.augment import preset
from vitrail.data.stacks import VolumeDataset
from vitrail.data.volume import Volume, write_nifti
from vitrail.errors import InputError
from vitrail.records import Case, Preprocessing, VolumeView


@pytest.fixture
def scans(tmp_path):
    """Write three volumes; every voxel of slice z of volume n holds (10 z + n) in per mille."""
    cases = []
    for number in range(3):
        values = np.arange(30, dtype=np.float32)[:, None, None] * 10 + number
        affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
        volume = Volume(np.broadcast_to(values, (30, 16, 16)).copy(), affine)
        write_nifti(tmp_path / f"{number}.nii.gz", volume)
        mask = np.zeros(volume.values.shape, dtype=np.float32)
        mask[8:20, 4:8, 4:8] = 1
        write_nifti(tmp_path / f"mask{number}.nii.gz", Volume(mask, affine))
        case = Case(
            case_id=str(number),
            path=f"{number}.nii.gz",
            label="ab"[number % 2],
            mask=f"mask{number}.nii.gz",
        )
        cases.append(case)
    return tmp_path, cases


def dataset(scans, *, augment=None, seed=0, channels=1, size=24, cache_dir=None, **view):
    root, cases = scans
    preprocessing = Preprocessing(
        image_size=(size, size),
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        volume=VolumeView(**{"tile_px": 8, **view}),
    )
    return VolumeDataset(
        cases,
        root,
        preprocessing=preprocessing,
        classes=("a", "b"),
        augment=None if augment is None else preset(augment),
        seed=seed,
        cache_dir=cache_dir,
    )


def test_an_item_is_the_middle_montage_its_label_and_its_index(scans):
    image, label, index = dataset(scans)[1]
    assert image.shape == (1, 24, 24)
    assert (label, index) == (1, 1)
    middles = image[0, 4::8, 4::8].flatten()
    assert (middles.diff() > 0).all()


def test_training_draws_a_window_by_seed_epoch_and_case(scans):
    first, again = dataset(scans, augment="none"), dataset(scans, augment="none")
    starts = []
    for epoch in range(12):
        first.set_epoch(epoch)
        again.set_epoch(epoch)
        starts.append(first.start(0))
        torch.testing.assert_close(first[0][0], again[0][0])
    assert len(set(starts)) > 4
    assert min(starts) >= 0
    assert max(starts) <= 21


def test_around_a_mask_windows_stay_within_it(scans):
    drawn = dataset(scans, augment="none", crop="mask")
    starts = set()
    for epoch in range(30):
        drawn.set_epoch(epoch)
        starts.add(drawn.start(2))
    assert starts == {8, 9, 10, 11}


def test_votes_show_every_evaluation_window_once(scans):
    shown = dataset(scans, votes=3)
    images = [one[0][0] for one in shown.votes()]
    assert len(images) == 3
    torch.testing.assert_close(images[0], shown[0][0])
    assert images[1].mean() < images[0].mean() < images[2].mean()


def test_augmentation_moves_each_tile_alike_and_stays_within_it(scans):
    root, _cases = scans
    values = np.zeros((30, 16, 16), dtype=np.float32)
    values[:, 2:6, 10:14] = 1000
    write_nifti(root / "0.nii.gz", Volume(values, np.eye(4)[[2, 1, 0, 3]]))
    drawn = dataset(scans, augment="histology")
    for epoch in range(6):
        drawn.set_epoch(epoch)
        picture = drawn[0][0][0]
        tiles = picture.reshape(3, 8, 3, 8).swapaxes(1, 2).reshape(9, 8, 8)
        for tile in tiles[1:]:
            torch.testing.assert_close(tile, tiles[0])


def test_a_dataset_comes_back_from_its_cache_without_the_files(scans, tmp_path):
    root, _cases = scans
    fresh = dataset(scans, cache_dir=tmp_path / "cache", crop="mask")
    image = fresh[0][0]
    assert len(list((tmp_path / "cache").glob("??/*"))) == 1
    cached = dataset(scans, cache_dir=tmp_path / "cache", crop="mask")
    torch.testing.assert_close(cached[0][0], image)
    np.testing.assert_array_equal(cached.stack(0).mask, fresh.stack(0).mask)
    np.testing.assert_array_equal(cached.stack(0).grid_affine, fresh.stack(0).grid_affine)
    changed = Volume(np.ones((30, 16, 16), dtype=np.float32), np.eye(4)[[2, 1, 0, 3]])
    changed.values[15:] = 7
    write_nifti(root / "0.nii.gz", changed)
    other = dataset(scans, cache_dir=tmp_path / "cache", crop="mask")
    assert (other[0][0] - image).abs().max() > 0.1


def test_a_damaged_cache_file_is_made_anew(scans, tmp_path):
    fresh = dataset(scans, cache_dir=tmp_path / "cache")
    image = fresh[0][0]
    (stored,) = (tmp_path / "cache").glob("??/*")
    stored.write_bytes(stored.read_bytes()[:100])
    torch.testing.assert_close(dataset(scans, cache_dir=tmp_path / "cache")[0][0], image)


@pytest.mark.parametrize(
    ("mode", "channels", "size"), [("channels", 3, 8), ("montage", 3, 24), ("projection", 1, 12)]
)
def test_each_mode_fills_the_models_channels_and_size(scans, mode, channels, size):
    image = dataset(scans, mode=mode, channels=channels, size=size)[0][0]
    assert image.shape == (channels, size, size)


def test_the_mask_lies_where_the_model_sees_it(scans):
    shown = dataset(scans, crop="mask", margin_mm=4.0)
    mask = shown.mask(0)
    assert mask.shape == (24, 24)
    assert mask[2:6, 2:6].any()
    assert not mask[0].any()


def test_a_case_without_a_mask_cannot_be_cropped_around_it(scans):
    root, _cases = scans
    bare = Case(case_id="bare", path="0.nii.gz", label="a")
    with pytest.raises(InputError, match=r"0\.nii\.gz: no mask"):
        dataset((root, [bare]), crop="mask")[0]
