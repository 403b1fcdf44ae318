"""DICOM series: a folder of slices in any order and under any names becomes one volume.

Nothing is assumed of the geometry; each of these is checked against the headers, and refused by
file and tag where it does not hold: one series, one orientation, one spacing of pixels, slices in
a straight row along their normal, none missing, none twice.

Not read here yet: enhanced multi-frame objects, which are refused by name.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from vitrail.data.volume import Volume
from vitrail.errors import DataError, UnreadableFileError
from vitrail.records import Progress, no_progress

MOST_BYTES = 1 << 30
"""Larger files are refused before they are decoded."""

_SPACING_TOLERANCE = 0.02
_DIRECTION_TOLERANCE = 1e-3
_SHIFT_TOLERANCE_MM = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """The header of one file, as far as geometry goes."""

    path: Path
    series: str
    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 2"]
    size: tuple[int, int]

    @property
    def normal(self) -> Float[np.ndarray, " 3"]:
        """Direction across the slice."""
        along: Float[np.ndarray, " 3"] = np.cross(self.axes[:, 1], self.axes[:, 0])
        unit: Float[np.ndarray, " 3"] = along / np.linalg.norm(along)
        return unit


def list_series(folder: Path) -> dict[str, list[Path]]:
    """Group the DICOM files of a folder by SeriesInstanceUID; other files are passed over."""
    series: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            try:
                header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"])
            except (InvalidDicomError, OSError):
                continue
            series[str(header.get("SeriesInstanceUID", ""))].append(path)
    return dict(series)


def read_series(
    folder: Path, *, series: str | None = None, progress: Progress = no_progress
) -> Volume:
    """Read one series, its slices sorted along their normal.

    Args:
        folder: Holds the files of one or several series.
        series: Its SeriesInstanceUID; may be left out where there is one.
        progress: Told after each slice.

    Returns:
        Values after RescaleSlope and RescaleIntercept: HU for CT.

    Raises:
        DataError: If the folder holds no such series, or several and none was chosen; or the
            slices do not form one straight, complete stack.
        UnreadableFileError: If a file is truncated or lacks a tag; the message names both.
    """
    found = list_series(folder)
    if series is None and len(found) == 1:
        series = next(iter(found))
    if series not in found:
        held = ", ".join(f"{uid} ({len(paths)} files)" for uid, paths in found.items())
        raise DataError(
            str(folder),
            f"DICOM series: {held or 'none'}",
            "one series is read at a time",
            "pass series=… with one of these" if found else "choose a folder of DICOM files",
        )
    slices = [_header(path) for path in found[series]]
    normal = slices[0].normal
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _check_stack(slices)
    values = []
    for done, one in enumerate(slices):
        values.append(_pixels(one.path))
        progress("reading slices", done=done + 1, total=len(slices))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1:3] = step, slices[0].axes
    affine[:3, 3] = slices[0].position
    return Volume(np.stack(values), affine, str(folder))


def _required(header: Dataset, name: str, path: Path) -> list[float]:
    """Return the numbers of a tag.

    Raises:
        UnreadableFileError: If the tag is missing or empty.
    """
    value = header.get(name)
    if value is None or value == "":
        raise UnreadableFileError(
            str(path),
            f"{Tag(name)} {name} is missing",
            "a slice's place in the patient is read, never guessed",
            "complete the header, or convert the series with a tool that knows it",
        )
    return [float(number) for number in value]


def _header(path: Path) -> _Slice:
    """Read what places one slice."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        raise UnreadableFileError(
            str(path),
            f"{Tag('NumberOfFrames')} NumberOfFrames is {header.NumberOfFrames}",
            "enhanced multi-frame objects are not read yet",
            "convert it to NIfTI or to one file a slice",
        )
    if path.stat().st_size > MOST_BYTES:
        raise UnreadableFileError(
            str(path),
            f"{path.stat().st_size} bytes",
            f"one slice has at most {MOST_BYTES}",
            "check what this file is",
        )
    rows, columns = np.array(_required(header, "ImageOrientationPatient", path)).reshape(2, 3)
    between_rows, between_columns = _required(header, "PixelSpacing", path)
    return _Slice(
        path=path,
        series=str(header.get("SeriesInstanceUID", "")),
        position=np.array(_required(header, "ImagePositionPatient", path)),
        # The first direction leads along a row, so to the next column.
        axes=np.stack([columns * between_rows, rows * between_columns], axis=1),
        size=(int(header.Rows), int(header.Columns)),
    )


def _check_stack(slices: Sequence[_Slice]) -> Float[np.ndarray, " 3"]:
    """Check that sorted slices form one straight, complete stack.

    Returns:
        The step from a slice to the next in mm.

    Raises:
        DataError: If they do not.
    """
    first = slices[0]
    for one in slices:
        if one.size != first.size or np.abs(one.axes - first.axes).max() > _DIRECTION_TOLERANCE:
            raise _refused(
                one,
                f"its orientation, pixel spacing or size differs from {first.path.name}'s",
                "all slices of a volume lie alike",
                "move localizers and other stacks to a folder of their own",
            )
    if len(slices) < 2:
        raise _refused(first, "it is alone", "a volume has two slices at least", "add the others")
    steps = np.diff([one.position for one in slices], axis=0)
    across = steps @ first.normal
    usual = float(np.median(across))
    for step, distance, one, after in zip(steps, across, slices, slices[1:], strict=False):
        pair = f"{one.path.name} to {after.path.name}: {distance:.3f} mm"
        if distance < 1e-3:
            raise _refused(after, f"{pair}", "no place is held twice", "remove one of the two")
        if abs(distance - usual) > _SPACING_TOLERANCE * usual:
            raise _refused(
                after,
                f"{pair} where {usual:.3f} mm is usual",
                "no slice is missing and the spacing is even",
                "add the missing slices, or split the series there",
            )
        if np.abs(step - distance * first.normal).max() > _SHIFT_TOLERANCE_MM:
            raise _refused(
                after,
                f"{pair}, and sideways as well",
                "slices lie straight over each other (no gantry tilt)",
                "correct the tilt with a tool made for it",
            )
    mean: Float[np.ndarray, " 3"] = first.normal * float(across.mean())
    return mean


def _refused(one: _Slice, came: str, rule: str, remedy: str) -> DataError:
    return DataError(f"{one.path}: {Tag('ImagePositionPatient')}", came, rule, remedy)


def _pixels(path: Path) -> Float[np.ndarray, "row column"]:
    """Decode one slice and bring it to physical values."""
    dataset = pydicom.dcmread(path)
    try:
        stored = dataset.pixel_array
    except Exception as error:  # the decoders behind pydicom raise whatever they like
        raise UnreadableFileError(
            str(path),
            f"its pixels cannot be decoded ({type(error).__name__}: {error})",
            f"the file must be whole, and {dataset.file_meta.TransferSyntaxUID.name} be decodable",
            "copy it again, or install pylibjpeg with the codec it needs",
        ) from error
    if stored.ndim != 2:
        raise UnreadableFileError(
            str(path),
            f"pixels of shape {stored.shape}",
            "a slice has one grey value a pixel",
            "leave color captures out",
        )
    values = stored.astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        # Stored low is shown white: turned over within the range that the stored bits have.
        signed = int(dataset.PixelRepresentation)
        values = (-1 if signed else 2 ** int(dataset.BitsStored) - 1) - values
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    return values * np.float32(slope) + np.float32(dataset.get("RescaleIntercept", 0) or 0)
