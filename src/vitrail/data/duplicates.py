"""The same picture twice: exactly, by the hash of the file; nearly, by a hash of what it shows.

The *difference hash* compares neighbors on a 16 x 17 thumbnail: 256 bits that survive resizing,
recompression and a change of brightness. Two hashes that differ in at most 10 bits share at least
one of 11 bands of bits (pigeonhole), so only pictures that fall into one bucket are compared: much
less than every pair. Each picture is looked up as it is and in the seven other ways that quarter
turns and mirrors give. What the hash proposes, the thumbnails' grey values decide.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

HASH_DISTANCE = 10
"""Most bits of 256 that near-duplicates differ in."""

THUMBNAIL = 32
_PIXEL_DIFFERENCE = 6.0
_CORRELATION = 0.98
_BITS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Two cases that show the same picture.

    Attributes:
        kind: ``exact`` (the same bytes) or ``near``.
        first: Case id.
        second: Case id, later in order of name.
        distance: Bits of 256 that their hashes differ in, once the second lies as the first.
    """

    kind: str
    first: str
    second: str
    distance: int


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
) -> Iterator[tuple[int, int, int]]:
    """Yield every pair whose hashes differ in at most ``distance`` bits: (first, second, bits).

    Args:
        hashes: From `difference_hash`.
        others: Of the same pictures, perhaps placed otherwise; the second of a pair is taken here.
        distance: Most bits that may differ.

    Yields:
        Pairs with first < second, each once.
    """
    bits, other_bits = (np.unpackbits(one.view(np.uint8), axis=1) for one in (hashes, others))
    found: set[tuple[int, int]] = set()
    for band in range(distance + 1):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        # Bits of one band are spread over the picture: a black border fills no band alone.
        for index, key in enumerate(np.packbits(other_bits[:, band :: distance + 1], axis=1)):
            buckets[key.tobytes()].append(index)
        arrays = {key: np.array(members) for key, members in buckets.items()}
        for first, key in enumerate(np.packbits(bits[:, band :: distance + 1], axis=1)):
            members = arrays.get(key.tobytes())
            if members is None:
                continue
            later = members[np.searchsorted(members, first, side="right") :]
            apart = np.bitwise_count(others[later] ^ hashes[first]).sum(axis=1)
            for second, count in zip(
                later[apart <= distance], apart[apart <= distance], strict=True
            ):
                if (first, int(second)) not in found:
                    found.add((first, int(second)))
                    yield first, int(second), int(count)


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
    case_ids: Sequence[str],
    *,
    contents: Sequence[str],
    thumbnails: UInt8[np.ndarray, "picture row column"],
) -> list[Duplicate]:
    """Find every pair of the same picture.

    Args:
        case_ids: In order of name.
        contents: Hash of each file.
        thumbnails: From `thumbnail`.

    Returns:
        The pairs, in order of their ids.
    """
    hashes = difference_hash(thumbnails)
    best: dict[tuple[int, int], tuple[int, str]] = {}
    for placed in placements(thumbnails):
        for first, second, distance in near_pairs(hashes, difference_hash(placed)):
            exact = contents[first] == contents[second]
            known = best.get((first, second), (_BITS + 1, ""))
            if distance < known[0] and (exact or _same_pixels(thumbnails[first], placed[second])):
                best[first, second] = distance, "exact" if exact else "near"
    return sorted(
        (
            Duplicate(kind=kind, first=case_ids[first], second=case_ids[second], distance=distance)
            for (first, second), (distance, kind) in best.items()
        ),
        key=lambda pair: (pair.first, pair.second),
    )
