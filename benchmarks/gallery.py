"""Draw one case by every method, control maps beside: ``python benchmarks/gallery.py``.

The picture is one whose cause is known: a motif planted in noise (``vitrail.faithfulness.planted``)
and a tiny Vision Transformer that has learned to tell the motifs. Maps are drawn patch by patch,
as they are, each with its own color scale; the planted patches are framed.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vitrail.color import colorize
from vitrail.explain import explain, methods
from vitrail.faithfulness.controls import control_maps
from vitrail.faithfulness.planted import PATCH_PX, plant, train_tiny_vit

SCALE = 3
COLUMNS = 7
CAPTION_PX = 18
PAGE = Path(__file__).parents[1] / "docs" / "images" / "methods.png"


def draw(values: np.ndarray, *, signed: bool) -> np.ndarray:
    """Color a map [row, column] as [height, width, 3], one square a patch."""
    top = np.abs(values).max() or 1.0
    fractions = values / top / 2 + 0.5 if signed else np.clip(values, 0, None) / top
    colors = colorize(fractions, "diverging" if signed else "sequential")
    side = PATCH_PX * SCALE
    return np.asarray(colors, np.uint8).repeat(side, axis=0).repeat(side, axis=1)


def framed(picture: np.ndarray, cause: np.ndarray, caption: str) -> Image.Image:
    """Frame the planted patches and write the caption under the picture."""
    height, width = picture.shape[:2]
    tile = Image.new("RGB", (width, height + CAPTION_PX), "white")
    tile.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(tile)
    rows, columns = cause.nonzero()
    side = PATCH_PX * SCALE
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    pen.rectangle([edge * side for edge in box], outline=(0, 220, 90), width=2)
    pen.text((2, height + 3), caption, fill="black")
    return tile


def main() -> None:
    model = train_tiny_vit(seed=0, evidence="presence")
    pictures = plant(64, seed=7)
    several = pictures.present.sum(dim=1) >= 2  # other motifs beside: only the asked one is right
    sizes = pictures.causes.sum(dim=(2, 3))
    case = int((several & (sizes[:, 0] == 4)).nonzero()[0])
    image, cause = pictures.images[case : case + 1], pictures.causes[case, 0].numpy()
    grey = image[0, 0].numpy()
    grey = np.uint8(255 * (grey - grey.min()) / np.ptp(grey)).repeat(SCALE, 0).repeat(SCALE, 1)
    tiles = [framed(np.stack([grey] * 3, axis=-1), cause, "picture; asked for the framed")]
    for name, method in methods().items():
        more = {"masks": 400} if name == "rise" else {}
        question = {"target": 0} if method.class_specific else {}
        found = explain(model, image, method=name, **question, **more)
        drawn = draw(found.values[0].numpy(), signed=found.signed)
        tiles.append(framed(drawn, cause, name.replace("_", " ")))
    for name, control in control_maps(image, (8, 8), seed=0).items():
        values = np.asarray(control)[0]
        tiles.append(framed(draw(values, signed=False), cause, f"control: {name}"))
    width, height = tiles[0].size
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + 6), rows * (height + 6)), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        sheet.paste(tile, (column * (width + 6) + 3, row * (height + 6) + 3))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(PAGE, optimize=True)
    print(f"{PAGE}: {PAGE.stat().st_size / 1e3:.0f} kB, {torch.__version__}")


if __name__ == "__main__":
    main()
