"""The process that decodes one DICOM slice: ``python -m vitrail.web.decode_dicom``.

It may write 64 MB: compressed pixels are decoded by way of a temporary file.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vitrail.data.dicom import read_header, read_slices
from vitrail.errors import DataError
from vitrail.web.limits import answer


def read_one(
    path: Path,
) -> tuple[Float[np.ndarray, "1 1 height width"], Mapping[str, object]]:
    """Read a file of one slice, and what made it.

    Raises:
        DataError: If it holds several.
    """
    slices = read_slices(path)
    if len(slices) != 1:
        raise DataError("file", f"{len(slices)} slices", "one slice is shown", "send single slices")
    return slices[None], {"modality": str(read_header(path).get("Modality", "") or "")}


if __name__ == "__main__":
    sys.exit(answer(read_one, sys.argv[1:], written=64 << 20))
