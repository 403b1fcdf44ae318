"""Pictures from files: PNG, JPEG, TIFF and BMP, of 1 to 32 bits, become arrays.

What is settled here, once, for training and prediction alike:

- EXIF orientation is applied, so that "up" is up.
- A palette is looked up; transparent pixels lie on black, the background of medical pictures.
- Color becomes grey by the luma of ITU-R BT.601 (Pillow's); grey becomes color by repetition.
- Sizes are checked before a pixel is decoded, so that a decompression bomb stays asleep.
- 16-bit *color* loses its lower 8 bits, for Pillow has no such mode; 16-bit grey keeps them.
- A deep TIFF that stores white as 0 is turned over, and 32 bits without a sign stay so: Pillow does
  neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from vitrail.errors import UnreadableFileError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
"""Endings (lower case) of the files that are taken for pictures."""

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
MAX_FILE_BYTES = 1 << 30

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_BITS = {"1": 1, "I": 32, "F": 32}
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED = 1, 2
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
_TRANSPOSED = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterInfo:
    """What a picture's header says.

    Attributes:
        height: Rows in pixels, after EXIF orientation.
        width: Columns in pixels, after EXIF orientation.
        channels: 1 for grey modes, 3 for all others (a palette may still hold only greys).
        bits: Bits of one stored value.
        mode: Pillow's name of the pixel mode, e.g. ``L``, ``RGBA``, ``I;16``.
        format: ``PNG``, ``JPEG``, ``MPO`` (a JPEG with previews), ``TIFF`` or ``BMP``.
        file_bytes: Size of the file.
        jpeg_tables: Means of the luminance and of the color quantization table, 0 where there is
            none; they fall as the JPEG quality rises.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    bits: int
    mode: str
    format: str
    file_bytes: int
    jpeg_tables: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """A picture, decoded once for all that is asked of it.

    Attributes:
        info: What its header says.
        stored: Its values, as `read_stored` gives them.
        content: SHA-256 of the file's bytes.
    """

    info: RasterInfo
    stored: Shaped[np.ndarray, "channel height width"]
    content: str


def _is_grey(mode: str) -> bool:
    return mode in _GREY_MODES or mode.startswith("I;16")


def _unreadable(
    path: Path,
    came: str,
    *,
    rule: str = "a whole picture is needed",
    remedy: str = "replace the file or leave it out",
) -> UnreadableFileError:
    return UnreadableFileError(str(path), came, rule, remedy)


def _open(path: Path, content: bytes) -> Image.Image:
    """Open a file's bytes as a picture, checking its kind and size; no pixel is decoded yet."""
    image = _identified(path, content)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _unreadable(
            path,
            f"{image.width} x {image.height} pixels",
            rule=f"at most {MAX_PIXELS} pixels are decoded",
        )
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # readers of headers fed broken bytes raise anything
        raise _unreadable(path, f"its header cannot be read ({error})") from error
    if frames > 1 and image.format != "MPO":
        image.close()
        raise _unreadable(path, f"{frames} pictures in one file", rule="one file holds one picture")
    return image


def _identified(path: Path, content: bytes) -> Image.Image:
    """Tell the kind of a file by its first bytes."""
    try:
        # From memory: Pillow's memory-mapped reading garbles turned TIFFs.
        return Image.open(BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "not a PNG, JPEG, TIFF or BMP picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        came = f"a decompression bomb ({str(error).partition(' exceeds')[0]})"
        raise _unreadable(path, came, rule=f"at most {MAX_PIXELS} pixels are decoded") from error
    except Exception as error:  # readers of headers fed broken bytes raise anything
        raise _unreadable(path, f"its header cannot be read ({error})") from error


def _content(path: Path) -> bytes:
    """Read a file whole, unless it is empty or too large."""
    try:
        file_bytes = path.stat().st_size
        content = path.read_bytes() if 0 < file_bytes <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if file_bytes == 0:
        raise _unreadable(path, "the file is empty (0 bytes)")
    if not content:
        raise _unreadable(path, f"{file_bytes} bytes", rule=f"at most {MAX_FILE_BYTES} are read")
    return content


def _orientation(path: Path, image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # readers of EXIF fed broken bytes raise anything
        raise _unreadable(path, f"its EXIF data cannot be read ({error})") from error


def _mean(table: Sequence[int] | None) -> float:
    return float(np.mean(table)) if table else 0.0


def probe(path: Path) -> RasterInfo:
    """Read a picture's header without decoding its pixels.

    Args:
        path: A PNG, JPEG, TIFF or BMP file.

    Returns:
        What the header says.

    Raises:
        UnreadableFileError: If it is no picture, is empty, too large, or holds several pictures.
    """
    content = _content(path)
    with _open(path, content) as image:
        return _info(path, image, file_bytes=len(content))


def _info(path: Path, image: Image.Image, *, file_bytes: int) -> RasterInfo:
    """Say what the header of an opened picture says."""
    width, height = image.size
    # Pillow turns a TIFF's size by itself.
    orientation = _orientation(path, image)
    if image.format != "TIFF" and orientation in _TRANSPOSED:
        width, height = height, width
    tables = getattr(image, "quantization", None) or {}
    return RasterInfo(
        height=height,
        width=width,
        channels=1 if _is_grey(image.mode) else 3,
        bits=16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8),
        mode=image.mode,
        format=image.format or "",
        file_bytes=file_bytes,
        jpeg_tables=(_mean(tables.get(0)), _mean(tables.get(1))),
    )


def _plain(image: Image.Image) -> Image.Image:
    """Turn any mode into L, RGB, I;16, I or F: upright, opaque, without a palette."""
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if image.has_transparency_data and not mode.startswith("I"):
        background = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(background, image.convert("RGBA"))
        return image.convert("L" if _is_grey(mode) else "RGB")
    if mode == "1":
        return image.convert("L")
    if mode in ("L", "RGB", "I", "F") or mode.startswith("I;16"):
        return image
    return image.convert("L" if _is_grey(mode) else "RGB")


def read_stored(path: Path) -> Shaped[np.ndarray, "channel height width"]:
    """Decode a picture, keeping the values as they are stored.

    Args:
        path: A PNG, JPEG, TIFF or BMP file.

    Returns:
        One channel (grey) or three (red, green, blue): uint8 for pictures of up to 8 bits,
        else uint16, int32 or float32.

    Raises:
        UnreadableFileError: If the file is missing, broken, truncated or too large.
    """
    with _open(path, _content(path)) as image:
        return _stored(path, image)


def read_whole(path: Path) -> Raster:
    """Read a picture with its header and the hash of its file, opened and decoded once.

    Raises:
        UnreadableFileError: As `probe` and `read_stored` do.
    """
    content = _content(path)
    with _open(path, content) as image:
        info = _info(path, image, file_bytes=len(content))
        stored = _stored(path, image)
    return Raster(info=info, stored=stored, content=sha256(content).hexdigest())


def _stored(path: Path, image: Image.Image) -> Shaped[np.ndarray, "channel height width"]:
    """Decode an opened picture."""
    try:
        pixels = np.asarray(_plain(image))
    except Exception as error:  # decoders fed broken bytes raise anything
        raise _unreadable(path, f"it cannot be decoded ({error})") from error
    if image.format == "TIFF" and len(image.getbands()) == 1:
        pixels = _meant(path, image, pixels)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise _unreadable(path, "NaN or infinite pixels", rule="pixels are finite numbers")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    # Channel by channel in memory: everything that follows runs over one channel at a time.
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def _meant(
    path: Path, image: Image.Image, pixels: Shaped[np.ndarray, "height width"]
) -> Shaped[np.ndarray, "height width"]:
    """Return a grey TIFF's values as its tags mean them, where Pillow passes over a tag."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bits = int(np.ravel(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1))[0])
    kind = int(np.ravel(tags.get(TiffImagePlugin.SAMPLEFORMAT, _UNSIGNED))[0])
    if bits == 8 and kind == _SIGNED:
        remedy = "write them without a sign"
        raise _unreadable(path, "8 bits with a sign", rule="8 bits have none", remedy=remedy)
    if pixels.dtype == np.int32 and kind == _UNSIGNED and bits == 32:
        pixels = pixels.view(np.uint32)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != _WHITE_IS_ZERO or bits <= 8:
        return pixels
    if pixels.dtype.kind != "u":
        rule = "the value of black is known, which it is for 8 and 16 bits without a sign"
        remedy = "turn the values over and write them with black as 0"
        raise _unreadable(path, f"white is 0 in {pixels.dtype} values", rule=rule, remedy=remedy)
    turned: Shaped[np.ndarray, "height width"] = (2**bits - 1) - pixels
    return turned


def to_grey(pixels: Float[np.ndarray, "3 height width"]) -> Float[np.ndarray, "1 height width"]:
    """Return the luma of ITU-R BT.601: 0.299 red + 0.587 green + 0.114 blue."""
    return np.tensordot(np.array([0.299, 0.587, 0.114], dtype=np.float32), pixels, axes=1)[None]


def read_raster(
    path: Path,
    *,
    channels: Literal[1, 3],
    intensity_range: tuple[float, float] | None = None,
) -> Float[np.ndarray, "channel height width"]:
    """Decode a picture to values in [0, 1].

    Args:
        path: A PNG, JPEG, TIFF or BMP file.
        channels: 1 for grey, 3 for color, whatever the file holds.
        intensity_range: Stored values that become 0 and 1 in pictures of more than 8 bits; what
            lies outside is clipped. By default the whole range of 16 bits.

    Returns:
        float32 values.

    Raises:
        UnreadableFileError: If the file is missing, broken, truncated or too large, or holds
            32-bit values and no ``intensity_range`` is given.
    """
    stored = read_stored(path)
    if stored.dtype.itemsize > 2 and intensity_range is None:
        raise _unreadable(
            path,
            f"{stored.dtype} values",
            rule="32-bit pictures need to be told which values are black and white",
            remedy="pass intensity_range=(low, high)",
        )
    return scale(stored, channels=channels, intensity_range=intensity_range)


def scale(
    stored: Shaped[np.ndarray, "stored height width"],
    *,
    channels: Literal[1, 3],
    intensity_range: tuple[float, float] | None = None,
) -> Float[np.ndarray, "channel height width"]:
    """Bring stored values to [0, 1] and to the wanted number of channels.

    Args:
        stored: From `read_stored`.
        channels: 1 for grey, 3 for color.
        intensity_range: Stored values that become 0 and 1; 8-bit pictures always use 0 and 255.
    """
    values = stored.astype(np.float32)
    if stored.dtype == np.uint8:
        values /= np.float32(255)
    else:
        low, high = intensity_range or (0.0, 65535.0)
        values = ((values - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    if len(values) == channels:
        return values
    return to_grey(values) if channels == 1 else np.repeat(values, 3, axis=0)
