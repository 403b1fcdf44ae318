"""What a decoding process may use, and how it answers."""

import io
import json
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vitrail.errors import VitrailError

CPU_SECONDS = 20
REFUSED = 3
"""Exit status of a decoder that says on standard error why it refuses a file."""

Read = Callable[[Path], tuple[np.ndarray, Mapping[str, object]]]
"""Decodes a file or a folder of one series: pixels, and what its header says of them."""


def answer(
    read: Read, arguments: list[str], *, written: int = 0, seconds: int = CPU_SECONDS
) -> int:
    """Decode one file under limits; write pixels and facts to standard output, as ``.npz``.

    Args:
        read: Decodes a file.
        arguments: The file, and the bytes of memory that may be used.
        written: Bytes that a file may grow to.
        seconds: Of processor time.

    Returns:
        The exit status.
    """
    path, memory = Path(arguments[0]), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = io.BytesIO()
    try:
        pixels, facts = read(path)
        np.savez(content, pixels=pixels, facts=np.array(json.dumps(facts)))
    except (MemoryError, VitrailError) as error:
        sys.stderr.write(_words(error))
        return REFUSED
    sys.stdout.buffer.write(content.getbuffer())
    return 0


def _words(error: MemoryError | VitrailError) -> str:
    """Say why a file is refused, without its path."""
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return "decoding it needs too much memory"
    return f"{error.came}; {error.rule}"
