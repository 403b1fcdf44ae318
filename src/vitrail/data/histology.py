"""Generated H&E-like tiles of six tissues, from several slides: the form of the Kather 2016 set.

A tile is two maps of optical density, hematoxylin (nuclei) and eosin (the rest), turned into color
by the law of Beer and Lambert. What tells the tissues apart is what a pathologist would look at:
size, shape and crowding of nuclei, fibers, glands, fat cells. Each slide has stains, brightness and
sharpness of its own, shared by its tiles of every tissue, so that leaving slides out is harder than
leaving tiles out. Lengths are pixels of a tile of 150, about half a micrometer each.

Source:
    ruifrok2001 (separable stains; the vectors are near its); kather2016 (the form: tiles of 150
    px, ten slides).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from vitrail.errors import InputError
from vitrail.records import SPLITS, Progress, no_progress
from vitrail.runfolder import write_bytes, write_csv, write_json

Density = Float[np.ndarray, "row column"]

SIZE = 150
_HEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.13, 0.94, 0.32])
_LEAST_SIZE = 48


class _Tile:
    """Optical densities of one tile while it is drawn.

    Attributes:
        hematoxylin: Density of the nuclear stain.
        eosin: Density of the other stain.
        nuclei: Number of nuclei drawn so far.
    """

    def __init__(self, generator: np.random.Generator, size: int) -> None:
        self.generator, self.size = generator, size
        self.rows, self.columns = np.mgrid[:size, :size].astype(np.float64)
        self.hematoxylin = np.full((size, size), 0.04)
        self.eosin = np.zeros((size, size))
        self.nuclei = 0

    def noise(self, scale: float) -> Density:
        """Draw smooth noise of unit deviation, its spots about ``scale`` pixels wide."""
        smooth = gaussian_filter(self.generator.standard_normal((self.size, self.size)), scale)
        centered: Density = smooth - smooth.mean()
        return centered / max(float(centered.std()), 1e-12)

    def points(self, spacing: float, *, jitter: float) -> Float[np.ndarray, "point 2"]:
        """Scatter points over the tile, on a lattice that is shaken."""
        steps = np.arange(-spacing, self.size + spacing, spacing)
        lattice = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        shaken: Float[np.ndarray, "point 2"] = lattice + self.generator.uniform(
            -jitter * spacing, jitter * spacing, lattice.shape
        )
        return shaken

    def nucleus(
        self,
        center: Float[np.ndarray, " 2"],
        radii: tuple[float, float],
        *,
        angle: float,
        density: float,
    ) -> None:
        """Draw one nucleus: a soft ellipse with its chromatin, darker at the rim."""
        reach = int(max(radii) + 2)
        top, left = (max(0, int(value) - reach) for value in center)
        bottom, right = (min(self.size, int(value) + reach + 1) for value in center)
        if top >= bottom or left >= right:
            return
        place = np.s_[top:bottom, left:right]
        down, across = self.rows[place] - center[0], self.columns[place] - center[1]
        along = across * np.cos(angle) + down * np.sin(angle)
        beside = down * np.cos(angle) - across * np.sin(angle)
        distance = np.hypot(along / radii[0], beside / radii[1])
        inside = np.clip((1.08 - distance) * min(radii) / 1.2, 0, 1)
        chromatin = 0.8 + 0.25 * distance + 0.14 * self.generator.standard_normal(distance.shape)
        self.hematoxylin[place] = np.maximum(self.hematoxylin[place], inside * density * chromatin)
        self.eosin[place] *= 1 - 0.5 * inside
        self.nuclei += 1


def _tumor(tile: _Tile) -> None:
    """Draw crowded, large, uneven nuclei in nests with narrow clefts."""
    draw = tile.generator.uniform
    nests = tile.noise(15.0) > -0.95
    tile.eosin += np.where(nests, 0.34 + 0.05 * tile.noise(3.0), 0.14 + 0.04 * tile.noise(2.0))
    for center in tile.points(draw(10.5, 13), jitter=0.35):
        row, column = np.clip(center.astype(int), 0, tile.size - 1)
        if not nests[row, column] or draw() < 0.06:
            continue
        long = draw(4.2, 7.2)
        radii = (long, long * draw(0.6, 0.95))
        tile.nucleus(center, radii, angle=draw(0, np.pi), density=draw(0.6, 1.25))


def _stroma(tile: _Tile) -> None:
    """Draw wavy fibers that run one way, with few thin nuclei along them."""
    draw = tile.generator.uniform
    angle = draw(0, np.pi)
    across = (
        tile.rows * np.cos(angle) - tile.columns * np.sin(angle) + draw(4, 9) * tile.noise(16.0)
    )
    profile = gaussian_filter(tile.generator.standard_normal(6 * tile.size), 1.6)
    place = (across - across.min())[None]
    fibers = map_coordinates(profile / profile.std(), place, order=1, mode="wrap")
    tile.eosin += np.clip(0.44 + 0.13 * fibers + 0.04 * tile.noise(1.0), 0.08, None)
    for center in tile.points(draw(26, 36), jitter=0.5):
        radii = (draw(6, 10), draw(1.6, 2.5))
        turned = angle + draw(-0.25, 0.25)
        tile.nucleus(center, radii, angle=turned, density=draw(0.8, 1.3))


def _lymphocytes(tile: _Tile) -> None:
    """Draw a dense field of small, round, dark nuclei with hardly any cytoplasm."""
    draw = tile.generator.uniform
    tile.eosin += 0.13 + 0.04 * tile.noise(4.0)
    for center in tile.points(draw(7.4, 8.6), jitter=0.45):
        if draw() < 0.08:
            continue
        radius = draw(2.9, 3.7)
        tile.nucleus(center, (radius, radius * draw(0.88, 1)), angle=0.0, density=draw(1.2, 1.8))


def _mucosa(tile: _Tile) -> None:
    """Draw round glands: a lumen, goblet vacuoles, and a ring of nuclei at the base."""
    draw = tile.generator.uniform
    tile.eosin += 0.30 + 0.07 * tile.noise(3.0)
    for center in tile.points(11.0, jitter=0.5):
        if draw() < 0.35:
            tile.nucleus(center, (3.0, 2.7), angle=0.0, density=draw(0.9, 1.4))
    for center in tile.points(draw(50, 62), jitter=0.14):
        _gland(tile, center, radius=draw(20, 25))


def _gland(tile: _Tile, center: Float[np.ndarray, " 2"], *, radius: float) -> None:
    """Draw one gland over what is there."""
    draw = tile.generator.uniform
    away = np.hypot(tile.rows - center[0], tile.columns - center[1]) + 1.2 * tile.noise(8.0)
    inside = np.clip(radius + 1 - away, 0, 1)
    tile.hematoxylin *= 1 - inside
    tile.eosin += inside * (0.24 - tile.eosin)
    turns = np.arange(0, 2 * np.pi, 5.2 / radius) + draw(0, 1)
    for turn in turns + tile.generator.normal(0, 0.04, len(turns)):
        outward = np.array([np.sin(turn), np.cos(turn)])
        if draw() < 0.45:
            spot = center + outward * radius * draw(0.55, 0.68)
            vacuole = np.hypot(tile.rows - spot[0], tile.columns - spot[1]) < draw(2.0, 3.2)
            tile.eosin[vacuole] *= 0.3
        base = center + outward * radius * draw(0.84, 0.92)
        tile.nucleus(base, (draw(3.4, 4.4), 2.1), angle=turn, density=draw(0.8, 1.2))
    lumen = np.clip(radius * draw(0.3, 0.45) - away, 0, 1)
    tile.eosin *= 1 - 0.92 * lumen


def _adipose(tile: _Tile) -> None:
    """Draw large empty fat cells with thin walls and a nucleus here and there at a wall."""
    draw = tile.generator.uniform
    centers = tile.points(draw(38, 52), jitter=0.35)
    places = np.stack([tile.rows, tile.columns], axis=-1) + 1.5 * np.stack(
        [tile.noise(7.0), tile.noise(7.0)], axis=-1
    )
    distances, _ = cKDTree(centers).query(places, k=2)
    apart = distances[..., 1] - distances[..., 0]
    tile.eosin += 0.03 + 0.55 * np.clip(1.6 - apart / draw(1.6, 2.4), 0, 1)
    walls = np.argwhere(apart < 1.5).astype(np.float64)
    for center in tile.generator.permutation(walls)[: int(draw(3, 9))]:
        tile.nucleus(center, (draw(3.5, 6), 1.7), angle=draw(0, np.pi), density=draw(0.9, 1.3))


def _debris(tile: _Tile) -> None:
    """Draw shapeless remains: patchy eosin, a blue haze, and dark dust instead of nuclei."""
    draw = tile.generator.uniform
    patches = 0.33 + 0.16 * tile.noise(2.2) + 0.13 * tile.noise(9.0)
    tile.eosin += np.clip(patches, 0.02, None)
    tile.hematoxylin += np.clip(0.08 + 0.08 * tile.noise(10.0), 0, None)
    for center in tile.points(draw(9, 14), jitter=0.5):
        if draw() < 0.5:
            radii = (draw(0.8, 2.2), draw(0.6, 1.4))
            tile.nucleus(center, radii, angle=draw(0, np.pi), density=draw(0.7, 1.6))
    tile.nuclei = 0


TISSUES: dict[str, Callable[[_Tile], None]] = {
    "adipose": _adipose,
    "debris": _debris,
    "lymphocytes": _lymphocytes,
    "mucosa": _mucosa,
    "stroma": _stroma,
    "tumor": _tumor,
}
"""The classes, and what draws each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """What all tiles of one slide share.

    Attributes:
        name: As it stands in the tiles' names.
        hematoxylin: Factor on the nuclear stain.
        eosin: Factor on the other stain.
        white: Red, green and blue of the empty slide.
        blur_px: Of the optics.
    """

    name: str
    hematoxylin: float
    eosin: float
    white: tuple[float, float, float]
    blur_px: float


def _slide(number: int, generator: np.random.Generator) -> Slide:
    """Draw a slide."""
    draw = generator.uniform
    white = np.clip(draw(0.9, 0.98) + generator.normal(0, 0.012, size=3), 0, 1)
    return Slide(
        name=f"Phantom-HE-{number + 1:02}",
        hematoxylin=draw(0.75, 1.25),
        eosin=draw(0.7, 1.35),
        white=(float(white[0]), float(white[1]), float(white[2])),
        blur_px=draw(0.4, 0.9),
    )


def _color(tile: _Tile, slide: Slide) -> UInt8[np.ndarray, "row column 3"]:
    """Turn densities into the color that a camera sees through them."""
    stains = slide.hematoxylin * tile.hematoxylin[..., None] * _HEMATOXYLIN
    density = stains + slide.eosin * np.clip(tile.eosin, 0, None)[..., None] * _EOSIN
    light = np.asarray(slide.white) * np.exp(-density)
    seen = gaussian_filter(light, (slide.blur_px, slide.blur_px, 0))
    seen += tile.generator.normal(0, 0.012, seen.shape)
    pixels: UInt8[np.ndarray, "row column 3"] = np.rint(255 * seen.clip(0, 1)).astype(np.uint8)
    return pixels


def tissue_tiles(
    folder: Path,
    *,
    counts: tuple[int, int, int] = (425, 100, 100),
    slides: int = 10,
    seed: int = 0,
    image_size: int = SIZE,
    progress: Progress = no_progress,
) -> Path:
    """Write tiles of six tissues, with a manifest and the truth.

    Args:
        folder: Takes ``<tissue>/<slide>_<number>.png``, ``manifest.csv`` (``path, label, site,
            split``; the site is the slide, the split is tile by tile, as in the courses on the
            Kather set) and ``truth.json`` (parameters, slides, nuclei of each tile).
        counts: Tiles a tissue for train, validation and test.
        slides: Number of slides.
        seed: The same seed gives the same bytes.
        image_size: Rows and columns; a smaller tile shows less tissue, not smaller cells.
        progress: Told of each tile.

    Returns:
        The manifest.

    Raises:
        InputError: If a number is too small.
    """
    for name, value, least in (
        ("counts", min(counts), 1),
        ("slides", slides, 2),
        ("image_size", image_size, _LEAST_SIZE),
    ):
        if value < least:
            raise InputError(name, str(value), f"it is at least {least}", f"pass {least} or more")
    sources = [_slide(n, np.random.default_rng([seed, 1, n])) for n in range(slides)]
    parts = [part for part, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    rows, truth = [], {}
    for place, (tissue, draw) in enumerate(TISSUES.items()):
        for number, part in enumerate(parts):
            generator = np.random.default_rng([seed, 2, place, number])
            slide = sources[int(generator.integers(slides))]
            tile = _Tile(generator, image_size)
            draw(tile)
            path = f"{tissue}/{slide.name}_{number:04}.png"
            write_bytes(folder / path, _png(_color(tile, slide)), durable=False)
            rows.append({"path": path, "label": tissue, "site": slide.name, "split": part})
            truth[path] = {"tissue": tissue, "slide": slide.name, "nuclei": tile.nuclei}
            done = place * len(parts) + number + 1
            progress("drawing tiles", done=done, total=len(parts) * len(TISSUES))
    parameters = {"counts": counts, "slides": slides, "seed": seed, "image_size": image_size}
    content = {"parameters": parameters, "slides": [asdict(s) for s in sources], "tiles": truth}
    write_json(folder / "truth.json", content)
    write_csv(folder / "manifest.csv", rows, header=("path", "label", "site", "split"))
    return folder / "manifest.csv"


def _png(pixels: UInt8[np.ndarray, "row column 3"]) -> bytes:
    """Encode a tile without loss."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()
