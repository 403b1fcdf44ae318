"""What ``inspect`` sees of a volume: its geometry, and the picture that a plan would begin with."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitrail.data.montage import Stack, make_stack
from vitrail.data.raster import RasterInfo
from vitrail.data.scan import is_volume_file, read_scan, scan_bytes
from vitrail.data.volume import Volume
from vitrail.records import Case, VolumeView

_AIR_HU = -500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is kept of a volume.

    Attributes:
        info: As a picture's header would say it; height and width are the slices' own.
        picture: The first view's middle window.
        content: Hash of what the tiles show: the same volume in other files has the same.
        modality: ``CT``, ``MR`` …; ``CT`` where nothing is said and there are values as of air.
        slices: Number of slices, as they are stored.
        spacing_mm: Of (slices, rows, columns), as they are stored.
        orientation: Where they lead, as they are stored.
        repeated: How often the last slice stands in the picture again because there are too few.
    """

    info: RasterInfo
    picture: UInt8[np.ndarray, "1 height width"]
    content: str
    modality: str
    slices: int
    spacing_mm: tuple[float, float, float]
    orientation: str
    repeated: int


def read_stack(case: Case, root: Path, *, view: VolumeView) -> Stack:
    """Read a case's scan and its mask, and turn them into tiles.

    Raises:
        DataError: If the scan forms no volume.
        InputError: If the mask cannot be used.
        UnreadableFileError: If a file cannot be decoded.
    """
    mask = read_scan(root / case.mask) if case.mask else None
    return make_stack(read_scan(root / case.path), view, mask=mask)


def survey(case: Case, root: Path) -> Survey:
    """Read a case's scan and its mask, and look at it the way a plan would begin with.

    Raises:
        DataError: If the scan forms no volume.
        InputError: If the mask lies on another grid or is empty.
        UnreadableFileError: If a file cannot be decoded.
    """
    volume = read_scan(root / case.path)
    mask = read_scan(root / case.mask) if case.mask else None
    modality = modality_of(volume)
    view = first_view(modality, masked=mask is not None, slices=len(volume.values))
    stack = make_stack(volume, view, mask=mask)
    start = stack.evaluation_starts()[0]
    slices, rows, columns = volume.values.shape
    digest = sha256(repr((stack.grid_shape, volume.spacing_mm)).encode())
    digest.update(stack.tiles.tobytes())
    return Survey(
        info=RasterInfo(
            height=rows,
            width=columns,
            channels=1,
            bits=8,
            mode="volume",
            format="volume file" if is_volume_file(case.path) else "DICOM series",
            file_bytes=scan_bytes(root / case.path),
        ),
        picture=stack.picture(start),
        content=digest.hexdigest(),
        modality=modality,
        slices=slices,
        spacing_mm=volume.spacing_mm,
        orientation=volume.orientation,
        repeated=stack.placement(start).repeated,
    )


def modality_of(volume: Volume) -> str:
    """Return what made a volume: as its header says, else CT where there is air in HU."""
    if volume.modality or volume.values[:, ::4, ::4].min() > _AIR_HU:
        return volume.modality
    return "CT"


def first_view(modality: str, *, masked: bool, slices: int) -> VolumeView:
    """Choose how volumes are looked at where nobody has chosen yet.

    Args:
        modality: Of the volumes.
        masked: Whether each has a mask: then consecutive slices around it are shown, else slices
            spread over the volume.
        slices: A usual number of slices.
    """
    view = VolumeView(
        window="lung" if modality == "CT" else "auto", crop="mask" if masked else "whole"
    )
    if masked:
        return view
    return VolumeView(window=view.window, stride=max(1, slices // view.depth), votes=1)
