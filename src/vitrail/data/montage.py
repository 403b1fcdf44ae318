"""A volume becomes a picture, and every pixel of the picture keeps its way back to the patient.

::

    Volume ─ orientation, spacing, window, crop ─► Stack of tiles ─ window of slices ─► picture
       ▲                                                                                   │
       └── heat-map volume on the volume's own grid ◄── tiles ◄── a map on the picture ────┘

A stack is the whole volume, slice by slice, each cropped to a square and brought to a tile's size:
small, 8 bits, and all that training ever needs of the file. Its ``affine`` takes a tile's pixel to
mm, so the way back is arithmetic and one resampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from PIL import Image

from vitrail.data.volume import Volume, onto, reorient, require_same_grid, resample
from vitrail.data.window import Window, find_window, window
from vitrail.errors import InputError
from vitrail.records import VolumeView

Edges = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, as Pillow counts them."""


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A rectangle of a slice in voxels, in fractions; it may reach beyond the slice."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where the pixels of one picture lie.

    Attributes:
        view: How the picture was made.
        slices: The stack's slices that it shows, in order; the last may stand several times.
        affine: Takes (slice, tile row, tile column, 1) of the stack to mm, LPS.
        brightest: In a projection, which of the slices each pixel came from.
    """

    view: VolumeView
    slices: tuple[int, ...]
    affine: Float[np.ndarray, "4 4"]
    brightest: Int[np.ndarray, "row column"] | None = None

    @property
    def repeated(self) -> int:
        """How often the last slice was repeated because the volume is short."""
        return len(self.slices) - len(set(self.slices))

    def to_stack(self, pixels: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 3"]:
        """Take (row, column) of the picture to (slice, tile row, tile column).

        A pixel of three channels is said to lie in the middle one's slice.
        """
        tile = self.view.tile_px
        slices = np.array(self.slices)
        if self.view.mode == "montage":
            across = np.clip(np.floor((pixels + 0.5) / tile), 0, self.view.grid - 1)
            shown = (across[:, 0] * self.view.grid + across[:, 1]).astype(int)
            return np.column_stack([slices[shown], pixels - across * tile])
        if self.brightest is not None:
            row, column = np.clip(np.rint(pixels), 0, tile - 1).astype(int).T
            return np.column_stack([slices[self.brightest[row, column]], pixels])
        return np.column_stack([np.full(len(pixels), slices[len(slices) // 2]), pixels])

    def to_mm(self, pixels: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 3"]:
        """Take (row, column) of the picture, fractions allowed, to mm in the patient (LPS)."""
        placed: Float[np.ndarray, "point 3"] = (
            self.to_stack(pixels) @ self.affine[:3, :3].T + self.affine[:3, 3]
        )
        return placed

    def to_pixel(self, mm: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 2"]:
        """Take mm to (row, column) of the picture: the inverse of `to_mm`; NaN where not shown.

        A place between two slices is looked up in the nearer one, and in the first tile of a slice
        that is shown several times.
        """
        index = np.linalg.solve(self.affine[:3, :3], (mm - self.affine[:3, 3]).T).T
        tile, depth = self.view.tile_px, np.rint(index[:, 0])
        inside = ((index[:, 1:] >= -0.5) & (index[:, 1:] < tile - 0.5)).all(axis=1)
        same = depth[:, None] == np.array(self.slices)
        shown = same.argmax(axis=1)
        pixels = index[:, 1:].copy()
        if self.view.mode == "montage":
            pixels += tile * np.column_stack(np.divmod(shown, self.view.grid))
        pixels[~(inside & same.any(axis=1))] = np.nan
        return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The slices of a volume as tiles.

    Attributes:
        tiles: After window and crop; 0 is black.
        mask: Where the mask is; None where there is none.
        span: First and last slice that the pictures are about, end exclusive.
        affine: Takes (slice, tile row, tile column, 1) to mm, LPS.
        view: How they were made.
        grid_shape: Slices, rows and columns of the volume as it was read.
        grid_affine: Takes (slice, row, column, 1) of that volume to mm, LPS.
    """

    tiles: UInt8[np.ndarray, "slice row column"]
    mask: Bool[np.ndarray, "slice row column"] | None
    span: tuple[int, int]
    affine: Float[np.ndarray, "4 4"]
    view: VolumeView
    grid_shape: tuple[int, int, int]
    grid_affine: Float[np.ndarray, "4 4"]

    def starts(self) -> tuple[int, int]:
        """Return the first and the last slice that a window of slices may start at.

        A window stays within the span where it fits; where it does not, it is laid around the
        span's middle, and starts at 0 in a volume that is too short for it.
        """
        length = (self.view.depth - 1) * self.view.stride + 1
        low, high = self.span
        if high - low >= length:
            return low, high - length
        middle = (low + high - length + 1) // 2
        start = min(max(0, middle), max(0, len(self.tiles) - length))
        return start, start

    def evaluation_starts(self) -> list[int]:
        """Return ``view.votes`` starts spread evenly, the middle one first."""
        low, high = self.starts()
        votes = self.view.votes
        spread = np.linspace(low, high, votes) if votes > 1 else np.array([(low + high) / 2])
        starts: list[int] = np.rint(spread).astype(int).tolist()
        return [starts.pop(votes // 2), *starts]

    def shown(self, start: int) -> Int[np.ndarray, " place"]:
        """Return the slices of a window that starts at one; the last is repeated when short."""
        wanted = start + self.view.stride * np.arange(self.view.depth)
        return np.minimum(wanted, len(self.tiles) - 1)

    def picture(self, start: int) -> UInt8[np.ndarray, "channel height width"]:
        """Return the picture of a window of slices."""
        picture: UInt8[np.ndarray, "channel height width"] = self.picture_of(self.tiles, start)
        return picture

    def picture_of(
        self, values: Shaped[np.ndarray, "slice row column"], start: int
    ) -> Shaped[np.ndarray, "channel height width"]:
        """Lay out other values of the same tiles, window by window of slices alike."""
        picture: Shaped[np.ndarray, "channel height width"] = compose(
            values[self.shown(start)], self.view
        )
        return picture

    def mask_picture(self, start: int) -> Bool[np.ndarray, "height width"] | None:
        """Return the mask as the picture shows it; None where there is none."""
        if self.mask is None:
            return None
        inside: Bool[np.ndarray, "height width"] = self.picture_of(self.mask, start).max(axis=0)
        return inside

    def placement(self, start: int) -> Placement:
        """Say where the pixels of a window's picture lie."""
        shown = self.shown(start)
        projected = self.view.mode == "projection"
        brightest = self.tiles[shown].argmax(axis=0) if projected else None
        return Placement(self.view, tuple(shown.tolist()), self.affine, brightest)

    def to_volume(
        self, heatmaps: Float[np.ndarray, "window height width"], starts: Sequence[int]
    ) -> Volume:
        """Bring maps on pictures back to the patient, on the grid of the volume as it was read.

        Args:
            heatmaps: A value for each pixel of the picture of each window.
            starts: The windows that the pictures showed.

        Returns:
            Values between the tiles' pixels are linear; 0 outside the crop and in slices that no
            picture showed. A slice that was shown several times, by one window or by several, has
            the mean.
        """
        heat = np.zeros(self.tiles.shape, dtype=np.float32)
        count = np.zeros(len(heat), dtype=np.float32)
        for start, heatmap in zip(starts, heatmaps, strict=True):
            placement = self.placement(start)
            cut = decompose(heatmap, placement)
            for place, values in zip(placement.slices, cut, strict=True):
                heat[place] += values
                count[place] += 1
        heat /= np.maximum(count, 1)[:, None, None]
        grid = Volume(np.zeros(self.grid_shape, dtype=np.float32), self.grid_affine)
        return Volume(onto(Volume(heat, self.affine), grid), self.grid_affine)


def compose(
    tiles: Shaped[np.ndarray, "slice row column"], view: VolumeView
) -> Shaped[np.ndarray, "channel height width"]:
    """Lay a window's tiles into one picture: `view.depth` tiles in, one or three channels out."""
    if view.mode == "projection":
        brightest: Shaped[np.ndarray, "1 height width"] = tiles.max(axis=0)[None]
        return brightest
    if view.mode != "montage":
        return tiles
    size = view.picture_px
    rows = tiles.reshape(view.grid, view.grid, view.tile_px, view.tile_px).swapaxes(1, 2)
    picture: Shaped[np.ndarray, "channel height width"] = rows.reshape(1, size, size)
    return picture


def decompose(
    heatmap: Float[np.ndarray, "height width"], placement: Placement
) -> Float[np.ndarray, "slice row column"]:
    """Cut a map on a picture into one map a slice: each value goes to where its pixel came from.

    In a projection that is the brightest slice alone; three channels share one map.
    """
    view = placement.view
    if view.mode == "montage":
        rows = heatmap.reshape(view.grid, view.tile_px, view.grid, view.tile_px).swapaxes(1, 2)
        return rows.reshape(view.depth, view.tile_px, view.tile_px)
    if placement.brightest is None:
        return np.repeat(heatmap[None], view.depth, axis=0)
    places = np.arange(view.depth)[:, None, None]
    return np.where(placement.brightest == places, heatmap, 0)


def make_stack(volume: Volume, view: VolumeView, *, mask: Volume | None = None) -> Stack:
    """Turn a volume into tiles.

    Args:
        volume: As it was read.
        view: What to show of it.
        mask: On the same grid; above 0 inside.

    Raises:
        InputError: If the mask lies on another grid, is empty, or is missing where the view crops
            around it; or the window has no such name.
    """
    if mask is not None:
        require_same_grid(volume, mask)
    _require_mask(volume, mask, view)
    straight = _prepared(volume, view)
    inside = None
    if mask is not None and mask.values.max() > 0:
        inside = _prepared(mask, view, nearest=True).values > 0
    box, span = _crop(straight, view, inside=inside)
    chosen = find_window(straight.values[:, ::4, ::4], view.window)
    tiles = np.stack([_tile(one, box, view.tile_px, chosen) for one in straight.values])
    return Stack(
        tiles=tiles,
        mask=None if inside is None else _mask_tiles(inside, box, view.tile_px),
        span=span,
        affine=_tile_affine(straight.affine, box, view.tile_px),
        view=view,
        grid_shape=volume.values.shape,
        grid_affine=volume.affine,
    )


def _require_mask(volume: Volume, mask: Volume | None, view: VolumeView) -> None:
    """Refuse to crop around nothing."""
    if view.crop == "mask" and (mask is None or not mask.values.max() > 0):
        raise InputError(
            (mask.source if mask is not None else "") or volume.source or "mask",
            "no mask" if mask is None else "an empty mask",
            "the slices and their crop are chosen around the mask",
            "name a mask that is above 0 somewhere (beside a new scan: NAME.mask.nii.gz), or set "
            "crop: whole in the plan",
        )


def _prepared(volume: Volume, view: VolumeView, *, nearest: bool = False) -> Volume:
    """Turn a volume as the view says, and bring it to the view's spacing."""
    turned = reorient(volume, view.orientation)
    if view.spacing_mm is None or np.allclose(turned.spacing_mm, view.spacing_mm, rtol=1e-3):
        return turned
    return resample(turned, view.spacing_mm, mask=nearest)


def _crop(
    volume: Volume, view: VolumeView, *, inside: Bool[np.ndarray, "slice row column"] | None
) -> tuple[Box, tuple[int, int]]:
    """Choose the square of every slice, square in mm, and the slices that matter."""
    steps = np.array(volume.spacing_mm[1:])
    low, high = np.zeros(2), np.array(volume.values.shape[1:], dtype=float)
    span, margin_mm = (0, len(volume.values)), 0.0
    if view.crop == "mask" and inside is not None:
        slices, *sides = (
            np.flatnonzero(inside.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))
        )
        span = int(slices[0]), int(slices[-1]) + 1
        low = np.array([side[0] for side in sides], dtype=float)
        high = np.array([side[-1] + 1 for side in sides], dtype=float)
        margin_mm = view.margin_mm
    side = (((high - low) * steps).max() + 2 * margin_mm) / steps
    top, left = (low + high - side) / 2
    return Box(float(top), float(left), *side.tolist()), span


def _tile(
    values: Float[np.ndarray, "row column"], box: Box, size: int, chosen: Window
) -> UInt8[np.ndarray, "tile_row tile_column"]:
    """Cut the box out of a slice, window it and resize it."""
    cut, where = _padded(values, box, fill=chosen.low_hu)
    levels: UInt8[np.ndarray, "tile_row tile_column"] = np.rint(
        _resized(window(cut, chosen), where, size) * 255
    ).astype(np.uint8)
    return levels


def _resized(
    cut: Float[np.ndarray, "row column"], where: Edges, size: int
) -> Float[np.ndarray, "tile_row tile_column"]:
    """Resize values in [0, 1] with antialiasing."""
    shown = Image.fromarray(cut.astype(np.float32))
    small = np.asarray(shown.resize((size, size), Image.Resampling.BILINEAR, box=where))
    return small.clip(0, 1)


def _padded(
    values: Float[np.ndarray, "row column"], box: Box, *, fill: float
) -> tuple[Float[np.ndarray, "cut_row cut_column"], Edges]:
    """Cut the voxels that a box touches; its left, top, right and bottom among them."""
    rows, columns = values.shape
    top, left = int(np.floor(box.top)), int(np.floor(box.left))
    bottom = int(np.ceil(box.top + box.height - 1e-6))
    right = int(np.ceil(box.left + box.width - 1e-6))
    cut = values[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    around = (
        (max(0, -top), max(0, bottom - rows)),
        (max(0, -left), max(0, right - columns)),
    )
    padded = np.pad(cut, around, constant_values=fill) if np.any(around) else cut
    where = (
        box.left - left,
        box.top - top,
        min(box.left - left + box.width, float(padded.shape[1])),
        min(box.top - top + box.height, float(padded.shape[0])),
    )
    return padded, where


def _mask_tiles(
    inside: Bool[np.ndarray, "slice row column"], box: Box, size: int
) -> Bool[np.ndarray, "slice tile_row tile_column"]:
    """Bring a mask to the tiles; a slice whose mask is smaller than half a pixel keeps its peak."""
    cuts = [_padded(one.astype(np.float32), box, fill=0.0) for one in inside]
    covered = np.stack([_resized(cut, where, size) for cut, where in cuts])
    peak = covered.max(axis=(1, 2), keepdims=True)
    kept: Bool[np.ndarray, "slice tile_row tile_column"] = covered >= np.minimum(0.5, peak)
    return kept & (covered > 0)


def _tile_affine(affine: Float[np.ndarray, "4 4"], box: Box, size: int) -> Float[np.ndarray, "4 4"]:
    """Place the tiles' pixels: pixel r covers the voxels from top + r h/size on."""
    step = np.array([box.height, box.width]) / size
    corner = np.array([0.0, box.top, box.left]) + np.array([0.0, *(step / 2 - 0.5)])
    placed = affine.copy()
    placed[:3, 3] += affine[:3, :3] @ corner
    placed[:3, 1:3] *= step
    return placed
