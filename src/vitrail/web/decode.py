"""Decode a stranger's picture in a process of its own, which may use little and write nothing.

Decoders are large programs in C that read whatever comes. So a sent file is decoded by
``python -m vitrail.web.decode_raster`` (or ``decode_dicom``, ``decode_scan``) under limits on
memory, time, open files and written bytes; the parent waits a stated time and reads back plain
numbers (``.npz``), or one sentence.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from vitrail.errors import UnreadableFileError
from vitrail.records import VolumeView
from vitrail.web.limits import REFUSED

MEMORY_BYTES = 2 << 30
SCAN_MEMORY_BYTES = 6 << 30
WAIT_SECONDS = 60.0
SCAN_WAIT_SECONDS = 110.0
_KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
_PICTURE_RULE = "one PNG, JPEG, TIFF, BMP or DICOM picture is read"
_SCAN_RULE = "one DICOM series or NIfTI file is read"


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded file.

    Attributes:
        pictures: Stored values: uint8, or float32 in Hounsfield units for a DICOM slice. Of a
            volume, the pictures of its evaluation windows, the middle one first.
        facts: What its header says: ``modality``; of a volume, ``slices`` and ``affine_lps_mm``
            of the first picture.
    """

    pictures: Shaped[np.ndarray, "picture channel height width"]
    facts: Mapping[str, Any]


def decode(path: Path, *, view: VolumeView | None = None, mask: Path | None = None) -> Decoded:
    """Decode a file in a process of its own.

    Args:
        path: A file, or a folder of one series, that this program wrote; its name is told nobody.
        view: How a volume becomes pictures; None decodes one picture.
        mask: A volume's mask.

    Raises:
        UnreadableFileError: If it is no picture, breaks its limits, or takes too long.
    """
    if view is not None:
        stated = [str(SCAN_MEMORY_BYTES), json.dumps(asdict(view)), str(mask or "")]
        return _asked("scan", [str(path), *stated], seconds=SCAN_WAIT_SECONDS, rule=_SCAN_RULE)
    with path.open("rb") as stream:
        kind = "dicom" if stream.read(132)[128:] == b"DICM" else "raster"
    arguments = [str(path), str(MEMORY_BYTES)]
    return _asked(kind, arguments, seconds=WAIT_SECONDS, rule=_PICTURE_RULE)


def _asked(kind: str, arguments: Sequence[str], *, seconds: float, rule: str) -> Decoded:
    """Start the decoder of a kind, and read its answer."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603 (our own module; the path is ours)
            [sys.executable, "-m", f"vitrail.web.decode_{kind}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreadable(f"decoding took longer than {seconds:g} s", rule) from error
    if done.returncode == REFUSED:
        raise _unreadable(done.stderr.decode(errors="replace").strip()[-300:], rule)
    if done.returncode != 0:
        raise _unreadable("decoding it broke the limits on memory, time or files", rule)
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        return Decoded(found["pixels"], json.loads(found["facts"].item()))


def _unreadable(came: str, rule: str) -> UnreadableFileError:
    """Say what is wrong with a file without naming it."""
    return UnreadableFileError("the picture", came, rule, "send another file")
