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
_PROMISING = 0.1
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
        agreement: Correlation that three quarters of the small windows reach, 1 for the same pixels.
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


def _grid(
    one: Float32[np.ndarray, "row column"],
    other: Float32[np.ndarray, "_ _"],
    *,
    lies: Map,
    step: int,
) -> tuple[Float[np.ndarray, "pixel 3"], Float[np.ndarray, "pixel 2"]]:
    """List pixels of the first picture that lie on the second, and where they lie there."""
    rows, columns = np.mgrid[2 : one.shape[0] - 2 : step, 2 : one.shape[1] - 2 : step]
    start = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)], axis=1)
    end = start @ lies
    height, width = other.shape
    inside = ((end >= 2) & (end <= (width - 3, height - 3))).all(axis=1)
    return start[inside], end[inside]


def _refine(
    one: Float32[np.ndarray, "row column"], other: Float32[np.ndarray, "_ _"], *, lies: Map
) -> Map:
    """Move the map along the gradient of the pixels' difference (Gauss-Newton)."""
    slopes = np.gradient(other)
    for _ in range(_REFINEMENTS):
        start, end = _grid(one, other, lies=lies, step=3)
        if len(start) < 100:
            return lies
        place = end[:, ::-1].T
        wanted = one[start[:, 1].astype(int), start[:, 0].astype(int)]
        seen, down, across = (
            map_coordinates(values, place, order=1) for values in (other, *slopes)
        )
        contrast = seen.std() / (wanted.std() + 1e-9)
        missing = (wanted - wanted.mean()) * contrast - (seen - seen.mean())
        lean = np.concatenate([across[:, None] * start, down[:, None] * start], axis=1)
        lean -= lean.mean(axis=0)
        step = np.linalg.lstsq(lean.T @ lean, lean.T @ missing, rcond=1e-8)[0]
        moved = lies + step.reshape(2, 3).T
        if not _plausible(moved):
            return lies
        lies = moved
        if np.abs(start[:: len(start) - 1] @ step.reshape(2, 3).T).max() < _STILL_PX:
            break
    return lies


def _measure(
    one: Float32[np.ndarray, "row column"], other: Float32[np.ndarray, "_ _"], *, lies: Map
) -> Alignment:
    """Correlate the two pictures window by window where both show something."""
    start, end = _grid(one, other, lies=lies, step=1)
    zoom = abs(np.linalg.det(lies[:2]))
    share = len(start) / one.size * max(1.0, zoom * one.size / other.size)
    values = one[start[:, 1].astype(int), start[:, 0].astype(int)].astype(np.float64)
    seen = map_coordinates(other, end[:, ::-1].T, order=1).astype(np.float64)
    window = start[:, 1] // _WINDOW_PX * 1000 + start[:, 0] // _WINDOW_PX
    _, place, count = np.unique(window, return_inverse=True, return_counts=True)
    moments = [
        np.bincount(place, weights=product) / count
        for product in (values, seen, values**2, seen**2, values * seen)
    ]
    mean, seen_mean, square, seen_square, product = moments
    variance, seen_variance = square - mean**2, seen_square - seen_mean**2
    # A window counts where it is whole enough and not flat in both pictures.
    relative = variance / (variance.max() + 1e-12) + seen_variance / (seen_variance.max() + 1e-12)
    shown = (count > _WINDOW_PX**2 / 2) & (relative > 0.02)
    if shown.sum() < _LEAST_WINDOWS:
        return Alignment(lies, 0.0, float(min(1.0, share)))
    correlation = (product - mean * seen_mean) / np.sqrt(variance * seen_variance + 1e-14)
    return Alignment(lies, float(np.percentile(correlation[shown], 25)), float(min(1.0, share)))
