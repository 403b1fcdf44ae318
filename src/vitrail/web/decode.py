"""Decode a stranger's picture in a process of its own, which may use little and write nothing.

Decoders are large programs in C that read whatever comes. So a sent file is decoded by
``python -m vitrail.web.decode_raster`` (or ``decode_dicom``) under limits on memory, time, open
files and written bytes; the parent waits a stated time and reads back plain pixels (``.npy``), or
one sentence.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from vitrail.errors import UnreadableFileError
from vitrail.web.limits import REFUSED

MEMORY_BYTES = 2 << 30
WAIT_SECONDS = 60.0
_KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")


def decode(path: Path) -> Shaped[np.ndarray, "channel height width"]:
    """Decode a file in a process of its own.

    Args:
        path: A file that this program wrote; its name is told to nobody.

    Returns:
        Stored values: uint8, or float32 in Hounsfield units for DICOM.

    Raises:
        UnreadableFileError: If it is no picture, breaks its limits, or takes too long.
    """
    with path.open("rb") as stream:
        kind = "dicom" if stream.read(132)[128:] == b"DICM" else "raster"
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603 (our own module; the path is ours)
            [sys.executable, "-m", f"vitrail.web.decode_{kind}", str(path), str(MEMORY_BYTES)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreadable(f"decoding took longer than {WAIT_SECONDS:g} s") from error
    if done.returncode == REFUSED:
        raise _unreadable(done.stderr.decode(errors="replace").strip()[-300:])
    if done.returncode != 0:
        raise _unreadable("decoding it broke the limits on memory, time or files")
    return np.asarray(np.load(io.BytesIO(done.stdout), allow_pickle=False))


def _unreadable(came: str) -> UnreadableFileError:
    """Say what is wrong with a file without naming it."""
    rule = "one PNG, JPEG, TIFF, BMP or DICOM picture is read"
    return UnreadableFileError("the picture", came, rule, "send another file")
