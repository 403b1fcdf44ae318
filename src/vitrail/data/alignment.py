"""Whether one picture is a turned, mirrored, zoomed or cropped copy of another, and how it lies.

Three steps, each cheaper than being wrong. *Matches*: keypoints that are each other's nearest.
*Geometry*: every two matches propose a similarity (turn, zoom, shift, perhaps a mirror); the one
that most matches agree with is widened to an affine map, for copies are stretched as well.
*Pixels*: the map is refined until the grey values of both fit best, then small windows are
correlated one by one. The same picture fits in nearly every window; another one of the same organ
or tissue, or with the same frame and letters, fits in some: so the lower quartile decides.

Points and shifts are complex numbers, column + i row; a similarity is then ``q = a p + b``.

Source: fischler1981 (consensus), lucas1981 (refinement by the pixels' gradient).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, Int
from scipy.ndimage import gaussian_filter1d

from vitrail.data.keypoints import Keypoints

_SIMILAR = 0.75
_MUTUAL = 2
_LEAST_MATCHES = 4
_MOST_MATCHES = 48
_APART_PX = 10.0
_SCALES_AGREE = 0.4
_INLIER_PX = 3.0
_WINDOW_PX = 14
_LEAST_WINDOWS = 4
_LEAST_PIXELS = 60
_FLAT = 0.02
_PROMISING = 0.4
_REFINEMENTS = 8
_STILL_PX = 0.05
_MOST_STRETCH = 2.0
_MOST_ZOOM = 4.0

Points = Complex[np.ndarray, " match"]
Map = Float[np.ndarray, "3 2"]
"""``(column, row, 1) @ map`` is where a point of the first picture lies in the second."""


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """How the second picture lies on the first.

    Attributes:
        map: Takes (column, row, 1) of the first small picture to (column, row) of the second.
        agreement: Correlation that three quarters of the small windows reach; 1 for equal pixels.
        overlap: Share of the smaller picture that both show.
    """

    map: Map
    agreement: float
    overlap: float


def texture(small: Float32[np.ndarray, "row column"]) -> Float32[np.ndarray, "row column"]:
    """Keep the details of a picture: no slow change of brightness, no grain."""
    fine, coarse = (
        _blurring(small.shape[0], sigma) @ small @ _blurring(small.shape[1], sigma).T
        for sigma in (0.8, 6.0)
    )
    details: Float32[np.ndarray, "row column"] = fine - coarse
    return details


@lru_cache(maxsize=64)
def _blurring(length: int, sigma: float) -> Float32[np.ndarray, "place place"]:
    """Return the matrix that blurs a line of pixels; beyond its ends it goes on mirrored."""
    line: Float32[np.ndarray, "place place"] = gaussian_filter1d(
        np.eye(length, dtype=np.float32), sigma, axis=0
    )
    return line


def align(
    one: Keypoints,
    other: Keypoints,
    *,
    similarity: Float32[np.ndarray, "point other_point"],
    textures: Callable[[], tuple[Float32[np.ndarray, "row column"], Float32[np.ndarray, "_ _"]]],
) -> Alignment | None:
    """Lay one picture on the other.

    Args:
        one: Keypoints of the first.
        other: Keypoints of the second.
        similarity: Of their descriptors.
        textures: Gives those of both, from `texture`; called only if a geometry fits.

    Returns:
        The best alignment, however poor its agreement; None where no geometry fits.
    """
    points, others = _matches(similarity)
    if len(points) < _LEAST_MATCHES:
        return None
    p, q = one.place[points].astype(complex), other.place[others].astype(complex)
    found = _consensus(p, q, zoom=other.log_scale[others] - one.log_scale[points])
    if found is None:
        return None
    lies = _affine(p, q, inliers=found)
    if lies is None:
        return None
    details = textures()
    rough = _measure(*details, lies=lies)
    if rough.agreement < _PROMISING:
        return rough
    return _measure(*details, lies=_refine(*details, lies=lies))


def _matches(
    similarity: Float32[np.ndarray, "point other_point"],
) -> tuple[Int[np.ndarray, " match"], Int[np.ndarray, " match"]]:
    """Pair the keypoints that are among each other's two nearest."""
    ways = min(_MUTUAL, *similarity.shape)
    if ways == 0:
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    rows = similarity >= np.partition(similarity, -ways, axis=1)[:, -ways, None]
    columns = similarity >= np.partition(similarity, -ways, axis=0)[-ways]
    points, others = np.nonzero(rows & columns & (similarity > _SIMILAR))
    best = np.argsort(-similarity[points, others], kind="stable")[:_MOST_MATCHES]
    return points[best], others[best]


def _consensus(
    p: Points, q: Points, *, zoom: Float32[np.ndarray, " match"]
) -> Bool[np.ndarray, " match"] | None:
    """Find the similarity, perhaps mirrored, that most matches agree with; return those."""
    best: Bool[np.ndarray, " match"] | None = None
    first, second = np.triu_indices(len(p), 1)
    for start in (p, p.conj()):
        apart = start[first] - start[second]
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = (q[first] - q[second]) / apart
            log_turn = np.log(np.abs(turn))
        likely = np.abs(apart) > _APART_PX
        for match in (first, second):
            likely &= np.abs(log_turn - zoom[match]) < _SCALES_AGREE
        if not likely.any():
            continue
        turn, anchor, log_turn = turn[likely], first[likely], log_turn[likely]
        shift = q[anchor] - turn * start[anchor]
        error = np.abs(turn[:, None] * start + shift[:, None] - q)
        agreeing = error < _INLIER_PX * np.sqrt(np.abs(turn))[:, None]
        agreeing &= np.abs(log_turn[:, None] - zoom) < _SCALES_AGREE
        most = agreeing[agreeing.sum(axis=1).argmax()]
        if best is None or most.sum() > best.sum():
            best = most
    return best if best is not None and best.sum() >= _LEAST_MATCHES else None


def _affine(p: Points, q: Points, *, inliers: Bool[np.ndarray, " match"]) -> Map | None:
    """Fit an affine map to the matches that agree, again and again as more of them do."""
    start = np.stack([p.real, p.imag, np.ones(len(p))], axis=1)
    end = np.stack([q.real, q.imag], axis=1)
    lies: Map
    for tolerance in (1.5, 1.5, 1.0, 0.7):
        lies, _, rank, _ = np.linalg.lstsq(start[inliers], end[inliers], rcond=None)
        if rank < 3 or not _plausible(lies):
            return None
        zoom = sqrt(_zoom(lies))
        error = np.linalg.norm(start @ lies - end, axis=1)
        agreeing = error < tolerance * _INLIER_PX * np.sqrt(zoom)
        if agreeing.sum() < _LEAST_MATCHES:
            return lies
        inliers = agreeing
    return lies


def _plausible(lies: Map) -> bool:
    """Tell whether a map stretches and zooms no more than augmentation does."""
    (a, b), (c, d) = lies[:2].tolist()
    # The singular values, from the sum of their squares and their product.
    squares, area = a * a + b * b + c * c + d * d, abs(a * d - b * c)
    both, apart = sqrt(squares + 2 * area), sqrt(max(0.0, squares - 2 * area))
    large, little = (both + apart) / 2, (both - apart) / 2
    return large <= _MOST_STRETCH * little and little > 1 / _MOST_ZOOM and large < _MOST_ZOOM


def _zoom(lies: Map) -> float:
    """Return how many times larger an area becomes."""
    (a, b), (c, d) = lies[:2].tolist()
    return float(abs(a * d - b * c))


@dataclass(frozen=True, slots=True, eq=False)
class _Pixels:
    """Every so many pixels of a picture of one shape.

    Attributes:
        place: As (column, row, 1).
        index: Where they stand in the flattened picture.
        window: The small window each belongs to.
    """

    place: Float[np.ndarray, "pixel 3"]
    index: Int[np.ndarray, " pixel"]
    window: Int[np.ndarray, " pixel"]


@lru_cache(maxsize=64)
def _pixels(height: int, width: int, *, step: int) -> _Pixels:
    """List every so many pixels of a picture, but for its outermost."""
    rows, columns = (axis.ravel() for axis in np.mgrid[2 : height - 2 : step, 2 : width - 2 : step])
    return _Pixels(
        np.stack([columns, rows, np.ones(rows.size)], axis=1),
        rows * width + columns,
        (rows // _WINDOW_PX) * (width // _WINDOW_PX + 1) + columns // _WINDOW_PX,
    )


def _inside(
    pixels: _Pixels, shape: tuple[int, ...], *, lies: Map
) -> tuple[Int[np.ndarray, " inside"], Float[np.ndarray, " inside"], Float[np.ndarray, " inside"]]:
    """Tell which pixels lie on the second picture, and where: (which, row, column)."""
    x, y = (pixels.place @ lies).T
    which = np.flatnonzero((x >= 2) & (x <= shape[1] - 3) & (y >= 2) & (y <= shape[0] - 3))
    return which, y[which], x[which]


def _interpolate(
    pictures: tuple[Float32[np.ndarray, "row column"], ...],
    row: Float[np.ndarray, " place"],
    column: Float[np.ndarray, " place"],
) -> list[Float[np.ndarray, " place"]]:
    """Look pictures of one shape up between their pixels."""
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = row - top, column - left
    width = pictures[0].shape[1]
    corner = top * width + left
    shares = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    corners = (corner, corner + 1, corner + width, corner + width + 1)
    return [
        sum(picture.ravel().take(at) * share for at, share in zip(corners, shares, strict=True))
        for picture in pictures
    ]


def _refine(
    one: Float32[np.ndarray, "row column"], other: Float32[np.ndarray, "_ _"], *, lies: Map
) -> Map:
    """Move the map along the gradient of the pixels' difference (Gauss-Newton)."""
    down, across = np.gradient(other)
    pixels = _pixels(*one.shape, step=4)
    shown = one.ravel()[pixels.index]
    for _ in range(_REFINEMENTS):
        which, row, column = _inside(pixels, other.shape, lies=lies)
        if len(which) < _LEAST_PIXELS:
            return lies
        start, wanted = pixels.place[which], shown[which]
        seen, slope, lean = _interpolate((other, down, across), row, column)
        contrast = seen.std() / (wanted.std() + 1e-9)
        missing = (wanted - wanted.mean()) * contrast - (seen - seen.mean())
        change = np.concatenate([lean[:, None] * start, slope[:, None] * start], axis=1)
        change -= change.mean(axis=0)
        step = np.linalg.lstsq(change.T @ change, change.T @ missing, rcond=1e-8)[0]
        step = step.reshape(2, 3).T
        if not _plausible(lies + step):
            return lies
        lies = lies + step
        if np.abs(start[:: len(start) - 1] @ step).max() < _STILL_PX:
            break
    return lies


def _measure(
    one: Float32[np.ndarray, "row column"], other: Float32[np.ndarray, "_ _"], *, lies: Map
) -> Alignment:
    """Correlate the two pictures window by window where both show something."""
    pixels = _pixels(*one.shape, step=2)
    which, row, column = _inside(pixels, other.shape, lies=lies)
    share = len(which) / len(pixels.index)
    share = min(1.0, share * max(1.0, _zoom(lies) * one.size / other.size))
    (seen,) = _interpolate((other,), row, column)
    values = one.ravel()[pixels.index[which]].astype(np.float64)
    window = pixels.window[which]
    count = np.bincount(window)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, seen_mean, square, seen_square, product = (
            np.bincount(window, weights=weights) / count
            for weights in (values, seen, values**2, seen**2, values * seen)
        )
    variance, seen_variance = square - mean**2, seen_square - seen_mean**2
    whole = count > (_WINDOW_PX / 2) ** 2 / 2
    if not whole.any():
        return Alignment(lies, 0.0, share)
    # A window counts where it is not flat in both pictures.
    contrast = variance / (variance[whole].max() + 1e-12)
    contrast += seen_variance / (seen_variance[whole].max() + 1e-12)
    shown = np.flatnonzero(whole)[contrast[whole] > _FLAT]
    if len(shown) < _LEAST_WINDOWS:
        return Alignment(lies, 0.0, share)
    covariance = (product - mean * seen_mean)[shown]
    correlation = covariance / np.sqrt(variance[shown] * seen_variance[shown] + 1e-14)
    return Alignment(lies, float(np.percentile(correlation, 25)), share)
