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

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, Int
from scipy.ndimage import gaussian_filter, map_coordinates

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
    details: Float32[np.ndarray, "row column"] = gaussian_filter(small, 0.8) - gaussian_filter(
        small, 6.0
    )
    return details


def align(
    one: Keypoints,
    other: Keypoints,
    *,
    similarity: Float32[np.ndarray, "point other_point"],
    textures: tuple[Float32[np.ndarray, "row column"], Float32[np.ndarray, "_ _"]],
) -> Alignment | None:
    """Lay one picture on the other.

    Args:
        one: Keypoints of the first.
        other: Keypoints of the second.
        similarity: Of their descriptors.
        textures: Of both, from `texture`.

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
    rough = _measure(*textures, lies=lies)
    if rough.agreement < _PROMISING:
        return rough
    return _measure(*textures, lies=_refine(*textures, lies=lies))


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
        zoom = np.sqrt(abs(np.linalg.det(lies[:2])))
        error = np.linalg.norm(start @ lies - end, axis=1)
        agreeing = error < tolerance * _INLIER_PX * np.sqrt(zoom)
        if agreeing.sum() < _LEAST_MATCHES:
            return lies
        inliers = agreeing
    return lies


def _plausible(lies: Map) -> bool:
    """Tell whether a map stretches and zooms no more than augmentation does."""
    large, little = np.linalg.svd(lies[:2], compute_uv=False)
    return bool(large <= _MOST_STRETCH * little and little > 1 / _MOST_ZOOM and large < _MOST_ZOOM)


def _pixels(shape: tuple[int, ...], *, step: int) -> Float[np.ndarray, "pixel 3"]:
    """List every so many pixels of a picture as (column, row, 1)."""
    rows, columns = np.mgrid[2 : shape[0] - 2 : step, 2 : shape[1] - 2 : step]
    return np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)], axis=1)


def _within(
    start: Float[np.ndarray, "pixel 3"], shape: tuple[int, ...], *, lies: Map
) -> tuple[Float[np.ndarray, "inside 3"], Float[np.ndarray, "2 inside"]]:
    """Keep the pixels that lie on the second picture, and tell where: (row, column)."""
    end = start @ lies
    x, y = end[:, 0], end[:, 1]
    inside = (x >= 2) & (x <= shape[1] - 3) & (y >= 2) & (y <= shape[0] - 3)
    return start[inside], end[inside, ::-1].T


def _values(
    picture: Float32[np.ndarray, "row column"], start: Float[np.ndarray, "pixel 3"]
) -> Float32[np.ndarray, " pixel"]:
    """Look up whole pixels."""
    found: Float32[np.ndarray, " pixel"] = picture[start[:, 1].astype(int), start[:, 0].astype(int)]
    return found


def _refine(
    one: Float32[np.ndarray, "row column"], other: Float32[np.ndarray, "_ _"], *, lies: Map
) -> Map:
    """Move the map along the gradient of the pixels' difference (Gauss-Newton)."""
    slopes = np.gradient(other)
    pixels = _pixels(one.shape, step=4)
    for _ in range(_REFINEMENTS):
        start, place = _within(pixels, other.shape, lies=lies)
        if len(start) < _LEAST_PIXELS:
            return lies
        wanted = _values(one, start)
        seen, down, across = (
            map_coordinates(values, place, order=1) for values in (other, *slopes)
        )
        contrast = seen.std() / (wanted.std() + 1e-9)
        missing = (wanted - wanted.mean()) * contrast - (seen - seen.mean())
        lean = np.concatenate([across[:, None] * start, down[:, None] * start], axis=1)
        lean -= lean.mean(axis=0)
        step = np.linalg.lstsq(lean.T @ lean, lean.T @ missing, rcond=1e-8)[0].reshape(2, 3).T
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
    pixels = _pixels(one.shape, step=2)
    start, place = _within(pixels, other.shape, lies=lies)
    zoom = abs(np.linalg.det(lies[:2]))
    share = len(start) / len(pixels) * max(1.0, zoom * one.size / other.size)
    values = _values(one, start).astype(np.float64)
    seen = map_coordinates(other, place, order=1).astype(np.float64)
    across = one.shape[1] // _WINDOW_PX + 1
    column, row = (start[:, :2] // _WINDOW_PX).astype(int).T
    window = row * across + column
    count = np.bincount(window)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, seen_mean, square, seen_square, product = (
            np.bincount(window, weights=weights) / count
            for weights in (values, seen, values**2, seen**2, values * seen)
        )
    variance, seen_variance = square - mean**2, seen_square - seen_mean**2
    whole = count > (_WINDOW_PX / 2) ** 2 / 2
    if not whole.any():
        return Alignment(lies, 0.0, min(1.0, share))
    # A window counts where it is not flat in both pictures.
    contrast = variance / (variance[whole].max() + 1e-12)
    contrast += seen_variance / (seen_variance[whole].max() + 1e-12)
    shown = np.flatnonzero(whole)[contrast[whole] > _FLAT]
    if len(shown) < _LEAST_WINDOWS:
        return Alignment(lies, 0.0, min(1.0, share))
    covariance = (product - mean * seen_mean)[shown]
    correlation = covariance / np.sqrt(variance[shown] * seen_variance[shown] + 1e-14)
    return Alignment(lies, float(np.percentile(correlation, 25)), min(1.0, share))
