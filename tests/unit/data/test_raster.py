import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vitrail.data import raster
from vitrail.data.raster import probe, read_raster, read_stored
from vitrail.errors import UnreadableFileError

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
COLOR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def odd_pictures():
    """Yield (name, picture, options, expected grey or color, bits)."""
    palette = Image.fromarray(GREY).convert("P")
    bits = Image.fromarray(((GREY > 100) * 255).astype(np.uint8)).convert("1", dither=0)
    rgba = Image.fromarray(np.dstack([COLOR, np.full((4, 5), 255, np.uint8)]))
    clear = Image.fromarray(np.dstack([COLOR, np.zeros((4, 5), np.uint8)]))
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    return {
        "grey.png": (Image.fromarray(GREY), {}, GREY / 255, 8),
        "grey.bmp": (Image.fromarray(GREY), {}, GREY / 255, 8),
        "grey.tif": (Image.fromarray(GREY), {}, GREY / 255, 8),
        "color.png": (Image.fromarray(COLOR), {}, COLOR / 255, 8),
        "color.tif": (Image.fromarray(COLOR), {"compression": "tiff_lzw"}, COLOR / 255, 8),
        "palette.png": (palette, {}, np.repeat(GREY[..., None], 3, axis=2) / 255, 8),
        "one bit.png": (bits, {}, (GREY > 100) * 1.0, 1),
        "rgba.png": (rgba, {}, COLOR / 255, 8),
        "transparent.png": (clear, {}, COLOR * 0.0, 8),
        "grey alpha.png": (Image.fromarray(GREY).convert("LA"), {}, GREY / 255, 8),
        "16 bit.png": (deep, {}, GREY / 255, 16),
        "16 bit.tif": (deep, {}, GREY / 255, 16),
        "größe 图.png": (Image.fromarray(GREY), {}, GREY / 255, 8),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_are_read_as_they_look(tmp_path, name):
    image, options, expected, bits = odd_pictures()[name]
    path = saved(tmp_path, image, name, **options)
    info = probe(path)
    channels = 1 if expected.ndim == 2 else 3
    assert (info.height, info.width, info.channels, info.bits) == (4, 5, channels, bits)
    assert info.file_bytes == path.stat().st_size
    read = read_raster(path, channels=channels)
    assert read.dtype == np.float32
    wanted = expected[None] if channels == 1 else np.moveaxis(expected, 2, 0)
    np.testing.assert_allclose(read, wanted, atol=1e-6)


def test_a_jpeg_is_close_to_what_was_saved_and_tells_its_quality(tmp_path):
    fine = saved(tmp_path, Image.fromarray(GREY), "fine.jpg", quality=95)
    coarse = saved(tmp_path, Image.fromarray(GREY), "coarse.jpg", quality=20)
    np.testing.assert_allclose(read_raster(fine, channels=1)[0], GREY / 255, atol=0.05)
    assert 0 < probe(fine).jpeg_tables[0] < probe(coarse).jpeg_tables[0]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_puts_up_upwards(tmp_path, ending, orientation):
    corner = np.zeros((32, 48), dtype=np.uint8)
    corner[:16, :16] = 255
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(corner)
    if orientation > 1:
        image = image.transpose(transposed[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, image, f"turned.{ending}", exif=exif)
    info = probe(path)
    assert (info.height, info.width) == (32, 48)
    np.testing.assert_allclose(read_raster(path, channels=1)[0], corner / 255, atol=0.1)


def test_a_window_maps_16_bit_values_and_clips_the_rest(tmp_path):
    values = np.array([[0, 1000, 1500, 2000, 60000]], dtype=np.uint16)
    path = saved(tmp_path, Image.fromarray(values), "ct.png")
    read = read_raster(path, channels=1, intensity_range=(1000.0, 2000.0))
    np.testing.assert_allclose(read[0, 0], [0, 0, 0.5, 1, 1])
    assert read_stored(path).dtype == np.uint16


def test_color_becomes_grey_by_luma_and_grey_becomes_three_equal_channels(tmp_path):
    color = saved(tmp_path, Image.fromarray(COLOR), "color.png")
    luma = COLOR / 255 @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read_raster(color, channels=1)[0], luma, atol=1e-6)
    grey = saved(tmp_path, Image.fromarray(GREY), "grey.png")
    assert np.ptp(read_raster(grey, channels=3), axis=0).max() == 0


def test_32_bit_values_need_a_window(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY.astype(np.float32) * 10), "float.tif")
    with pytest.raises(UnreadableFileError, match="intensity_range"):
        read_raster(path, channels=1)
    read = read_raster(path, channels=1, intensity_range=(0.0, 2550.0))
    np.testing.assert_allclose(read[0], GREY / 255, atol=1e-6)


def with_tag(path, tag, value):
    """Change a tag of a little-endian TIFF that holds one number of 16 bits."""
    content = path.read_bytes()
    place = content.index(struct.pack("<HHI", tag, 3, 1))
    path.write_bytes(content[: place + 8] + struct.pack("<H", value) + content[place + 10 :])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_that_stores_white_as_zero_is_turned_over(tmp_path, dtype):
    stored = GREY.astype(dtype)
    path = saved(tmp_path, Image.fromarray(stored), "film.tif")
    with_tag(path, 262, 0)
    np.testing.assert_array_equal(read_stored(path)[0], np.iinfo(dtype).max - stored)


def test_a_tiff_whose_numbers_pillow_takes_for_others_is_read_right_or_refused(tmp_path):
    values = np.array([[0, 1 << 31], [(1 << 32) - 1, 7]], dtype=np.uint32)
    path = saved(tmp_path, Image.fromarray(values.view(np.int32)), "count.tif")
    with_tag(path, 339, 1)
    np.testing.assert_array_equal(read_stored(path)[0], values)
    film = saved(tmp_path, Image.fromarray(GREY.astype(np.float32)), "film.tif")
    with_tag(film, 262, 0)
    with pytest.raises(UnreadableFileError, match=r"film\.tif: white is 0 in float32 values"):
        read_stored(film)
    signed = saved(tmp_path, Image.fromarray(GREY), "signed.tif", tiffinfo={339: 2})
    with pytest.raises(UnreadableFileError, match=r"signed\.tif: 8 bits with a sign"):
        read_stored(signed)


def test_nan_pixels_are_refused(tmp_path):
    values = np.full((3, 3), np.nan, dtype=np.float32)
    path = saved(tmp_path, Image.fromarray(values), "nan.tif")
    with pytest.raises(UnreadableFileError, match=r"nan\.tif: NaN"):
        read_raster(path, channels=1, intensity_range=(0.0, 1.0))


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_picture_is_named(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, size=(64, 64), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), f"whole.{ending}")
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UnreadableFileError, match=rf"cut\.{ending}: "):
        read_raster(cut, channels=1)


def test_empty_missing_foreign_and_many_page_files_are_named(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    for name, reason in (
        ("empty.png", "0 bytes"),
        ("text.png", "not a PNG"),
        ("pages.tif", "2 pictures"),
        ("missing.png", "No such file"),
    ):
        with pytest.raises(UnreadableFileError, match=reason):
            probe(tmp_path / name)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GREY), "large.png")
    monkeypatch.setattr(raster, "MAX_PIXELS", 19)
    with pytest.raises(UnreadableFileError, match="5 x 4 pixels"):
        probe(path)


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(path)
    with pytest.raises(UnreadableFileError, match=r"400000000 pixels.*at most \d+ pixels are"):
        read_stored(path)


def test_a_bomb_in_a_text_chunk_is_refused_by_name(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY), "bomb.png")
    content = path.read_bytes()
    text = b"zTXt" + b"note\0\0" + zlib.compress(bytes(2_000_000))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    path.write_bytes(content[:33] + chunk + content[33:])
    for read in (probe, read_stored):
        with pytest.raises(UnreadableFileError, match=r"bomb\.png: its header cannot be read"):
            read(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_whatever_bytes_are_broken_nothing_but_our_own_error_comes_out(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(COLOR), name)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(content)
        for place in generator.integers(0, min(len(broken), 200), size=4):
            broken[place] = generator.integers(256)
        path.write_bytes(bytes(broken))
        for read in (probe, read_stored):
            with contextlib.suppress(UnreadableFileError):
                read(path)
