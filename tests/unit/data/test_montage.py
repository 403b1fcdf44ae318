import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.montage import compose, decompose, make_stack
from vitrail.data.volume import Volume, write_nifti
from vitrail.errors import InputError
from vitrail.records import VolumeView

MODES = ("montage", "slice", "projection", "channels")


def scan(shape=(12, 20, 16), angle=0.0, spacing=(2.0, 0.8, 0.7), seed=0):
    """Return a volume of random values, turned about the patient's long axis."""
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = (-120, -80, 40)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 400 - 500
    return Volume(values, affine, "scan")


def blob(volume, place, radius=2):
    """Return a mask around one voxel."""
    index = np.argwhere(np.ones(volume.values.shape))
    near = np.abs(index - np.array(place)).max(axis=1) <= radius
    return Volume(near.reshape(volume.values.shape).astype(np.float32), volume.affine, "mask")


def view(**choices):
    return VolumeView(**{"tile_px": 20, "window": "lung", **choices})


views = st.builds(
    view,
    mode=st.sampled_from(MODES),
    grid=st.integers(1, 4),
    stride=st.integers(1, 3),
    tile_px=st.integers(3, 24),
    orientation=st.sampled_from(["SPL", "SAR", "AIL", "RPS"]),
    crop=st.sampled_from(["whole", "mask"]),
    margin_mm=st.floats(0, 30),
    spacing_mm=st.sampled_from([None, (1.0, 1.0, 1.0), (3.0, 0.9, 0.9)]),
)


@settings(max_examples=60, deadline=None)
@given(chosen=views, angle=st.floats(-0.6, 0.6), data=st.data())
def test_every_pixel_of_every_picture_goes_to_the_patient_and_comes_back(chosen, angle, data):
    volume = scan((7, 9, 8), angle)
    stack = make_stack(volume, chosen, mask=blob(volume, (3, 4, 4), 1))
    low, high = stack.starts()
    placement = stack.placement(data.draw(st.integers(low, high)))
    size = chosen.picture_px
    pixels = np.argwhere(np.ones((size, size))).astype(float)
    mm = placement.to_mm(pixels)
    again = placement.to_pixel(mm)
    assert not np.isnan(again).any()
    np.testing.assert_allclose(placement.to_mm(again)[:, :2], mm[:, :2], atol=1e-6)
    if not placement.repeated:
        np.testing.assert_allclose(again, pixels, atol=1e-6)
    # The affine of the tiles agrees with that of the volume: the crop's edges lie where they were.
    np.testing.assert_allclose(volume.to_mm(volume.to_index(mm)), mm, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(chosen=views, seed=st.integers(0, 9))
def test_cutting_a_map_into_tiles_undoes_laying_them_out(chosen, seed):
    volume = scan((9, 9, 9), seed=seed)
    stack = make_stack(volume, chosen, mask=blob(volume, (4, 4, 4)))
    start = stack.starts()[0]
    picture = stack.picture(start).max(axis=0).astype(np.float64)
    tiles = decompose(picture, stack.placement(start))
    if chosen.mode == "channels":
        assert (tiles == picture).all()
    else:
        np.testing.assert_array_equal(compose(tiles, chosen).max(axis=0), picture)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", ["SPL", "SAR", "PIL"])
def test_a_marked_voxel_comes_back_at_its_mm(tmp_path, mode, orientation):
    volume = scan((20, 20, 20), angle=0.2, spacing=(1.0, 1.0, 1.0))
    marked = (9, 12, 7)
    volume.values[:] = -1000
    volume.values[marked] = 100
    stack = make_stack(volume, view(mode=mode, orientation=orientation))
    # Of all windows, one whose picture shows the voxel brightest: there the map has its peak.
    starts = range(stack.starts()[0], stack.starts()[1] + 1)
    start = max(starts, key=lambda one: int(stack.picture(one).max()))
    picture = stack.picture(start).max(axis=0)
    assert picture.max() > 240
    pixel = np.array([np.unravel_index(picture.argmax(), picture.shape)], dtype=float)
    there = volume.to_mm(np.array([marked], dtype=float))
    if mode != "channels":
        np.testing.assert_allclose(stack.placement(start).to_mm(pixel), there, atol=1e-5)
    heat = stack.to_volume((picture == picture.max()).astype(np.float32)[None], [start])
    assert heat.values[marked] == pytest.approx(1, abs=1e-3)
    write_nifti(tmp_path / "heat.nii.gz", heat)
    write_nifti(tmp_path / "scan.nii.gz", volume)
    foreign, under = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("heat", "scan"))
    assert foreign.shape == under.shape
    np.testing.assert_array_equal(foreign.affine, under.affine)
    hottest = np.unravel_index(foreign.get_fdata().argmax(), foreign.shape)
    if mode != "channels":
        point = foreign.affine @ [*hottest, 1] * [-1, -1, 1, 1]
        np.testing.assert_allclose(point[:3], there[0], atol=1e-3)


def test_a_montage_has_its_slices_row_by_row_from_the_middle():
    volume = scan((21, 20, 20))
    volume.values[:] = -1350 + 1500 * np.arange(21)[:, None, None] / 20
    stack = make_stack(volume, view())
    (start, *_) = stack.evaluation_starts()
    assert (start, stack.evaluation_starts()) == (6, [6, 0, 12])
    picture = stack.picture(start)
    assert picture.shape == (1, 60, 60)
    shown = np.rint(picture[0, 10::20, 10::20] / 255 * 20)
    np.testing.assert_array_equal(shown, np.arange(6, 15).reshape(3, 3))


def test_the_last_slice_is_repeated_in_a_short_volume_and_that_is_recorded():
    stack = make_stack(scan((7, 20, 20)), view())
    assert stack.starts() == (0, 0)
    placement = stack.placement(0)
    assert placement.slices == (0, 1, 2, 3, 4, 5, 6, 6, 6)
    assert placement.repeated == 2
    heat = np.zeros((60, 60), dtype=np.float32)
    heat[40:, :20] = 3  # the first of the three tiles of the last slice
    values = stack.to_volume(heat[None], [0]).values
    assert values[6].max() == pytest.approx(1)
    assert values[:6].max() == 0


def test_windows_that_overlap_come_back_as_their_mean_and_show_more_slices_than_one():
    stack = make_stack(scan((12, 20, 20)), view())
    starts = stack.evaluation_starts()
    assert starts == [2, 0, 3]
    heat = np.stack([np.full((60, 60), value, dtype=np.float32) for value in (1, 2, 6)])
    values = stack.to_volume(heat, starts).values
    middles = values[:, 10, 10]
    np.testing.assert_allclose(middles[[0, 1]], 2)
    np.testing.assert_allclose(middles[2], (1 + 2) / 2)
    np.testing.assert_allclose(middles[3:9], 3)
    np.testing.assert_allclose(middles[11], 6)


def test_windows_around_a_mask_stay_with_it():
    volume = scan((40, 30, 30))
    wide = make_stack(volume, view(crop="mask"), mask=blob(volume, (20, 10, 12), 8))
    assert wide.span == (12, 29)
    assert wide.starts() == (12, 20)
    assert wide.evaluation_starts() == [16, 12, 20]
    small = make_stack(volume, view(crop="mask"), mask=blob(volume, (20, 10, 12), 1))
    assert small.starts() == (16, 16)
    assert wide.mask_picture(12).shape == (60, 60)
    edge = make_stack(volume, view(crop="mask"), mask=blob(volume, (38, 10, 12), 1))
    assert edge.starts() == (31, 31)


def test_the_crop_is_square_in_mm_and_black_beyond_the_slice():
    volume = scan((9, 20, 20), spacing=(1.0, 2.0, 0.5))
    volume.values[:] = 150
    stack = make_stack(volume, view(tile_px=40))
    step = np.linalg.norm(stack.affine[:3, 1:3], axis=0)
    np.testing.assert_allclose(step, [1, 1])
    tile = stack.tiles[4]
    assert (tile[:, :14] == 0).all()
    assert (tile[1:-1, 16:24] == 255).all()


def test_tiles_of_the_same_size_are_the_voxels_themselves():
    volume = scan((3, 20, 20), spacing=(1.0, 1.0, 1.0))
    stack = make_stack(volume, view(orientation="SPL"))
    shown = np.rint(np.clip((volume.values + 1350) / 1500, 0, 1) * 255)
    np.testing.assert_allclose(stack.tiles, shown, atol=1)


def test_a_small_mask_is_not_lost_in_large_pixels():
    volume = scan((9, 64, 64))
    stack = make_stack(volume, view(tile_px=4), mask=blob(volume, (4, 30, 30), 0))
    assert stack.mask.any(axis=(1, 2)).tolist() == [False] * 4 + [True] + [False] * 4


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda volume: None, "scan: no mask; the slices and their crop"),
        (lambda volume: Volume(volume.values * 0, volume.affine, "m.nii"), "m.nii: an empty mask"),
        (lambda volume: scan((12, 20, 15)), "scan: 12 x 20 x 15 voxels"),
    ],
)
def test_a_mask_that_cannot_be_cropped_around_is_refused(mask, message):
    volume = scan()
    with pytest.raises(InputError, match=message):
        make_stack(volume, view(crop="mask"), mask=mask(volume))


@pytest.mark.parametrize(
    "choices", [{"votes": 2}, {"grid": 0}, {"stride": 0}, {"tile_px": 0}, {"margin_mm": -1.0}]
)
def test_numbers_that_make_no_picture_are_refused(choices):
    with pytest.raises(InputError, match="the votes odd"):
        VolumeView(**choices)
