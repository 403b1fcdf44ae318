"""A generated cohort with a known truth: chest-CT-like slices, some with a planted nodule.

A patient is drawn once (outline, lungs, ribs, spine, heart, vessel trees); each of its slices is
drawn at its own level, so that slices of one patient look alike and patients differ. Nothing but
the place of a compact density tells the class, because all else is drawn alike in both:

- round densities of a nodule's size and grey lie outside the lungs (lymph nodes) in both classes;
- fluid behind the lungs has the nodule's grey, and a slice without a nodule has as much more of it
  as a nodule would cover: total grey is matched, picture by picture;
- vessels cross the slice as bright dots, and the heart holds contrast;
- window, gain and gamma differ from slice to slice, so that no level of grey means a tissue.

Anatomy is drawn in a coordinate frame of the body: x and y from -1 (left, front) to 1.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter

from vitrail.errors import InputError
from vitrail.records import Progress, no_progress
from vitrail.runfolder import write_bytes, write_csv, write_json

Picture = Float[np.ndarray, "row column"]
Mask = Bool[np.ndarray, "row column"]

CLASSES = ("clear", "nodule")
_SUPERSAMPLING = 2
"""Vessels are drawn on a finer grid and averaged, so that their edges are smooth."""

# Displayed grey of each tissue in a lung window widened so that soft tissue keeps its detail.
_AIR, _LUNG, _FAT, _MUSCLE, _BLOOD, _BONE = 0.02, 0.13, 0.42, 0.56, 0.62, 0.92
_DENSE = (0.66, 0.84)
"""Grey of what is dense in one slice: its fluid, its lymph nodes and its nodule alike."""

_RADIUS = (0.1, 0.15)
"""Radius of a nodule or lymph node in half widths of the picture."""

_CONTRAST = (0.5, 0.8)


@dataclass(frozen=True, slots=True)
class _Patient:
    """What all slices of one patient share; lengths are fractions of half the picture."""

    body: tuple[float, float]
    center: tuple[float, float]
    fat: float
    lungs: tuple[tuple[float, float, float, float, float], ...]
    heart: tuple[float, float, float, float]
    ribs: Float[np.ndarray, "rib angle"]
    trees: tuple[Float[np.ndarray, "_ coordinate"], ...]
    noise: float


def _patient(generator: np.random.Generator) -> _Patient:
    """Draw a patient's anatomy."""
    draw = generator.uniform
    body = (draw(0.84, 0.94), draw(0.62, 0.72))
    lungs = tuple(
        (
            side * body[0] * draw(0.44, 0.48),
            draw(-0.05, 0.0),
            body[0] * draw(0.33, 0.37),
            body[1] * draw(0.70, 0.78),
            side * draw(0.05, 0.2),
        )
        for side in (-1.0, 1.0)
    )
    heart = (draw(0.06, 0.16), draw(-0.2, -0.12), draw(0.24, 0.31), draw(0.2, 0.27))
    angles = np.linspace(0, 2 * np.pi, int(generator.integers(13, 17)), endpoint=False)
    ribs = np.stack([angles + draw(-0.1, 0.1), draw(0.1, 0.16, size=len(angles))], axis=1)
    return _Patient(
        body=body,
        center=(draw(-0.03, 0.03), draw(-0.03, 0.03)),
        fat=draw(0.03, 0.08),
        lungs=lungs,
        heart=heart,
        ribs=ribs,
        trees=tuple(_vessel_tree(lung, generator) for lung in lungs),
        noise=draw(0.02, 0.035),
    )


def _vessel_tree(
    lung: tuple[float, float, float, float, float], generator: np.random.Generator
) -> Float[np.ndarray, "segment coordinate"]:
    """Grow a tree of vessels from the hilum outwards.

    Returns:
        A row a segment: x and y of its start, x and y of its end, its width.
    """
    x, y, half_width, half_height, _ = lung
    side = np.sign(x)
    segments = []
    start = (x - side * half_width * 0.95, y + generator.uniform(-0.05, 0.1))
    buds = [
        (*start, angle, 0.03)
        for angle in np.linspace(-1.25, 1.25, 6) + generator.uniform(-0.15, 0.15, size=6)
    ]
    while buds:
        x0, y0, angle, width = buds.pop()
        length = generator.uniform(0.09, 0.17) * (width / 0.03) ** 0.35
        x1 = x0 + side * np.cos(angle) * length * half_width / 0.33
        y1 = y0 + np.sin(angle) * length * half_height / 0.45
        segments.append((x0, y0, x1, y1, width))
        if width > 0.0095:
            spread = generator.uniform(0.25, 0.6, size=2) * (1, -1)
            shrink = generator.uniform(0.6, 0.82, size=2)
            buds += [
                (x1, y1, angle + turn, width * share)
                for turn, share in zip(spread, shrink, strict=True)
            ]
    return np.array(segments)


def _ellipse(
    grid: tuple[Picture, Picture],
    *,
    center: tuple[float, float],
    half: tuple[float, float],
    tilt: float = 0.0,
) -> Picture:
    """Return the squared elliptic distance: 1 on the outline, less inside."""
    x, y = grid[0] - center[0], grid[1] - center[1]
    turned = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    distance: Picture = (turned[0] / half[0]) ** 2 + (turned[1] / half[1]) ** 2
    return distance


def _soft(distance: Picture, *, edge: float = 0.04) -> Picture:
    """Turn a squared elliptic distance into coverage: 1 inside, 0 outside, soft between."""
    return np.clip((1 + edge - distance) / (2 * edge), 0, 1)


def _over(picture: Picture, coverage: Picture, *, value: float | Picture) -> Picture:
    """Lay a tissue over a picture."""
    return picture + coverage * (value - picture)


def _slice(
    patient: _Patient, *, image_size: int, nodule: bool, generator: np.random.Generator
) -> tuple[UInt8[np.ndarray, "row column"], Mask]:
    """Draw one slice of a patient at a level of its own, and where its nodule lies."""
    axis = (np.arange(image_size) + 0.5) / image_size * 2 - 1
    ys, xs = np.meshgrid(axis - patient.center[1], axis - patient.center[0], indexing="ij")
    grid, level = (xs, ys), generator.uniform(-1, 1)
    picture, body, lungs = _chest(patient, grid, level=level)
    texture = gaussian_filter(generator.normal(size=xs.shape), 2.5) * 0.12
    vessels = _vessels(patient, image_size=image_size, level=level, generator=generator)
    picture = _over(picture, lungs, value=_LUNG + 0.35 * texture + 0.05 * (ys + 0.3))
    picture = _over(picture, np.clip(lungs * vessels, 0, 1), value=_BLOOD - 0.04)
    chamber = np.sqrt(generator.uniform(0.0, 0.04))
    blood = _soft(_ellipse(grid, center=patient.heart[:2], half=(chamber, chamber)), edge=0.25)
    picture = _over(picture, blood, value=generator.uniform(*_CONTRAST) + 0.5 * texture)
    grey = generator.uniform(*_DENSE) + 0.5 * texture
    for _ in range(int(generator.integers(1, 4))):
        node = _density(grid, within=(body > 0.5) & (lungs < 0.5), generator=generator)
        picture = _over(picture, node * (1 - lungs), value=grey)
    share, slope = generator.uniform(0.02, 0.22), generator.uniform(-0.3, 0.3)
    depth, amount = ys + slope * xs, share * lungs.sum()
    aerated = (lungs > 0.5) & (_fluid(depth, lungs, amount=amount) < 0.5)
    lesion = lungs * _density(grid, within=aerated, generator=generator)
    if nodule:
        picture = _over(picture, lesion, value=grey)
    else:
        # What the nodule would have covered is covered by fluid instead.
        amount += lesion.sum()
    picture = _over(picture, _fluid(depth, lungs, amount=amount), value=grey)
    grain = gaussian_filter(generator.normal(size=xs.shape), 0.6) * 1.6
    picture = picture + 0.15 * texture * (picture > 0.3) + patient.noise * grain
    return _displayed(picture, generator), (lesion > 0.5) & nodule


def _displayed(picture: Picture, generator: np.random.Generator) -> UInt8[np.ndarray, "row column"]:
    """Show a slice through a window of its own: gamma, gain and offset."""
    shown = picture.clip(0, 1) ** generator.uniform(0.8, 1.25)
    shown = shown * generator.uniform(0.85, 1.05) + generator.uniform(0, 0.06)
    levels: UInt8[np.ndarray, "row column"] = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _fluid(depth: Picture, lungs: Picture, *, amount: float) -> Picture:
    """Fill the lungs from behind until fluid covers ``amount`` pixels of them.

    Args:
        depth: How far behind each pixel lies.
        lungs: Coverage of the lungs.
        amount: Sum of the coverage.

    Returns:
        The coverage of the fluid, with a surface about one pixel thick.
    """
    order = np.argsort(-depth, axis=None)
    filled = np.cumsum(lungs.ravel()[order])
    surface = depth.ravel()[order[min(int(np.searchsorted(filled, amount)), len(order) - 1)]]
    coverage: Picture = lungs * np.clip((depth - surface) / 0.03 + 0.5, 0, 1)
    return coverage


def _chest(
    patient: _Patient, grid: tuple[Picture, Picture], *, level: float
) -> tuple[Picture, Picture, Picture]:
    """Draw all but the lungs' inside: (picture, coverage of the body's wall, of the lungs)."""
    xs, ys = grid
    half_x, half_y = patient.body
    body = _ellipse(grid, center=(0.0, 0.0), half=patient.body)
    wall = _ellipse(grid, center=(0.0, 0.0), half=(half_x - patient.fat, half_y - patient.fat))
    picture = _over(np.full_like(xs, _AIR), _soft(body), value=_FAT)
    picture = _over(picture, _soft(wall), value=_MUSCLE)
    # The table under the patient.
    table = np.exp(-(((ys - half_y - 0.1 - 0.06 * xs**2) / 0.012) ** 2)) * (np.abs(xs) < 0.8)
    picture = _over(picture, table, value=0.3)
    ring = (half_x - patient.fat - 0.075, half_y - patient.fat - 0.07)
    angle = np.arctan2(ys / ring[1], xs / ring[0])
    thin = np.exp(-(((np.sqrt(_ellipse(grid, center=(0.0, 0.0), half=ring)) - 1) / 0.045) ** 2))
    lungs, ribs = np.zeros_like(xs), np.zeros_like(xs)
    for x, y, half_width, half_height, tilt in patient.lungs:
        size = (half_width * (1 - 0.06 * level), half_height * (1 - 0.08 * level))
        lung = _ellipse(grid, center=(x, y), half=size, tilt=tilt)
        lungs = np.maximum(lungs, _soft(lung, edge=0.05))
    for rib_angle, length in patient.ribs:
        apart = (angle - rib_angle - 0.12 * level + np.pi) % (2 * np.pi) - np.pi
        ribs = np.maximum(ribs, np.abs(apart) < length)
    picture = _over(picture, thin * gaussian_filter(ribs, 1), value=_BONE)
    lungs = lungs * _mediastinum(patient, grid, level=level)
    return _spine(patient, grid, picture=picture), _soft(wall), lungs


def _mediastinum(patient: _Patient, grid: tuple[Picture, Picture], *, level: float) -> Picture:
    """Return where heart and aorta leave room for the lungs."""
    x, y, half_width, half_height = patient.heart
    size = (half_width * (1 + 0.15 * level), half_height * (1 + 0.15 * level))
    heart = _soft(_ellipse(grid, center=(x, y), half=size, tilt=0.5), edge=0.05)
    spine_y = patient.body[1] * 0.62
    middle = _soft(_ellipse(grid, center=(0.02, spine_y - 0.2), half=(0.13, 0.3)), edge=0.08)
    room: Picture = (1 - heart) * (1 - middle)
    return room


def _spine(patient: _Patient, grid: tuple[Picture, Picture], *, picture: Picture) -> Picture:
    """Draw vertebra, spinal canal, aorta, trachea and sternum."""
    y = patient.body[1] * 0.62
    outlines = (
        ((0.0, y), (0.13, 0.1), 0.78),
        ((0.0, y + 0.02), (0.1, 0.07), 0.7),
        ((0.0, y + 0.13), (0.05, 0.04), 0.5),
        ((0.0, y + 0.21), (0.035, 0.06), 0.85),
        ((-0.11, y + 0.14), (0.06, 0.025), 0.8),
        ((0.11, y + 0.14), (0.06, 0.025), 0.8),
        ((0.1, y - 0.14), (0.065, 0.065), _BLOOD + 0.03),
        ((0.0, -patient.body[1] + patient.fat + 0.07), (0.1, 0.03), _BONE - 0.1),
    )
    for center, half, value in outlines:
        picture = _over(
            picture, _soft(_ellipse(grid, center=center, half=half), edge=0.2), value=value
        )
    return picture


def _vessels(
    patient: _Patient, *, image_size: int, level: float, generator: np.random.Generator
) -> Picture:
    """Return the coverage of the vessels: branches in the plane, and dots where they cross it."""
    fine = image_size * _SUPERSAMPLING
    canvas = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(canvas)
    to_px = fine / 2
    for tree in patient.trees:
        shown = tree[generator.random(len(tree)) < 0.7 + 0.3 * (tree[:, 4] > 0.02)]
        ends = shown[:, :4] * (1 + 0.03 * level) + np.tile(patient.center, 2)
        for (x0, y0, x1, y1), width in zip((ends + 1) * to_px, shown[:, 4] * to_px, strict=True):
            pen.line((x0, y0, x1, y1), fill=255, width=max(1, round(width)))
        for x, y in ends[generator.integers(0, len(ends), size=5), 2:]:
            radius = generator.uniform(0.012, 0.026) * to_px
            x_px, y_px = (x + 1) * to_px, (y + 1) * to_px
            box = (x_px - radius, y_px - radius, x_px + radius, y_px + radius)
            pen.ellipse(box, fill=255)
    coarse = canvas.resize((image_size, image_size), Image.Resampling.BOX)
    coverage: Picture = gaussian_filter(np.asarray(coarse, dtype=np.float64) / 255, 0.5)
    return coverage


def _density(
    grid: tuple[Picture, Picture], *, within: Mask, generator: np.random.Generator
) -> Picture:
    """Draw a lobulated density at a place where all of it lies within, if there is one."""
    radius = generator.uniform(*_RADIUS)
    pixel = grid[0][0, 1] - grid[0][0, 0]
    room = distance_transform_edt(within) * pixel
    places = np.flatnonzero(room >= min(1.2 * radius, room.max()))
    place = places[int(generator.integers(len(places)))]
    xs, ys = grid[0] - grid[0].flat[place], grid[1] - grid[1].flat[place]
    direction = np.arctan2(ys, xs)
    lobes = 1 + sum(
        generator.uniform(0, 0.1) * np.cos(k * direction + generator.uniform(0, 2 * np.pi))
        for k in (2, 3, 5)
    )
    return _soft((xs**2 + ys**2) / (radius * lobes) ** 2, edge=0.25)


def _png(pixels: UInt8[np.ndarray, "row column"]) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def chest_slices(
    folder: Path,
    *,
    cases: int,
    seed: int = 0,
    image_size: int = 192,
    slices_a_patient: int = 4,
    progress: Progress = no_progress,
) -> None:
    """Write a cohort of chest-CT-like slices whose truth is known.

    ::

        folder/clear/…png  nodule/…png  masks/nodule/…png  manifest.csv  truth.json

    Half of the patients have a nodule, in every slice; the other half have none.

    Args:
        folder: Where to write.
        cases: Number of slices.
        seed: Of everything drawn; a patient depends on it and on its own number alone.
        image_size: Rows and columns in pixels.
        slices_a_patient: Slices drawn of one anatomy.
        progress: Told after each slice.

    Raises:
        InputError: If there are fewer cases than two patients have.
    """
    if cases < 2 * slices_a_patient:
        raise InputError(
            "cases",
            str(cases),
            f"two patients of {slices_a_patient} slices are the least",
            f"pass at least {2 * slices_a_patient}",
        )
    rows: list[dict[str, str]] = []
    truth: dict[str, object] = {}
    for case in range(cases):
        number, level = divmod(case, slices_a_patient)
        label = CLASSES[number % 2]
        patient = _patient(np.random.default_rng([seed, number]))
        pixels, mask = _slice(
            patient,
            image_size=image_size,
            nodule=label == "nodule",
            generator=np.random.default_rng([seed, number, level]),
        )
        name = f"{label}/patient{number:04d}-slice{level}.png"
        write_bytes(folder / name, _png(pixels))
        row = {"path": name, "label": label, "patient": f"patient{number:04d}", "mask": ""}
        if mask.any():
            row["mask"] = f"masks/{name}"
            write_bytes(folder / "masks" / name, _png(mask.astype(np.uint8) * 255))
            truth[name] = _nodule_truth(mask)
        rows.append(row)
        progress("drawing slices", done=case + 1, total=cases)
    write_csv(folder / "manifest.csv", rows, header=("path", "label", "patient", "mask"))
    parameters = {"cases": cases, "seed": seed, "image_size": image_size}
    write_json(
        folder / "truth.json",
        {"generator": "chest_slices", "parameters": parameters, "nodules": truth},
    )


def _nodule_truth(mask: Mask) -> dict[str, float]:
    """Tell where a mask's nodule lies, in pixels."""
    rows, columns = np.nonzero(mask)
    return {
        "row_px": round(float(rows.mean()), 2),
        "column_px": round(float(columns.mean()), 2),
        "diameter_px": round(float(2 * np.sqrt(mask.sum() / np.pi)), 2),
    }
