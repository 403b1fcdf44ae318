"""Volumes: values on a grid of voxels, and where each voxel lies in the patient.

Positions are in mm in the patient frame LPS (x to the left, y to the back, z to the head), as in
DICOM. An `affine` takes (slice, row, column, 1) there, so no file format's own convention about
axes and signs goes beyond this module.
"""

import gzip
import zlib
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import SimpleITK
from jaxtyping import Float

from vitrail.errors import InputError, UnreadableFileError
from vitrail.runfolder import write_bytes

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
"""Endings (lower case) of the files that are taken for volumes."""

MOST_VOXELS = 1 << 30
"""Larger volumes are refused before they are decoded."""

_NIFTI = np.dtype(
    {
        "names": ["size", "dim", "kind", "bits", "pixdim", "start", "codes", "quaternion", "rows"],
        "formats": ["i4", "8i2", "i2", "i2", "8f4", "f4", "2i2", "3f4", "(3,4)f4"],
        "offsets": [0, 40, 70, 72, 76, 108, 252, 256, 280],
        "itemsize": 348,
    }
)
"""What is read of a NIfTI-1 header; ``codes`` are those of qform and sform."""

_LPS = ("RL", "AP", "IS")
"""For each patient axis the letters of its low and its high end."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Values on a regular grid in a patient.

    Attributes:
        values: In HU for CT.
        affine: Takes (slice, row, column, 1) to (x, y, z, 1) in mm, LPS.
        source: The file or folder it came from.
        modality: ``CT``, ``MR`` or another of DICOM's words; empty where the file does not tell.
    """

    values: Float[np.ndarray, "slice row column"]
    affine: Float[np.ndarray, "4 4"]
    source: str = ""
    modality: str = ""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighboring voxels along (slice, row, column)."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def orientation(self) -> str:
        """Where each array axis leads, e.g. ``SPL``: slices up, rows back, columns left."""
        return "".join(
            _LPS[int(np.abs(axis).argmax())][int(axis[np.abs(axis).argmax()] > 0)]
            for axis in self.affine[:3, :3].T
        )

    def to_mm(self, index: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Take (slice, row, column), fractions allowed, to mm in the patient (LPS)."""
        placed: Float[np.ndarray, "point 3"] = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        return placed

    def to_index(self, mm: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Take mm in the patient (LPS) to (slice, row, column): the inverse of `to_mm`."""
        index: Float[np.ndarray, "point 3"] = np.linalg.solve(
            self.affine[:3, :3], (mm - self.affine[:3, 3]).T
        ).T
        return index


def reorient(volume: Volume, orientation: str = "SAR") -> Volume:
    """Permute and flip the axes until they lead where asked; no value is interpolated.

    Args:
        volume: Any; oblique axes are taken by their largest part.
        orientation: A letter of each pair R/L, A/P, I/S, for (slice, row, column). The default is
            RAS in the order of arrays: columns to the right, rows to the front, slices up.

    Raises:
        InputError: If the letters do not name three different axes.
    """
    pairs = [
        next((i for i, pair in enumerate(_LPS) if letter in pair), -1) for letter in orientation
    ]
    if sorted(pairs) != [0, 1, 2]:
        raise InputError(
            "orientation",
            repr(orientation),
            "it has one letter of each of R/L, A/P and I/S",
            "pass e.g. 'SAR'",
        )
    along = [int(np.abs(axis).argmax()) for axis in volume.affine[:3, :3].T]
    if sorted(along) != [0, 1, 2]:
        raise InputError(
            volume.source or "volume",
            f"axes that lead along {volume.orientation}",
            "each axis must be nearest to another of the patient's axes",
            "resample it to a straight grid first",
        )
    order = [along.index(pair) for pair in pairs]
    values = volume.values.transpose(order)
    affine = volume.affine[:, [*order, 3]].copy()
    for axis, (letter, pair) in enumerate(zip(orientation, pairs, strict=True)):
        column = affine[:3, axis].copy()
        if (column[pair] > 0) != (letter == _LPS[pair][1]):
            values = np.flip(values, axis)
            affine[:3, 3] += column * (values.shape[axis] - 1)
            affine[:3, axis] = -column
    return replace(volume, values=np.ascontiguousarray(values), affine=affine)


def resample(
    volume: Volume, spacing_mm: tuple[float, float, float], *, mask: bool = False
) -> Volume:
    """Bring a volume to another spacing along its own axes, keeping its first voxel's corner.

    Args:
        volume: Any.
        spacing_mm: Along (slice, row, column).
        mask: Take the nearest voxel instead of a linear mean, so that labels stay labels.

    Raises:
        InputError: If a spacing is not above zero.
    """
    if not min(spacing_mm) > 0:
        raise InputError("spacing_mm", f"{spacing_mm}", "each must be above 0", "pass mm")
    old, new = np.array(volume.spacing_mm), np.array(spacing_mm)
    shape = np.maximum(1, np.rint(np.array(volume.values.shape) * old / new)).astype(int)
    affine = volume.affine.copy()
    affine[:3, :3] *= new / old
    # The outer corner of the first voxel stays where it is.
    affine[:3, 3] += volume.affine[:3, :3] @ ((new / old - 1) / 2)
    grid = Volume(np.zeros(shape, dtype=np.float32), affine)
    values = onto(volume, grid, nearest=mask, outside=float(volume.values.min()))
    return replace(volume, values=values, affine=affine)


def onto(
    volume: Volume, grid: Volume, *, nearest: bool = False, outside: float = 0.0
) -> Float[np.ndarray, "slice row column"]:
    """Read a volume at the places of another one's voxels.

    Args:
        volume: Gives the values, linearly between its voxels.
        grid: Gives the places; its values do not matter.
        nearest: Take the nearest voxel instead, so that labels stay labels.
        outside: Value of places that the volume does not reach.
    """
    kind = SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear
    moved = SimpleITK.Resample(_to_itk(volume), _to_itk(grid), SimpleITK.Transform(), kind, outside)
    return SimpleITK.GetArrayFromImage(moved)


def read_image(path: Path) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file.

    Raises:
        UnreadableFileError: If it cannot be decoded, is no volume, or holds NaN or infinity; or a
            NIfTI file is truncated or does not say how it lies (the library below reads all of
            these and says nothing).
    """
    if not path.name.lower().endswith(ENDINGS):
        raise UnreadableFileError(
            str(path), "an unknown ending", f"known are {', '.join(ENDINGS)}", "convert it"
        )
    nifti = _nifti_header(path) if path.name.lower().endswith((".nii", ".nii.gz")) else None
    if nifti is not None:
        _check_nifti(path, nifti)
    try:
        image = _decoded(path)
    except RuntimeError as error:
        raise UnreadableFileError(
            str(path),
            f"SimpleITK cannot read it ({str(error).strip().splitlines()[-1]})",
            "it must be a whole file of the format that its ending names",
            "copy it again, or leave it out",
        ) from error
    values = SimpleITK.GetArrayFromImage(image)
    count = int((~np.isfinite(values)).sum())
    count += _hidden_nan(path, nifti) if nifti is not None else 0
    if count:
        raise UnreadableFileError(
            str(path), f"{count} voxels of NaN or infinity", "values are finite", "mend the file"
        )
    scale = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = scale[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return Volume(values, affine, str(path))


def _stored(path: Path, count: int) -> bytes:
    """Read the first bytes of a NIfTI file, unpacked; fewer where it ends before."""
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFileError(
            str(path),
            f"it cannot be read ({error})",
            "it must be a whole file of the format that its ending names",
            "copy it again, or leave it out",
        ) from error


def _nifti_header(path: Path) -> np.void | None:
    """Read a NIfTI-1 header; None where there is none, which SimpleITK says in its own words.

    Raises:
        UnreadableFileError: If it is NIfTI-2 (its header has 540 bytes), which SimpleITK cannot
            read, or not what its ending says.
    """
    stored = _stored(path, _NIFTI.itemsize)
    if stored[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        raise UnreadableFileError(
            str(path),
            "a NIfTI-2 file",
            "NIfTI-1 is read",
            "convert it, for example with nibabel: Nifti1Image.from_image(load(path))",
        )
    if len(stored) < _NIFTI.itemsize:
        return None
    orders = (_NIFTI.newbyteorder("<"), _NIFTI.newbyteorder(">"))
    headers = (np.frombuffer(stored, order, 1)[0] for order in orders)
    return next((header for header in headers if header["size"] == _NIFTI.itemsize), None)


def _check_nifti(path: Path, header: np.void) -> None:
    """Refuse a header that leaves open how the volume lies, or says it in two ways."""
    qform, sform = header["codes"]
    shown = header["rows"][:, :3].astype(np.float64)
    alike = (_turned(header) * shown).sum(axis=0) > 0.5 * np.linalg.norm(shown, axis=0)
    came = ""
    if qform <= 0 and sform <= 0:
        came = "qform_code and sform_code are 0"
    elif qform > 0 and sform > 0 and not alike.all():
        came = "its qform and its sform lead to different sides"
    elif not header["pixdim"][1:4].all():
        came = f"voxels of {' x '.join(f'{step:g}' for step in header['pixdim'][1:4])} mm"
    if came:
        raise UnreadableFileError(
            str(path),
            came,
            "left and right, and sizes in mm, are read, never guessed",
            "write the header anew, for example with nibabel: set_sform(affine, 1) and "
            "set_qform(affine, 1) with the affine that is right",
        )


def _turned(header: np.void) -> Float[np.ndarray, "3 3"]:
    """Return the directions of a header's qform: a quaternion, and a sign of the third axis.

    Source:
        NIfTI-1 standard, nifti1.h, method 2.
    """
    b, c, d = header["quaternion"].astype(np.float64)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    axes: Float[np.ndarray, "3 3"] = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    axes[:, 2] *= -1 if header["pixdim"][0] < 0 else 1
    return axes


def _decoded(path: Path) -> SimpleITK.Image:
    """Decode one volume, after its header said that it is one, and of a bearable size.

    Raises:
        UnreadableFileError: If the header says otherwise.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    reader.ReadImageInformation()
    size, values = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) > 3 and prod(size[3:]) > 1:
        raise UnreadableFileError(
            str(path),
            f"{len(size)} axes, the fourth (time or series) of {size[3]}",
            "a volume has three axes: slice, row, column",
            "write each of its volumes to a file of its own, for example with fslsplit",
        )
    if not 3 <= len(size) <= 4 or min(size) < 1 or values != 1:
        raise UnreadableFileError(
            str(path),
            f"{' x '.join(map(str, size))} voxels, {values} values a voxel",
            "a volume has three axes and one value a voxel",
            "write each value to a volume of its own",
        )
    if prod(size) > MOST_VOXELS:
        raise UnreadableFileError(
            str(path), f"{prod(size)} voxels", f"at most {MOST_VOXELS} are read", "split it"
        )
    image: SimpleITK.Image = reader.Execute()
    if len(size) == 4:
        image = image[:, :, :, 0]
    return image


def _hidden_nan(path: Path, header: np.void) -> int:
    """Count the NaN and infinite voxels of a NIfTI-1 file, which SimpleITK reads as 0.

    Raises:
        UnreadableFileError: If the file ends before its last voxel, which SimpleITK makes up.
    """
    start = max(_NIFTI.itemsize, int(header["start"]))
    axes = header["dim"][1 : 1 + header["dim"][0]].tolist()
    end = start + prod(axes) * int(header["bits"]) // 8
    content = memoryview(_stored(path, end))
    if len(content) < end:
        raise UnreadableFileError(
            str(path),
            f"it ends at byte {len(content)} of {end}",
            "a whole file is needed",
            "copy it again, or leave it out",
        )
    kind = {16: "f4", 64: "f8"}.get(int(header["kind"]))
    if kind is None:
        return 0
    stored = np.frombuffer(content[start:], header.dtype["start"].str[0] + kind)
    return int((~np.isfinite(stored)).sum())


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as compressed NIfTI, so that it lies exactly where its grid says.

    Args:
        path: Ends in ``.nii.gz``.
        volume: E.g. a heat-map with its CT's ``affine``.
    """
    part = path.with_name(f".{path.name.removesuffix('.nii.gz')}.part.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        SimpleITK.WriteImage(_to_itk(volume), str(part), useCompression=True)
        write_bytes(path, part.read_bytes())
    finally:
        part.unlink(missing_ok=True)


def require_same_grid(volume: Volume, mask: Volume, *, tolerance_mm: float = 0.05) -> None:
    """Refuse a mask that does not lie on its volume's grid, corner by corner.

    Raises:
        InputError: If shape or position differ; the message has both geometries.
    """
    same = volume.values.shape == mask.values.shape
    if same:
        ends = np.array(volume.values.shape) - 1.0
        corners = np.array(np.meshgrid(*([0.0, end] for end in ends))).reshape(3, -1).T
        same = np.abs(volume.to_mm(corners) - mask.to_mm(corners)).max() <= tolerance_mm
    if not same:
        raise InputError(
            mask.source or "mask",
            _geometry(mask),
            f"its volume has {_geometry(volume)}",
            "resample the mask onto its volume's grid",
        )


def _geometry(volume: Volume) -> str:
    """Say a grid in words."""
    shape = " x ".join(map(str, volume.values.shape))
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing_mm)
    first = ", ".join(f"{place:.1f}" for place in volume.affine[:3, 3])
    return f"{shape} voxels of {spacing} mm, {volume.orientation}, the first at ({first}) mm"


def _to_itk(volume: Volume) -> SimpleITK.Image:
    """Hand a volume to SimpleITK, whose axes are the other way round."""
    image = SimpleITK.GetImageFromArray(volume.values.astype(np.float32))
    spacing = np.array(volume.spacing_mm)
    image.SetSpacing(spacing[::-1].tolist())
    direction = (volume.affine[:3, :3] / spacing)[:, ::-1]
    # Dust such as 1e-300 upsets the decomposition by which SimpleITK inverts the direction.
    direction = np.where(np.abs(direction) < 1e-12, 0.0, direction)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image
