"""DICOM series: a folder of slices in any order and under any names becomes one volume.

Nothing is assumed of the geometry; each of these is checked against the headers, and refused by
file and tag where it does not hold: one series, one orientation, one spacing of pixels, slices in
a straight row along their normal, none missing, none twice. An enhanced multi-frame object is a
stack of such slices in one file. Compressed pixels (JPEG lossless and lossy, JPEG-LS, JPEG 2000)
are decoded by GDCM inside SimpleITK, run-length encoded and plain ones by pydicom.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import SimpleITK
from jaxtyping import Float, Shaped
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, RLELossless

from vitrail.data.volume import MOST_VOXELS, Volume
from vitrail.errors import DataError, UnreadableFileError
from vitrail.records import Progress, no_progress

MOST_BYTES = 1 << 31
"""Larger files are refused before they are decoded."""

ENDINGS = (".dcm", ".dicom", ".ima")
"""Endings (lower case) of files that must be DICOM; files of other names may be."""

_SPACING_TOLERANCE = 0.02
_DIRECTION_TOLERANCE = 1e-3
_SHIFT_TOLERANCE_MM = 0.1
_ANGLE_TOLERANCE = 0.01
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PIXEL_TAGS = (
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """What the header says of one slice: a file, or a frame of one."""

    path: Path
    frame: int
    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 2"]
    size: tuple[int, int]
    slope: float
    intercept: float

    @property
    def name(self) -> str:
        """The file's name, with the number of the frame where there are several."""
        return self.path.name if self.frame < 0 else f"{self.path.name} frame {self.frame + 1}"

    @property
    def normal(self) -> Float[np.ndarray, " 3"]:
        """Direction across the slice."""
        along: Float[np.ndarray, " 3"] = np.cross(self.axes[:, 1], self.axes[:, 0])
        unit: Float[np.ndarray, " 3"] = along / np.linalg.norm(along)
        return unit


def is_dicom(path: Path) -> bool:
    """Tell whether a file carries DICOM's mark, whatever its name."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def list_series(folder: Path, *, whole: bool = True) -> dict[str, list[Path]]:
    """Group the DICOM pictures of a folder by SeriesInstanceUID.

    Other files, and DICOM objects without pixels (reports, directories), are passed over.

    Args:
        folder: Holds the files.
        whole: Whether every file has to be readable; else broken ones are passed over, and named
            when a series of the folder is read.

    Raises:
        UnreadableFileError: If a file claims to be DICOM and its header cannot be read, or ends
            before it says how large the picture is.
    """
    found = _headers(folder, whole=whole)
    return {uid: [path for path, _ in held] for uid, held in found.items()}


def _headers(folder: Path, *, whole: bool = True) -> dict[str, list[tuple[Path, FileDataset]]]:
    """Read the header of every picture of a folder, by SeriesInstanceUID."""
    series: dict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        claims = path.suffix.lower() in ENDINGS
        if not path.is_file() or not (claims or is_dicom(path)):
            continue
        try:
            header = _picture_header(path)
        except UnreadableFileError:
            if whole:
                raise
            continue
        if header is not None:
            series[str(header.get("SeriesInstanceUID", ""))].append((path, header))
    return dict(series)


def _picture_header(path: Path) -> FileDataset | None:
    """Read the header of a picture; None for an object of another kind."""
    header = read_header(path)
    kind = header.file_meta.get("MediaStorageSOPClassUID")
    if "Rows" in header:
        return header
    if kind is not None and "Image Storage" not in kind.name:
        return None
    raise UnreadableFileError(
        str(path),
        f"{Tag('Rows')} Rows is missing",
        "the header of a picture must be whole",
        "copy it again, or remove it",
    )


def read_header(path: Path) -> FileDataset:
    """Read all of a file but its pixels.

    Raises:
        UnreadableFileError: If it is not DICOM, or broken.
    """
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        size = path.stat().st_size
        raise UnreadableFileError(
            str(path),
            f"{size} bytes that are not DICOM",
            "a file of this name carries the mark DICM",
            "copy it again, or remove it",
        ) from error
    except Exception as error:  # pydicom raises whatever a broken header leads to
        raise UnreadableFileError(
            str(path),
            f"its header cannot be read ({type(error).__name__}: {error})",
            "the file must be whole",
            "copy it again, or remove it",
        ) from error


def read_series(
    folder: Path, *, series: str | None = None, progress: Progress = no_progress
) -> Volume:
    """Read one series, its slices sorted along their normal.

    Args:
        folder: Holds the files of one or several series.
        series: Its SeriesInstanceUID; may be left out where there is one.
        progress: Told after each file.

    Returns:
        Values after RescaleSlope and RescaleIntercept: HU for CT.

    Raises:
        DataError: If the folder holds no such series, or several and none was chosen; or the
            slices do not form one straight, complete stack.
        UnreadableFileError: If a file is truncated or lacks a tag; the message names both.
    """
    found = _headers(folder)
    if series is None and len(found) == 1:
        series = next(iter(found))
    if series not in found:
        held = ", ".join(f"{uid} ({len(files)} files)" for uid, files in found.items())
        raise DataError(
            str(folder),
            f"DICOM series: {held or 'none'}",
            "one series is read at a time",
            "name a file of the one that is meant" if found else "choose a folder of DICOM files",
        )
    patients = {str(header.get("PatientID") or "").strip() for _, header in found[series]}
    if len(patients) > 1:
        raise DataError(
            f"{folder}: {Tag('PatientID')}",
            f"one series of {len(patients)} patients ({', '.join(map(repr, sorted(patients)))})",
            "a series is of one patient",
            "put the files of each patient into a folder of their own",
        )
    slices = [one for path, header in found[series] for one in _slices(path, header)]
    normal = slices[0].normal
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _check_stack(slices)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1:3] = step, slices[0].axes
    affine[:3, 3] = slices[0].position
    modality = str(found[series][0][1].get("Modality", ""))
    return Volume(_values(slices, progress), affine, str(folder), modality)


def _values(slices: Sequence[_Slice], progress: Progress) -> Float[np.ndarray, "slice row column"]:
    """Decode every file once, and put each slice in its place."""
    values = np.empty((len(slices), *slices[0].size), dtype=np.float32)
    places: dict[Path, list[int]] = defaultdict(list)
    for place, one in enumerate(slices):
        places[one.path].append(place)
    for done, (path, members) in enumerate(places.items(), start=1):
        stored = _pixels(path)
        for place in members:
            one = slices[place]
            values[place] = stored[max(0, one.frame)]
            values[place] *= np.float32(one.slope)
            values[place] += np.float32(one.intercept)
        progress("reading slices", done=done, total=len(places))
    return values


def _required(holder: Dataset, name: str, path: Path, *, count: int) -> list[float]:
    """Return the numbers of a tag.

    Raises:
        UnreadableFileError: If the tag is missing, empty, or holds another count of numbers.
    """
    value = holder.get(name)
    if value is None or value == "":
        came = "is missing"
    else:
        numbers = [float(number) for number in np.atleast_1d(value)]
        if len(numbers) == count and np.isfinite(numbers).all():
            return numbers
        came = f"holds {len(numbers)} numbers instead of {count}"
    raise UnreadableFileError(
        str(path),
        f"{Tag(name)} {name} {came}",
        "a slice's place and values are read, never guessed",
        "complete the header, or convert the series with a tool that knows it",
    )


def _macro(header: Dataset, frame: int, name: str, *, path: Path) -> Dataset:
    """Return where a slice's tags stand: the header, or a frame's functional group.

    Raises:
        UnreadableFileError: If a multi-frame object lacks the group.
    """
    if frame < 0:
        return header
    of_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    of_all = header.get("SharedFunctionalGroupsSequence") or []
    for groups in (*of_frame[frame : frame + 1], *of_all[:1]):
        if groups.get(name):
            held: Dataset = groups[name][0]
            return held
    if name == "PixelValueTransformationSequence":
        return header
    raise UnreadableFileError(
        str(path),
        f"{Tag(name)} {name} is missing for frame {frame + 1}",
        "each frame says where it lies (enhanced multi-frame)",
        "convert it to NIfTI or to one file a slice with a tool that knows it",
    )


def _slices(path: Path, header: Dataset) -> list[_Slice]:
    """Read what places each slice of one file."""
    frames = int(header.get("NumberOfFrames", 1) or 1)
    voxels = frames * int(header.Rows) * int(header.Columns)
    size = path.stat().st_size
    if size > MOST_BYTES or voxels > MOST_VOXELS:
        raise UnreadableFileError(
            str(path),
            f"{size} bytes, {voxels} pixels",
            f"at most {MOST_BYTES} bytes and {MOST_VOXELS} pixels are decoded",
            "check what this file is",
        )
    _check_pixels(path, header)
    several = frames > 1 or "PerFrameFunctionalGroupsSequence" in header
    return [_slice(path, header, frame) for frame in (range(frames) if several else [-1])]


def _check_pixels(path: Path, header: Dataset) -> None:
    """Refuse stored numbers that slope and intercept alone do not make a grey value of."""
    stored, high = header.get("BitsStored"), header.get("HighBit")
    wrong = {
        "SamplesPerPixel": int(header.get("SamplesPerPixel", 1)) != 1,
        "PhotometricInterpretation": header.get("PhotometricInterpretation") not in _GREY,
        "HighBit": stored is not None and high is not None and int(high) != int(stored) - 1,
        "ModalityLUTSequence": "ModalityLUTSequence" in header,
    }
    name = next((name for name, is_so in wrong.items() if is_so), "")
    if name:
        came = "a table" if name == "ModalityLUTSequence" else header.get(name, "missing")
        rule = "a pixel is one grey value, in the lowest bits, and slope and intercept rescale it"
        raise _wrong(path, name, came=came, rule=rule)


def _slice(path: Path, header: Dataset, frame: int) -> _Slice:
    """Read what places one slice, and what brings it to physical values."""
    place = _macro(header, frame, "PlanePositionSequence", path=path)
    plane = _macro(header, frame, "PlaneOrientationSequence", path=path)
    pixel = _macro(header, frame, "PixelMeasuresSequence", path=path)
    scale = _macro(header, frame, "PixelValueTransformationSequence", path=path)
    along = _required(plane, "ImageOrientationPatient", path, count=6)
    rows, columns = np.array(along).reshape(2, 3)
    between_rows, between_columns = _required(pixel, "PixelSpacing", path, count=2)
    directions = np.array([rows, columns])
    if not np.abs(directions @ directions.T - np.eye(2)).max() <= _ANGLE_TOLERANCE:
        rule = "it holds two directions of length 1 at right angles"
        raise _wrong(path, "ImageOrientationPatient", came=along, rule=rule)
    if not min(between_rows, between_columns) > 0:
        rule = "distances are above 0"
        raise _wrong(path, "PixelSpacing", came=[between_rows, between_columns], rule=rule)
    slope, intercept = (
        _required(scale, name, path, count=1)[0]
        if scale.get(name) not in (None, "") or header.get("Modality") == "CT"
        else usual
        for name, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        raise _wrong(path, "RescaleSlope", came=0, rule="values differ after rescaling")
    return _Slice(
        path=path,
        frame=frame,
        position=np.array(_required(place, "ImagePositionPatient", path, count=3)),
        # The first direction leads along a row, so to the next column.
        axes=np.stack([columns * between_rows, rows * between_columns], axis=1),
        size=(int(header.Rows), int(header.Columns)),
        slope=slope,
        intercept=intercept,
    )


def _wrong(path: Path, name: str, *, came: object, rule: str) -> UnreadableFileError:
    return UnreadableFileError(
        str(path),
        f"{Tag(name)} {name} is {came}",
        rule,
        "correct the header, leave the file out, or convert it with a tool that knows it",
    )


def _check_stack(slices: Sequence[_Slice]) -> Float[np.ndarray, " 3"]:
    """Check that sorted slices form one straight, complete stack.

    Returns:
        The step from a slice to the next in mm.

    Raises:
        DataError: If they do not.
    """
    _check_alike(slices)
    first = slices[0]
    steps = np.diff([one.position for one in slices], axis=0)
    across = steps @ first.normal
    twice = int(across.argmin())
    if across[twice] < 1e-3:
        raise _refused(
            slices[twice + 1],
            f"it lies where {slices[twice].name} lies",
            "no place is held twice",
            "remove one of the two, or split the series by time",
        )
    usual = float(np.median(across))
    for step, distance, one, after in zip(steps, across, slices, slices[1:], strict=False):
        pair = f"{one.name} to {after.name}: {distance:.3f} mm"
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


def _check_alike(slices: Sequence[_Slice]) -> None:
    """Check that slices are several, of one size and orientation, and not too many to read."""
    first = slices[0]
    for one in slices:
        if one.size != first.size or np.abs(one.axes - first.axes).max() > _DIRECTION_TOLERANCE:
            raise _refused(
                one,
                f"its orientation, pixel spacing or size differs from {first.name}'s",
                "all slices of a volume lie alike",
                "move localizers and other stacks to a folder of their own",
            )
    if len(slices) < 2:
        raise _refused(first, "it is alone", "a volume has two slices at least", "add the others")
    if len(slices) * first.size[0] * first.size[1] > MOST_VOXELS:
        raise _refused(
            first,
            f"{len(slices)} slices of {first.size} pixels",
            f"at most {MOST_VOXELS} voxels are read",
            "split the series",
        )


def _refused(one: _Slice, came: str, rule: str, remedy: str) -> DataError:
    place = str(one.path.with_name(one.name))
    return DataError(f"{place}: {Tag('ImagePositionPatient')}", came, rule, remedy)


def _pixels(path: Path) -> Float[np.ndarray, "slice row column"]:
    """Decode one file to stored values; in MONOCHROME1, turned so that high is bright.

    CT stays as it is: that a low value is displayed white does not change its Hounsfield units.
    """
    dataset = pydicom.dcmread(path)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        by_gdcm = syntax is not None and syntax.is_compressed and syntax.is_encapsulated
        stored = _by_gdcm(dataset) if by_gdcm and syntax != RLELossless else dataset.pixel_array
    except Exception as error:  # the decoders behind raise whatever they like
        raise UnreadableFileError(
            str(path),
            f"its pixels cannot be decoded ({type(error).__name__}: {error})",
            f"the file must be whole, and {'its syntax' if syntax is None else syntax.name} known",
            "copy it again, or convert it to an uncompressed transfer syntax",
        ) from error
    values = stored.reshape(-1, int(dataset.Rows), int(dataset.Columns)).astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.get("Modality") != "CT":
        # Stored low is shown white: turned over within the range that the stored bits have.
        signed = int(dataset.PixelRepresentation)
        values = (-1 if signed else 2 ** int(dataset.BitsStored) - 1) - values
    return values


def _by_gdcm(dataset: Dataset) -> Shaped[np.ndarray, "*place"]:
    """Decode compressed pixels with GDCM, of a copy without the tags that would rescale them."""
    plain = Dataset()
    for name in _PIXEL_TAGS:
        plain[name] = dataset[name]
    plain.NumberOfFrames = int(dataset.get("NumberOfFrames", 1) or 1)
    plain.PhotometricInterpretation = "MONOCHROME2"
    plain.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    plain.SOPInstanceUID = "1.2.3"
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        file = Path(folder, "pixels.dcm")
        plain.save_as(file, enforce_file_format=True)
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))


def read_slices(path: Path) -> Float[np.ndarray, "slice row column"]:
    """Read the pixels of one file, wherever they lie in the patient.

    Args:
        path: A DICOM file.

    Returns:
        Values after RescaleSlope and RescaleIntercept: HU for CT.

    Raises:
        UnreadableFileError: If it has no pixels, is truncated, or cannot be decoded.
    """
    header = read_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise UnreadableFileError(
            str(path), "a DICOM file without pixels", "a picture is needed", "leave it out"
        )
    return _values(_slices(path, header), no_progress)
