"""The process that decodes one DICOM slice: ``python -m vitrail.web.decode_dicom``.

It may write 64 MB: compressed pixels are decoded by way of a temporary file.
"""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vitrail.data.dicom import read_slices
from vitrail.errors import DataError
from vitrail.web.limits import answer


def read_one(path: Path) -> Float[np.ndarray, "1 row column"]:
    """Read a file of one slice.

    Raises:
        DataError: If it holds several.
    """
    slices = read_slices(path)
    if len(slices) != 1:
        raise DataError("file", f"{len(slices)} slices", "one slice is shown", "send single slices")
    return slices


if __name__ == "__main__":
    sys.exit(answer(read_one, sys.argv[1:], written=64 << 20))
