"""What a run keeps of volumes: montages with numbered slices, and heat-maps over the scans."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from vitrail.data.montage import Stack, make_stack
from vitrail.data.scan import holds_dicom, is_scan, list_scans, read_scan, scan_name
from vitrail.data.stacks import VolumeDataset
from vitrail.data.survey import first_view, modality_of
from vitrail.data.volume import ENDINGS, write_nifti
from vitrail.records import Case, Preprocessing, Progress
from vitrail.report.pictures import register
from vitrail.runfolder import RunFolder, file_name, write_bytes

_SHOWN_PX = 384


def keep_montage(run: RunFolder, case_id: str, *, stack: Stack) -> None:
    """Write the middle picture of a case, each slice with its number, and its mask."""
    start = stack.evaluation_starts()[0]
    write_bytes(run.picture(case_id), draw(stack, start))
    inside = stack.mask_picture(start)
    if inside is not None:
        shown = Image.fromarray(inside.astype(np.uint8) * 255).resize(_size(stack))
        write_bytes(run.mask(case_id), _png(shown))


def keep_first_view(run: RunFolder, case: Case, *, root: Path) -> None:
    """Write a case's picture as a plan would begin with, before there is a plan."""
    volume = read_scan(root / case.path)
    mask = read_scan(root / case.mask) if case.mask else None
    view = first_view(modality_of(volume), masked=bool(case.mask), slices=len(volume.values))
    keep_montage(run, case.case_id, stack=make_stack(volume, view, mask=mask))


def draw(stack: Stack, start: int) -> bytes:
    """Draw a window's picture as PNG, each slice with its number, counted from 1."""
    pixels = stack.picture(start)
    grey = Image.fromarray(pixels[len(pixels) // 2])
    picture = grey.resize(_size(stack), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    columns = stack.view.grid if stack.view.mode == "montage" else 1
    side = picture.width // columns
    shown = stack.shown(start).tolist() if stack.view.mode == "montage" else []
    for place, number in enumerate(shown):
        row, column = divmod(place, columns)
        corner = (column * side + 3, row * side + 2)
        pen.text(corner, f"{number + 1}", fill=255, stroke_width=1, stroke_fill=0)
    return _png(picture)


def _size(stack: Stack) -> tuple[int, int]:
    """Enlarge a picture by a whole factor, so that numbers can be read."""
    size = stack.view.picture_px * max(1, _SHOWN_PX // stack.view.picture_px)
    return size, size


def _png(picture: Image.Image) -> bytes:
    stream = BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def placement_facts(cases: VolumeDataset, index: int) -> dict[str, object]:
    """Say which slices a case's picture shows, and where they lie, for the map's JSON."""
    stack = cases.stack(index)
    placement = stack.placement(cases.start(index))
    return {
        "source_size": [stack.view.picture_px, stack.view.picture_px],
        "volume": {
            "slices": [number + 1 for number in placement.slices],
            "repeated": placement.repeated,
            "affine_lps_mm": placement.affine.tolist(),
            "grid_shape": list(stack.grid_shape),
        },
    }


def write_heatmap(
    path: Path,
    values: Float[np.ndarray, "window row column"],
    *,
    cases: VolumeDataset,
    index: int,
) -> None:
    """Write the maps of every evaluation window of a case as one NIfTI exactly over its scan.

    Args:
        path: Its ending is replaced by ``.nii.gz``.
        values: On the model's grid, raw, one map a window; where windows overlap, their mean.
        cases: The dataset that the windows are of.
        index: Of the case in it.
    """
    stack = cases.stack(index)
    size = (stack.view.picture_px, stack.view.picture_px)
    lying = [
        register(one, preprocessing=cases.preprocessing, source_size=size, shown_size=size)
        for one in values
    ]
    over = stack.to_volume(np.array(lying, dtype=np.float32), stack.evaluation_starts())
    write_nifti(path.with_suffix(".nii.gz"), over)


def beside(path: Path) -> str:
    """Return the mask that lies beside a new scan (``NAME.mask.nii.gz``); empty if none does."""
    stem = scan_name(str(path))
    found = (Path(f"{stem}.mask{ending}") for ending in ENDINGS)
    return next((str(mask.resolve()) for mask in found if mask.is_file()), "")


def one_case(path: Path, *, preprocessing: Preprocessing, classes: Sequence[str]) -> VolumeDataset:
    """Make a dataset of one new scan, whose label nobody knows."""
    path = path.resolve()
    case = Case(case_id=file_name(str(path)), path=str(path), label=classes[0], mask=beside(path))
    return VolumeDataset([case], path.parent, preprocessing=preprocessing, classes=classes)


def unlabelled(folder: Path) -> list[Path]:
    """List the scans of a path that is one itself; none where it is a folder of class folders."""
    if folder.is_dir():
        files = [entry.name for entry in folder.iterdir() if entry.is_file()]
        return list_scans(folder) if holds_dicom(folder, files) else []
    return [folder] if is_scan(folder) else []


def look(run: RunFolder, scans: Sequence[Path], *, progress: Progress) -> dict[str, Any]:
    """Describe scans that have no labels, and draw each as a montage.

    Args:
        run: Gets ``pictures``.
        scans: The scans.
        progress: Told of each file.
    """
    rows: list[Mapping[str, Any]] = []
    said: list[str] = []
    for path in scans:
        volume = read_scan(path, progress=progress)
        modality = modality_of(volume)
        view = first_view(modality, masked=False, slices=len(volume.values))
        picture = run.picture(path.name)
        stack = make_stack(volume, view)
        write_bytes(picture, draw(stack, stack.evaluation_starts()[0]))
        low, high = float(volume.values.min()), float(volume.values.max())
        row = {
            "path": str(path),
            "modality": modality,
            "shape": list(volume.values.shape),
            "spacing_mm": list(volume.spacing_mm),
            "orientation": volume.orientation,
            "first_voxel_mm": volume.affine[:3, 3].tolist(),
            "range": [low, high],
            "window": view.window,
            "picture": str(picture),
        }
        rows.append(row)
        shape = " x ".join(map(str, volume.values.shape))
        spacing = " x ".join(f"{step:.3g}" for step in volume.spacing_mm)
        said.append(
            f"{path}: {modality or 'unknown modality'}, {shape} voxels of {spacing} mm (slices, "
            f"rows, columns), {volume.orientation}, values {low:.0f} to {high:.0f}; {picture}"
        )
    said.append("no labels: to train, put series into class folders or pass --manifest")
    return {"scans": rows, "summary": said}
