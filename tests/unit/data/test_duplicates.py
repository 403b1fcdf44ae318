"""Copies moved in any way are found, other pictures are not, and the pieces keep their promises."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from vitrail.data.alignment import align, texture
from vitrail.data.duplicates import find_duplicates, look
from vitrail.data.keypoints import MOST, find_keypoints, small_picture
from vitrail.data.neighbors import candidates, make_index


def canvas(seed, *, side=300):
    """Draw a tissue-like texture."""
    generator = np.random.default_rng(seed)
    layers = (
        gaussian_filter(generator.normal(size=(side, side)), width) * width for width in (2, 5, 12)
    )
    values = 0.5 + 0.35 * sum(layers)
    return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))


def view(picture, *, degrees=0.0, zoom=1.0, stretch=1.0, mirrored=False, side=180):
    """Cut the middle of a canvas, moved."""
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(degrees, Image.Resampling.BICUBIC)
    half_width, half_height = side / 2 / zoom, side / 2 / zoom / stretch
    center = picture.width / 2
    box = (center - half_width, center - half_height, center + half_width, center + half_height)
    moved = picture.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(moved, dtype=np.float32) / 255


MOVES = {
    "turned by 17 degrees": {"degrees": 17},
    "turned by 130 degrees": {"degrees": 130},
    "mirrored and turned": {"degrees": 40, "mirrored": True},
    "zoomed": {"zoom": 1.5},
    "zoomed out, turned": {"zoom": 0.8, "degrees": -25},
    "stretched": {"stretch": 1.25, "degrees": 8},
    "all at once": {"zoom": 1.4, "degrees": 205, "mirrored": True, "stretch": 0.85},
}


@pytest.fixture(scope="module")
def others():
    """Return the looks of pictures that have nothing to do with each other."""
    return [look(view(canvas(seed)), content=f"other {seed}") for seed in range(100, 130)]


@pytest.mark.parametrize("move", MOVES)
def test_a_moved_copy_is_found_and_nothing_else(others, move):
    pair = [look(view(canvas(1)), content="a"), look(view(canvas(1), **MOVES[move]), content="b")]
    names = [f"{index:02}" for index in range(len(others) + 2)]
    found = find_duplicates(names, [*others, *pair])
    assert [(one.first, one.second, one.kind) for one in found] == [("30", "31", "moved")]
    assert found[0].distance is None
    assert found[0].agreement > 0.85


def test_brightness_contrast_and_compression_do_not_hide_a_moved_copy(others, tmp_path):
    moved = view(canvas(2), degrees=33, zoom=1.2)
    levels = np.rint((0.2 + 0.5 * moved) * 255).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "copy.jpg", quality=60)
    copy = np.asarray(Image.open(tmp_path / "copy.jpg"), dtype=np.float32) / 255
    pair = [look(view(canvas(2)), content="a"), look(copy, content="b")]
    names = [f"{index:02}" for index in range(len(others) + 2)]
    assert [(one.first, one.second) for one in find_duplicates(names, [*others, *pair])] == [
        ("30", "31")
    ]


def test_pictures_that_share_a_frame_and_letters_alone_are_not_the_same():
    looks = []
    for seed in range(8):
        values = view(canvas(200 + seed)) * 0.3 + 0.2
        values[:12], values[-12:], values[:, :12], values[:, -12:] = 1, 1, 1, 1
        for place in range(20, 100, 12):
            values[20:34, place : place + 5] = 1
        looks.append(look(values, content=str(seed)))
    assert find_duplicates([str(seed) for seed in range(8)], looks) == []


def test_the_map_of_an_alignment_takes_each_point_to_its_copy():
    one, other = small_picture(view(canvas(3))), small_picture(view(canvas(3), degrees=30))
    keypoints = [find_keypoints(picture) for picture in (one, other)]
    index = make_index([each.descriptor for each in keypoints])
    lies = align(
        *keypoints,
        similarity=index.of(0) @ index.of(1).T,
        textures=lambda: (texture(one), texture(other)),
    )
    middle, angle = 55.5, np.deg2rad(30)
    # Pillow turns counterclockwise; rows count downward.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([[40.0, 50.0], [70.0, 45.0], [55.0, 80.0]])
    expected = (points - middle) @ turn + middle
    reached = np.hstack([points, np.ones((3, 1))]) @ lies.map
    np.testing.assert_allclose(reached, expected, atol=0.5)
    assert lies.overlap == pytest.approx(0.85, abs=0.05)


def test_a_turn_by_a_quarter_and_a_mirror_leave_descriptors_as_they_are():
    small = small_picture(view(canvas(4)))
    plain = find_keypoints(small)
    for moved in (np.rot90(small), small[:, ::-1]):
        same = find_keypoints(np.ascontiguousarray(moved))
        assert len(same.place) == len(plain.place) == MOST
        apart = np.abs(
            plain.descriptor[:, None].astype(int) - same.descriptor[None].astype(int)
        ).max(axis=2)
        # Ties and the outermost pixels aside, each has its twin.
        assert np.median(apart.min(axis=1)) <= 3


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (50, 70), (4000, 3)])
def test_flat_and_oddly_shaped_pictures_have_no_keypoints_and_no_copies(shape):
    flat = np.full(shape, 0.5, dtype=np.float32)
    assert len(find_keypoints(small_picture(flat)).place) == 0
    looks = [look(flat, content="a"), look(view(canvas(5)), content="b")]
    assert find_duplicates(["a", "b"], looks) == []


def test_the_search_names_what_comparing_every_pair_names():
    generator = np.random.default_rng(0)
    groups = generator.normal(size=(60, 12, 61)) * 30
    descriptors = []
    for group in groups:
        for _ in range(2):
            noisy = group + generator.normal(scale=2, size=group.shape)
            descriptors.append(np.rint(noisy.clip(-127, 127)).astype(np.int8))
    named = {tuple(pair) for pair in candidates(make_index(descriptors), most=1).tolist()}
    assert {(2 * pair, 2 * pair + 1) for pair in range(60)} <= named
    assert len(named) <= 120


def test_the_search_of_nothing_is_empty():
    empty = np.empty((0, 61), dtype=np.int8)
    assert len(candidates(make_index([empty, empty]), most=3)) == 0
