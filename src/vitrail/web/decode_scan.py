"""The process that decodes one volume: ``python -m vitrail.web.decode_scan``.

Its arguments are the scan, the bytes of memory, the view as JSON, and a mask or nothing. What
leaves it is small: the pictures that the model is shown. It may write 64 MB: compressed pixels are
decoded by way of a temporary file.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitrail.data.montage import make_stack
from vitrail.data.scan import read_scan
from vitrail.data.survey import modality_of
from vitrail.records import VolumeView
from vitrail.web.limits import answer

CPU_SECONDS = 90


def read_pictures(
    path: Path, *, view: VolumeView, mask: Path | None
) -> tuple[UInt8[np.ndarray, "vote channel height width"], Mapping[str, object]]:
    """Read a scan as the pictures of its evaluation windows, the middle one first."""
    volume = read_scan(path)
    stack = make_stack(volume, view, mask=None if mask is None else read_scan(mask))
    starts = stack.evaluation_starts()
    placement = stack.placement(starts[0])
    facts = {
        "modality": modality_of(volume),
        "slices": [number + 1 for number in placement.slices],
        "affine_lps_mm": placement.affine.tolist(),
    }
    return np.stack([stack.picture(start) for start in starts]), facts


if __name__ == "__main__":
    *_, stated, beside = sys.argv
    shown = json.loads(stated)
    shown["spacing_mm"] = shown["spacing_mm"] and tuple(shown["spacing_mm"])
    chosen = VolumeView(**shown)
    sys.exit(
        answer(
            lambda path: read_pictures(path, view=chosen, mask=Path(beside) if beside else None),
            sys.argv[1:],
            written=64 << 20,
            seconds=CPU_SECONDS,
        )
    )
