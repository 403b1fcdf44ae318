"""Pictures in NumPy files: MedMNIST's ``.npz``, and ``.npy`` arrays with their labels beside them.

An array of pictures is told by a word of its name, ``images``, ``image`` or ``x``; the array of
its labels has the same name with ``labels``, ``label`` or ``y`` in that place; ``train``, ``val``,
``valid``, ``validation`` or ``test`` among the words names the part of the split::

    pathmnist.npz     train_images train_labels val_images val_labels test_images test_labels
    tiles/            x_train.npy  y_train.npy  x_test.npy  y_test.npy      (or in one .npz)
    images.npy        labels.npy                                            (no split given)

Pictures are read one at a time off the file, so that an array may be larger than the memory.
Nothing is unpickled.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import IOBase
from math import prod
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
from jaxtyping import Shaped

from vitrail.data.cohort import NO_SPLIT, SPLIT_NAMES
from vitrail.data.raster import MAX_PIXELS
from vitrail.data.unpack import Packed, PackedCase
from vitrail.errors import DataError, UnreadableFileError
from vitrail.records import SplitName, join_labels

_LABELS_OF = {"images": "labels", "image": "label", "x": "y"}
_NAMES = ("classes", "class_names", "label_names")
_PIXELS = {"|u1", "|b1", "<u2", "<f2", "<f4", "<f8"}
_MOST_LABEL_BYTES = 1 << 30
_BROKEN = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Array:
    """An array in a file, not read yet.

    Attributes:
        place: What messages call it.
        shape: Its shape.
        dtype: Of its values.
        open: Opens the file at the array's first value.
    """

    place: str
    shape: tuple[int, ...]
    dtype: np.dtype
    open: Callable[[], IOBase]

    def rows(self) -> Iterator[Shaped[np.ndarray, "..."]]:
        """Read one item of the first axis after the other."""
        size = prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with self.open() as stream:
                for number in range(self.shape[0]):
                    content = stream.read(size)
                    if len(content) < size:
                        _refuse(self.place, f"it ends at item {number} of {self.shape[0]}")
                    yield np.frombuffer(content, dtype=self.dtype).reshape(self.shape[1:])
        except _BROKEN as error:
            if isinstance(error, UnreadableFileError):
                raise
            _refuse(self.place, str(error), error)

    def whole(self) -> Shaped[np.ndarray, "item ..."]:
        """Read everything; for labels."""
        if prod(self.shape) * self.dtype.itemsize > _MOST_LABEL_BYTES:
            _refuse(self.place, f"shape {self.shape}, too large for labels")
        return np.array(list(self.rows())).reshape(self.shape)


def _refuse(place: str, came: str, error: Exception | None = None) -> NoReturn:
    raise UnreadableFileError(
        place, came, "a whole array of numbers is read", "write or copy the file again"
    ) from error


def is_arrays(path: Path) -> bool:
    """Tell whether a path is a NumPy file, or a folder of arrays with their labels."""
    if path.is_file():
        return path.suffix.lower() in (".npz", ".npy")
    stems = {file.stem for file in path.glob("*.npy")}
    return any(_labels_name(stem) in stems for stem in stems)


def read_arrays(path: Path, *, names: Sequence[str] = ()) -> Packed:
    """Open the pictures of a ``.npz``, of a ``.npy`` or of a folder of ``.npy``.

    Args:
        path: The file or folder.
        names: Class names in the order of their numbers; by default those of an array
            ``classes``, ``class_names`` or ``label_names``, else the numbers themselves.

    Returns:
        The cases, with the split that the names tell.

    Raises:
        DataError: If pictures or labels are missing, do not fit each other, or are volumes.
        UnreadableFileError: If the file is broken.
    """
    arrays, files = _arrays(path)
    for name in _NAMES:
        if name in arrays and not names:
            names = [str(one) for one in arrays[name].whole().ravel()]
    pairs = []
    for name, images in arrays.items():
        partner = _labels_name(name)
        if partner is None or (path.suffix.lower() == ".npy" and name != path.stem):
            continue
        if partner not in arrays:
            rule = f"the labels of {name!r} are the array {partner!r}"
            raise DataError(str(path), f"no array {partner!r}", rule, "add or rename it")
        _check_pictures(images, arrays[partner])
        pairs.append((images, _labels(arrays[partner], names), _split_of(name)))
    if not pairs:
        raise DataError(
            str(path),
            f"arrays {', '.join(sorted(arrays)) or 'none'}",
            "pictures are an array named images or x, labels one named labels or y",
            "rename them, for example train_images and train_labels",
        )
    return Packed(
        cases=_cases(pairs),
        count=sum(len(labels) for _, labels, _ in pairs),
        file_bytes=sum(prod(images.shape) * images.dtype.itemsize for images, _, _ in pairs),
        files=files,
    )


def _words(name: str) -> list[str]:
    return re.split(r"([_\-. ])", name)


def _labels_name(name: str) -> str | None:
    """Name the array of labels that belongs to an array of pictures; None if it is not one."""
    words = _words(name)
    found = [place for place, word in enumerate(words) if word.lower() in _LABELS_OF]
    if not found:
        return None
    word = words[found[0]]
    words[found[0]] = _LABELS_OF[word.lower()]
    return "".join(words)


def _split_of(name: str) -> SplitName:
    """Read the part of a split off the words of a name."""
    return next(
        (SPLIT_NAMES[w.lower()] for w in _words(name) if w.lower() in SPLIT_NAMES), NO_SPLIT
    )


def _arrays(path: Path) -> tuple[dict[str, _Array], tuple[Path, ...]]:
    """List the arrays of a file or folder by their names, and the files that they lie in."""
    if path.suffix.lower() == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
        except _BROKEN as error:
            _refuse(str(path), str(error), error)
        found = {
            name.removesuffix(".npy"): _array(f"{path}: {name}", _member(path, name))
            for name in members
        }
        return found, (path,)
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.npy"))
    if path.is_file():
        wanted = {path.stem, _labels_name(path.stem), *_NAMES}
        files = [file for file in files if file.stem in wanted]
    return {file.stem: _array(str(file), _opener(file)) for file in files}, tuple(files)


def _member(path: Path, name: str) -> Callable[[], IOBase]:
    """Return what opens one file in an archive."""
    return lambda: cast("IOBase", zipfile.ZipFile(path).open(name))


def _opener(path: Path) -> Callable[[], IOBase]:
    """Return what opens a file."""
    return lambda: path.open("rb")


def _array(place: str, open_file: Callable[[], IOBase]) -> _Array:
    """Read an array's header."""
    try:
        with open_file() as stream:
            shape, dtype = _header(stream, place)

        def open_at_values() -> IOBase:
            opened = open_file()
            _header(opened, place)
            return opened

    except _BROKEN as error:
        if isinstance(error, UnreadableFileError):
            raise
        _refuse(place, str(error), error)
    return _Array(place=place, shape=shape, dtype=dtype, open=open_at_values)


def _header(stream: IOBase, place: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read a header, up to the first value."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, turned, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, turned, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        _refuse(place, "pickled objects, which are never read")
    if turned and len(shape) > 1:
        _refuse(place, "Fortran order (write it with numpy.ascontiguousarray)")
    return shape, dtype


def _check_pictures(images: _Array, labels: _Array) -> None:
    """Refuse what is no stack of pictures with a label each."""
    shape, came = images.shape, f"{images.dtype} of shape {images.shape}"
    rule = (
        "pictures are [item, height, width] or [item, height, width, 1, 3 or 4], or channels first"
    )
    if len(shape) not in (3, 4) or _channels_axis(shape) is None:
        remedy = "volumes are read as DICOM or NIfTI" if len(shape) >= 4 else "reshape the array"
        raise DataError(images.place, came, rule, remedy)
    color = len(shape) == 4 and shape[_channels_axis(shape) or 3] > 1
    if images.dtype.str not in _PIXELS or (color and images.dtype.itemsize > 1):
        rule = "grey values are of 8 or 16 bits or floats, colors of 8 bits"
        remedy = "scale the values to 0 … 255 and write them with .astype(numpy.uint8)"
        raise DataError(images.place, came, rule, remedy)
    if prod(shape[1:]) > 4 * MAX_PIXELS:
        raise DataError(images.place, came, f"at most {MAX_PIXELS} pixels a picture", "cut tiles")
    if not labels.shape or labels.shape[0] != shape[0]:
        first = labels.shape[0] if labels.shape else 0
        came = f"{first} labels for {shape[0]} pictures"
        raise DataError(labels.place, came, "each picture has one row of labels", "mend the array")


def _channels_axis(shape: tuple[int, ...]) -> int | None:
    """Say which axis holds the channels: 0 where there is none, None where nothing fits."""
    if len(shape) == 3:
        return 0
    if shape[3] in (1, 3, 4):
        return 3
    return 1 if shape[1] in (1, 3) else None


def _labels(array: _Array, names: Sequence[str]) -> list[str]:
    """Write labels as a manifest has them: names, or several of them with bars."""
    values = array.whole()
    values = values[:, None] if values.ndim == 1 else values.reshape(len(values), -1)
    if values.dtype.kind in "US":
        text = values.astype(str)
        return [join_labels(row) if len(row) > 1 else str(row[0]) for row in text.tolist()]
    if values.shape[1] == 1:
        return [_name(number, names) for number in values[:, 0].tolist()]
    if not np.isin(values, (0, 1)).all():
        came = f"{values.shape[1]} numbers a case that are not all 0 or 1"
        rule = "a row of labels says of each class whether the case has it"
        raise DataError(array.place, came, rule, "write one class number a case, or zeros and ones")
    if (values.sum(axis=1) == 1).all():
        return [_name(number, names) for number in values.argmax(axis=1).tolist()]
    return [
        join_labels([_name(place, names) for place in np.flatnonzero(row).tolist()])
        for row in values
    ]


def _name(number: int | float, names: Sequence[str]) -> str:
    """Name a class by its number."""
    if number in range(len(names)):
        return names[int(number)].replace("|", "/")
    return f"{number:.12g}"


def _cases(pairs: Sequence[tuple[_Array, list[str], SplitName]]) -> Iterator[PackedCase]:
    """Yield every picture with its label."""
    for images, labels, split in pairs:
        for number, (pixels, label) in enumerate(zip(images.rows(), labels, strict=True)):
            picture = _picture(pixels, _channels_axis(images.shape) or 0)
            if picture.dtype.kind == "f" and not np.isfinite(picture).all():
                _refuse(images.place, f"NaN or infinite pixels in item {number}")
            yield PackedCase(picture=picture, label=label, split=split)


def _picture(
    pixels: Shaped[np.ndarray, "..."], channels: int
) -> Shaped[np.ndarray, "height width *channel"]:
    """Bring one item to [height, width] or [height, width, channel] of a type that files have."""
    if channels == 1:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    kept = pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels
    return np.ascontiguousarray(kept)
