"""Which pictures share the most keypoints: nearest neighbors without comparing every pair.

Descriptors are brought to a few uncorrelated numbers of length one and sorted into about as many
cells as each cell has members (k-means on a sample). A descriptor is compared with its two nearest
cells only, so that n descriptors need n to the power 1.5 products, all of them matrix products.
Each of its nearest neighbors is a vote for the picture it stands in, weighted by how much nearer
it is than the last one counted; pictures with the most votes for each other are candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8

from vitrail.data.workers import work_on

_NUMBERS = 24
_VOTES = 8
_VOTES_NEEDED = 3
_CELLS_TRIED = 2
_SAMPLE = 20_000
_ROUNDS = 6
_CHUNK = 2048

Vectors = Float32[np.ndarray, "point number"]
Votes = tuple[
    Int[np.ndarray, " query"], Int[np.ndarray, "query vote"], Float32[np.ndarray, "query vote"]
]
Centers = Float32[np.ndarray, "cell number"]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The keypoints of all pictures, ready to be compared.

    Attributes:
        vectors: Of length one; their products are similarities.
        start: Where each picture's vectors begin, and after the last the end.
    """

    vectors: Vectors
    start: Int[np.ndarray, " edge"]

    def of(self, picture: int) -> Vectors:
        """Return the vectors of one picture."""
        return self.vectors[self.start[picture] : self.start[picture + 1]]


def make_index(descriptors: Sequence[Int8[np.ndarray, "_ number"]]) -> Index:
    """Bring descriptors to few uncorrelated numbers.

    Args:
        descriptors: Of each picture.
    """
    start = np.cumsum([0, *(len(one) for one in descriptors)])
    joined = np.concatenate(descriptors)
    if not len(joined):
        return Index(np.empty((0, 1), dtype=np.float32), start)
    sample = joined[:: max(1, len(joined) // _SAMPLE)].astype(np.float32)
    mean = sample.mean(axis=0)
    _, spread, axes = np.linalg.svd(sample - mean, full_matrices=False)
    axes, spread = axes[:_NUMBERS], spread[:_NUMBERS]
    # Halfway to whitening: the later axes hold noise as well.
    turn = (axes / np.sqrt(spread + 1e-6 * spread[0] + 1e-6)[:, None]).T
    vectors = np.empty((len(joined), turn.shape[1]), dtype=np.float32)
    for first in range(0, len(joined), _CHUNK):
        part = (joined[first : first + _CHUNK] - mean) @ turn
        part /= np.linalg.norm(part, axis=1, keepdims=True) + 1e-12
        vectors[first : first + _CHUNK] = part
    return Index(vectors, start)


def candidates(index: Index, *, most: int, seed: int = 0) -> Int[np.ndarray, "pair 2"]:
    """Name the pairs of pictures that share the most keypoints.

    Args:
        index: From `make_index`.
        most: Candidates that each picture may name.
        seed: Of the cells.

    Returns:
        Pairs (first, second) with first < second, each once, in order.
    """
    pictures = len(index.start) - 1
    owner = np.repeat(np.arange(pictures), np.diff(index.start))
    if not len(index.vectors):
        return np.empty((0, 2), dtype=np.int64)
    keys, weights = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
    for points, found, weight in _nearest(index.vectors, owner, seed=seed):
        one, other = owner[points][:, None], owner[found]
        counts = weight > 0
        keys.append((np.minimum(one, other) * pictures + np.maximum(one, other))[counts])
        weights.append(weight[counts])
    key, place, count = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    total = np.bincount(place, weights=np.concatenate(weights)).astype(np.float64)
    enough = count >= _VOTES_NEEDED
    pairs = np.stack(np.divmod(key[enough], pictures), axis=1)
    strongest: Int[np.ndarray, "pair 2"] = pairs[
        _among_the_strongest(pairs, total[enough], most=most)
    ]
    return strongest


def _among_the_strongest(
    pairs: Int[np.ndarray, "pair 2"], total: Float[np.ndarray, " pair"], *, most: int
) -> Bool[np.ndarray, " pair"]:
    """Tell which pairs are among the ``most`` strongest of one of their pictures."""
    picture, pair = pairs.T.ravel(), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((-total[pair], picture))
    first = np.searchsorted(picture[order], picture[order])
    kept = np.zeros(len(pairs), dtype=bool)
    kept[pair[order][np.arange(len(order)) - first < most]] = True
    return kept


def _nearest(vectors: Vectors, owner: Int[np.ndarray, " point"], *, seed: int) -> Iterator[Votes]:
    """Yield, some of a cell at a time, points, their nearest neighbors elsewhere, and weights."""
    centers = _centers(vectors, seed=seed)
    tried = _nearest_centers(vectors, centers)
    by_home = _members(tried[:, 0], cells=len(centers))
    by_cell = _members(tried.ravel(), cells=len(centers))

    def compared(
        some: tuple[Int[np.ndarray, " query"], Int[np.ndarray, " member"]],
    ) -> Votes:
        points, members = some
        votes = min(_VOTES, len(members))
        similarity = vectors[points] @ vectors[members].T
        np.copyto(similarity, -1, where=owner[points][:, None] == owner[members])
        best = np.argpartition(similarity, -votes, axis=1)[:, -votes:]
        nearest = np.take_along_axis(similarity, best, axis=1).clip(min=0)
        return points, members[best], nearest - nearest.min(axis=1, keepdims=True)

    yield from work_on(
        (
            (entries[first : first + _CHUNK] // tried.shape[1], members)
            for members, entries in zip(by_home, by_cell, strict=True)
            if len(members)
            for first in range(0, len(entries), _CHUNK)
        ),
        compared,
    )


def _members(cell: Int[np.ndarray, " entry"], *, cells: int) -> list[Int[np.ndarray, " _"]]:
    """List the entries of each cell."""
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.searchsorted(cell[order], np.arange(1, cells)))


def _nearest_centers(vectors: Vectors, centers: Centers) -> Int[np.ndarray, "point tried"]:
    """Find the nearest cells of each vector, nearest first."""
    tried = min(_CELLS_TRIED, len(centers))
    found = []
    for first in range(0, len(vectors), _CHUNK):
        similarity = vectors[first : first + _CHUNK] @ centers.T
        best = np.argpartition(similarity, -tried, axis=1)[:, -tried:]
        order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def _centers(vectors: Vectors, *, seed: int) -> Centers:
    """Place the centers of the cells by k-means on a sample."""
    generator = np.random.default_rng(seed)
    sample = vectors[generator.permutation(len(vectors))[:_SAMPLE]]
    cells = int(np.clip(np.sqrt(len(vectors)), 1, len(sample) // 4 or 1))
    centers = sample[:cells].copy()
    for _ in range(_ROUNDS):
        home = (sample @ centers.T).argmax(axis=1)
        sums = np.zeros_like(centers)
        np.add.at(sums, home, sample)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(length > 0, sums / np.maximum(length, 1e-12), centers)
    return centers
