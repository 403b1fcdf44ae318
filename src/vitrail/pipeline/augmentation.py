"""What augmentation makes of the training pictures, as grids that the report shows."""

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitrail.data.augment import KINDS, preset
from vitrail.data.loader import PictureDataset
from vitrail.data.stacks import dataset_of
from vitrail.pipeline.choices import Plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.pictures import png
from vitrail.records import Cohort, Preprocessing
from vitrail.runfolder import RunFolder, write_bytes

VIEWS = 5
_ROWS, _TILE_PX, _GAP_PX = 3, 96, 4


def keep_grids(run: RunFolder, plan: Plan, *, cohort: Cohort, folds: Folds) -> None:
    """Write a grid for each preset: a training picture of each class as it is, then augmented.

    The first row and seed of the plan's own preset are what the first epochs see.

    Args:
        run: Takes ``augmentation/<preset>.png``; grids that are there are left alone.
        plan: Its preprocessing and its seed.
        cohort: The cases.
        folds: The training pictures are those of the first fold.
    """
    trained = [case for case in cohort if folds.each[0][case.case_id] == "train"]
    labels = sorted({case.label for case in trained})[:_ROWS]
    shown = [next(case for case in trained if case.label == label) for label in labels]
    for kind in KINDS:
        path = run.augmentation(kind)
        if path.exists() or kind == "none":
            continue
        pictures = dataset_of(plan.preprocessing)(
            shown,
            cohort.root,
            preprocessing=plan.preprocessing,
            classes=cohort.classes,
            augment=preset(kind),
            seed=plan.seed.value,
        )
        write_bytes(path, png(_grid(pictures)))


def _grid(pictures: PictureDataset) -> Image.Image:
    """Lay the pictures out, a row each: as it is, then as the first epochs see it."""
    step = _TILE_PX + _GAP_PX
    size = (step * (VIEWS + 1) - _GAP_PX, step * len(pictures) - _GAP_PX)
    grid = Image.new("RGB", size, "white")
    for row in range(len(pictures)):
        tiles = [pictures.pixels(row) / 255]
        for epoch in range(VIEWS):
            pictures.set_epoch(epoch)
            tiles.append(_shown(pictures[row][0], pictures.preprocessing))
        for column, tile in enumerate(tiles):
            grid.paste(_drawn(tile), (column * step, row * step))
    return grid


def _shown(
    image: Float[Tensor, "channel row column"], preprocessing: Preprocessing
) -> Float[np.ndarray, "channel row column"]:
    """Take the normalization back."""
    mean, std = (
        np.array(part).reshape(-1, 1, 1) for part in (preprocessing.mean, preprocessing.std)
    )
    values: Float[np.ndarray, "channel row column"] = image.numpy() * std + mean
    return values


def _drawn(tile: Float[np.ndarray, "channel row column"]) -> Image.Image:
    """Draw a tile in its square, its proportions kept."""
    pixels = np.rint(tile.clip(0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
    picture = picture.convert("RGB")
    picture.thumbnail((_TILE_PX, _TILE_PX))
    square = Image.new("RGB", (_TILE_PX, _TILE_PX), "black")
    square.paste(picture, ((_TILE_PX - picture.width) // 2, (_TILE_PX - picture.height) // 2))
    return square
