"""The picture as a Vision Transformer receives it: resized to its input and cut into patches.

Between the patches lie real gaps, not lines drawn over pixels: every pixel of the input is shown,
in its patch, and nothing is covered.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.records import Preprocessing
from vitrail.report.contents import Contents
from vitrail.report.pictures import data_uri, read_picture

PATCH_PX = 16
"""Patch size where no model is known yet: that of most published transformers."""

USUAL = Preprocessing(image_size=(224, 224), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
"""Input where no model is known yet: 224 x 224 px."""

_MOST = 4
_LONGEST_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """One picture cut into patches.

    Attributes:
        case_id: The case.
        label: Its class.
        picture: The mosaic, inlined.
        size: (width, height) of the mosaic in px.
        grid_size: (rows, columns) of patches.
        patch_px: Side of a patch in px of the input.
        image_size: (rows, columns) of the input in px.
    """

    case_id: str
    label: str
    picture: str
    size: tuple[int, int]
    grid_size: tuple[int, int]
    patch_px: int
    image_size: tuple[int, int]


def patch_mosaic(
    picture: Image.Image,
    *,
    preprocessing: Preprocessing = USUAL,
    patch_px: int = PATCH_PX,
    gap_px: int = 3,
) -> Image.Image:
    """Cut a picture into the patches of a model's input, and lay them apart.

    Args:
        picture: The source picture, grey or color.
        preprocessing: How the picture becomes the input; its channels and scaling are left out.
        patch_px: Side of a patch in px of the input.
        gap_px: Width of the transparent gap between two patches.

    Returns:
        RGBA; pixels that no whole patch holds are left out, as the model leaves them out.
    """
    rows, columns = preprocessing.image_size
    top, left, bottom, right = preprocessing.source_box(picture.height, picture.width)
    resized = picture.convert("RGB").resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    level = round(255 * preprocessing.fill)
    whole = Image.new("RGB", (columns, rows), (level,) * 3)
    whole.paste(resized, (left, top))
    pixels = np.asarray(whole)
    grid = rows // patch_px, columns // patch_px
    step = patch_px + gap_px
    apart = np.zeros((grid[0] * step - gap_px, grid[1] * step - gap_px, 4), dtype=np.uint8)
    for row in range(grid[0]):
        for column in range(grid[1]):
            patch = pixels[row * patch_px :, column * patch_px :][:patch_px, :patch_px]
            place = apart[row * step :, column * step :][:patch_px, :patch_px]
            place[..., :3], place[..., 3] = patch, 255
    return Image.fromarray(apart)


def mosaics(contents: Contents) -> tuple[Mosaic, ...]:
    """Cut a picture of each class as the run's transformer does, or as usual before it exists."""
    preprocessing, patch_px = _input_of(contents)
    rows, columns = preprocessing.image_size
    made: list[Mosaic] = []
    for label in contents.classes[:_MOST]:
        case_id = _first_shown(contents, label)
        if case_id is None:
            continue
        picture = read_picture(contents.run.picture(case_id), longest=_LONGEST_PX)
        drawing = patch_mosaic(picture, preprocessing=preprocessing, patch_px=patch_px)
        made.append(
            Mosaic(
                case_id=case_id,
                label=label,
                picture=data_uri(drawing, lossless=True),
                size=drawing.size,
                grid_size=(rows // patch_px, columns // patch_px),
                patch_px=patch_px,
                image_size=(rows, columns),
            )
        )
    return tuple(made)


def _first_shown(contents: Contents, label: str) -> str | None:
    """Find the first case of a class whose picture the run folder holds."""
    return next(
        (
            case_id
            for case_id, row in contents.cases.items()
            if row.get("label") == label and contents.run.picture(case_id).is_file()
        ),
        None,
    )


def _input_of(contents: Contents) -> tuple[Preprocessing, int]:
    """Tell how the run's transformer takes a picture in, and the side of its patches."""
    for training in contents.trainings:
        preprocessing = contents.preprocessing(training.model)
        patch_px = _patch_px(training.about.get("architecture"))
        if preprocessing is not None and patch_px is not None:
            return preprocessing, patch_px
    return USUAL, PATCH_PX


def _patch_px(about: object) -> int | None:
    """Read the patch size of a model's record, or of its published name; None without patches."""
    if not isinstance(about, dict):
        return None
    parameters = about.get("parameters") or {}
    size = parameters.get("patch_size")
    if isinstance(size, Sequence) and len(set(size)) == 1:
        size = size[0]
    if isinstance(size, int):
        return size
    named = re.search(r"patch(\d+)", str(about.get("architecture", "")))
    return int(named.group(1)) if named else None
