"""The same picture twice: exactly, by the hash of the file; nearly, by what it shows.

Two searches, neither of which compares every pair.

*As it lies*: the *difference hash* compares neighbors on a 16 x 17 thumbnail: 256 bits that survive
resizing, recompression and a change of brightness. Two hashes that differ in at most 10 bits share
at least one of 11 bands of bits (pigeonhole), so only pictures that fall into one bucket are
compared. Each picture is looked up as it is and in the seven other ways that quarter turns and
mirrors give. What the hash proposes, the thumbnails' grey values decide.

*Moved*: a copy that was turned by any angle, mirrored, zoomed, stretched or cropped shares
keypoints with its original (`vitrail.data.keypoints`). Pictures that share the most are candidates
(`vitrail.data.neighbors`); each is laid on the other, and the pixels decide
(`vitrail.data.alignment`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8, UInt64
from PIL import Image

from vitrail.data.alignment import Alignment, align, texture
from vitrail.data.keypoints import Keypoints, find_keypoints, small_picture
from vitrail.data.neighbors import candidates, make_index
from vitrail.data.workers import work_on
from vitrail.records import Progress, no_progress

HASH_DISTANCE = 10
"""Most bits of 256 that near-duplicates differ in."""

THUMBNAIL = 32
_PIXEL_DIFFERENCE = 6.0
_FLAT = 3
_CORRELATION = 0.98
_BITS = 256
_AT_ONCE = 1 << 18

AGREEMENT = 0.85
"""Least correlation that three quarters of a moved copy's small windows have with its original's.

Of 400 generated chests, each of another patient and seen in the same pose, no two reach 0.82.
"""

OVERLAP = 0.15
"""Least share of the smaller picture that a moved copy and its original both show."""

CANDIDATES = 3
"""Pictures that each picture is laid on in search of moved copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Two cases that show the same picture.

    Attributes:
        kind: ``exact`` (the same bytes), ``near`` (resized, recompressed, turned by quarters or
            mirrored) or ``moved`` (turned by any angle, zoomed, stretched or cropped).
        first: Case id.
        second: Case id, later in order of name.
        distance: Bits of 256 that their hashes differ in, once the second lies as the first; None
            for a moved copy.
        agreement: Correlation that three quarters of a moved copy's small windows reach; None for
            the others.
    """

    kind: str
    first: str
    second: str
    distance: int | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is kept of a picture for the search, about 16 kB.

    Attributes:
        content: Hash of the file.
        thumbnail: From `thumbnail`.
        small: From `small_picture`, in 256 levels.
        keypoints: Of the small picture.
    """

    content: str
    thumbnail: UInt8[np.ndarray, "row column"]
    small: UInt8[np.ndarray, "height width"]
    keypoints: Keypoints


def look(grey: Float[np.ndarray, "height width"], *, content: str) -> Look:
    """Keep of a picture what the search needs.

    Args:
        grey: Values in [0, 1].
        content: Hash of the file.
    """
    small = small_picture(grey)
    levels = np.rint(small.clip(0, 1) * 255).astype(np.uint8)
    return Look(content, thumbnail(grey), levels, find_keypoints(small))


def thumbnail(grey: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "row column"]:
    """Shrink a picture with values in [0, 1] to 32 x 32 grey values by averaging areas."""
    small = Image.fromarray(grey.astype(np.float32)).resize(
        (THUMBNAIL, THUMBNAIL), Image.Resampling.BOX
    )
    values = np.asarray(small, dtype=np.float32).clip(0, 1)
    levels: UInt8[np.ndarray, "row column"] = np.rint(values * 255).astype(np.uint8)
    return levels


def _averaging(cells: int) -> Float[np.ndarray, "cell place"]:
    """Return the matrix that averages 32 places into ``cells`` cells of equal width."""
    left = np.arange(cells)[:, None] * THUMBNAIL / cells
    place = np.arange(THUMBNAIL)
    right = left + THUMBNAIL / cells
    overlap = np.minimum(right, place + 1) - np.maximum(left, place)
    shares: Float[np.ndarray, "cell place"] = np.clip(overlap, 0, None) * (cells / THUMBNAIL)
    return shares


def difference_hash(
    thumbnails: UInt8[np.ndarray, "picture row column"],
) -> UInt64[np.ndarray, "picture word"]:
    """Hash thumbnails: one bit says whether a cell is brighter than its left neighbor.

    Returns:
        256 bits a picture, as four words.
    """
    small = _averaging(16) @ thumbnails.astype(np.float64) @ _averaging(17).T
    brighter = (np.diff(small, axis=2) > 0.5).reshape(len(thumbnails), _BITS)
    return np.packbits(brighter, axis=1).view(np.uint64)


def placements(
    thumbnails: UInt8[np.ndarray, "*picture row column"],
) -> list[UInt8[np.ndarray, "*picture row column"]]:
    """Lay square thumbnails in the eight ways of turns and mirrors, unchanged first."""
    return [
        np.rot90(side, turns, axes=(-2, -1))
        for side in (thumbnails, thumbnails[..., ::-1])
        for turns in range(4)
    ]


def near_pairs(
    hashes: UInt64[np.ndarray, "picture word"],
    others: UInt64[np.ndarray, "picture word"],
    *,
    distance: int = HASH_DISTANCE,
) -> Int[np.ndarray, "pair 3"]:
    """Find every pair whose hashes differ in at most ``distance`` bits.

    Args:
        hashes: From `difference_hash`.
        others: Of the same pictures, perhaps placed otherwise; the second of a pair is taken here.
        distance: Most bits that may differ.

    Returns:
        First, second, and the bits they differ in, with first < second, each pair once, in order.
    """
    bits, other_bits = (np.unpackbits(one.view(np.uint8), axis=1) for one in (hashes, others))
    found = [np.empty((0, 3), dtype=np.int64)]
    for band in range(distance + 1):
        # Bits of one band are spread over the picture: a black border fills no band alone.
        keys, other_keys = (_words(one[:, band :: distance + 1]) for one in (bits, other_bits))
        for first, second in _same_keys(keys, other_keys):
            apart = np.bitwise_count(hashes[first] ^ others[second]).sum(axis=1, dtype=np.int64)
            pairs = np.stack([first, second, apart], axis=1)
            found.append(pairs[apart <= distance])
    return np.unique(np.concatenate(found), axis=0)


def _words(bits: UInt8[np.ndarray, "picture bit"]) -> UInt64[np.ndarray, " picture"]:
    """Read at most 64 bits of each picture as one number."""
    packed = np.zeros((len(bits), 8), dtype=np.uint8)
    some = np.packbits(bits, axis=1)
    packed[:, : some.shape[1]] = some
    return packed.view(np.uint64)[:, 0]


def _same_keys(
    keys: UInt64[np.ndarray, " picture"], others: UInt64[np.ndarray, " picture"]
) -> Iterator[tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]]:
    """Yield the pairs, first < second, of one key and the same other key, a bounded number."""
    order = np.argsort(others, kind="stable")
    begin, end = (np.searchsorted(others[order], keys, side=side) for side in ("left", "right"))
    count = end - begin
    edges = np.cumsum(count)
    start = 0
    while start < len(keys):
        stop = max(start + 1, int(np.searchsorted(edges, edges[start] + _AT_ONCE)))
        first = np.repeat(np.arange(start, stop), count[start:stop])
        place = np.arange(len(first)) - np.repeat(
            edges[start:stop] - count[start:stop] - (edges[start] - count[start]),
            count[start:stop],
        )
        second = order[np.repeat(begin[start:stop], count[start:stop]) + place]
        yield first[second > first], second[second > first]
        start = stop


def _same_pixels(
    first: UInt8[np.ndarray, "row column"], second: UInt8[np.ndarray, "row column"]
) -> bool:
    """Tell whether two thumbnails agree in their grey values, up to brightness and contrast."""
    one, two = first.astype(np.float64), second.astype(np.float64)
    if np.abs(one - two).mean() <= _PIXEL_DIFFERENCE:
        return True
    one, two = one - one.mean(), two - two.mean()
    norm = np.sqrt((one**2).sum() * (two**2).sum())
    return bool(norm > 0 and (one * two).sum() / norm >= _CORRELATION)


def find_duplicates(
    case_ids: Sequence[str], looks: Sequence[Look], *, progress: Progress = no_progress
) -> list[Duplicate]:
    """Find the pairs that show the same picture.

    Of many moved copies of one picture not every pair is listed, but all hang together. Flat
    pictures, such as blank tiles, are the same one if their bytes are: each is paired with the
    first of them, so that thousands are no millions of pairs.

    Args:
        case_ids: In order of name.
        looks: From `look`, one a case.
        progress: Told while candidates are laid on each other.

    Returns:
        The pairs, in order of their ids.
    """
    known = _flat_copies(case_ids, looks)
    places = [place for place, one in enumerate(looks) if np.ptp(one.thumbnail) > _FLAT]
    if not places:
        return known
    ids, looks = [case_ids[place] for place in places], [looks[place] for place in places]
    found = _as_they_lie(looks)
    known += [
        Duplicate(kind=kind, first=ids[first], second=ids[second], distance=distance)
        for (first, second), (distance, kind) in found.items()
    ]
    known += [
        Duplicate(kind="moved", first=ids[first], second=ids[second], agreement=round(agreement, 4))
        for (first, second), agreement in _moved(looks, known=found.keys(), progress=progress)
    ]
    return sorted(known, key=lambda pair: (pair.first, pair.second))


def _flat_copies(case_ids: Sequence[str], looks: Sequence[Look]) -> list[Duplicate]:
    """Pair each picture without content with the first one of the same bytes."""
    first_of: dict[str, str] = {}
    known = []
    for case_id, one in zip(case_ids, looks, strict=True):
        if np.ptp(one.thumbnail) > _FLAT:
            continue
        first = first_of.setdefault(one.content, case_id)
        if first != case_id:
            known.append(Duplicate(kind="exact", first=first, second=case_id, distance=0))
    return known


def _as_they_lie(looks: Sequence[Look]) -> dict[tuple[int, int], tuple[int, str]]:
    """Find copies that are not moved, up to quarter turns and mirrors: (bits, kind) a pair."""
    thumbnails = np.stack([one.thumbnail for one in looks])
    hashes = difference_hash(thumbnails)
    best: dict[tuple[int, int], tuple[int, str]] = {}
    for placed in placements(thumbnails):
        for first, second, distance in near_pairs(hashes, difference_hash(placed)).tolist():
            exact = looks[first].content == looks[second].content
            known = best.get((first, second), (_BITS + 1, ""))
            if distance < known[0] and (exact or _same_pixels(thumbnails[first], placed[second])):
                best[first, second] = distance, "exact" if exact else "near"
    return best


def _moved(
    looks: Sequence[Look], *, known: Collection[tuple[int, int]], progress: Progress
) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield the pairs of moved copies with their agreement; those known already are left out."""

    @lru_cache(maxsize=512)
    def details(picture: int) -> Float32[np.ndarray, "row column"]:
        return texture(looks[picture].small.astype(np.float32) / np.float32(255))

    index = make_index([one.keypoints.descriptor for one in looks])
    proposed = [
        (int(first), int(second))
        for first, second in candidates(index, most=CANDIDATES)
        if (first, second) not in known
    ]

    def laid(pair: tuple[int, int]) -> Alignment | None:
        first, second = pair
        return align(
            looks[first].keypoints,
            looks[second].keypoints,
            similarity=index.of(first) @ index.of(second).T,
            textures=lambda: (details(first), details(second)),
        )

    for done, (pair, lies) in enumerate(zip(proposed, work_on(proposed, laid), strict=True), 1):
        if lies is not None and lies.agreement >= AGREEMENT and lies.overlap >= OVERLAP:
            yield pair, lies.agreement
        progress("comparing pictures", done=done, total=len(proposed))
