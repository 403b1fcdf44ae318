"""What a decoding process may use, and how it answers."""

import io
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrail.errors import VitrailError

CPU_SECONDS = 20
REFUSED = 3
"""Exit status of a decoder that says on standard error why it refuses a file."""


def answer(read: Callable[[Path], np.ndarray], arguments: list[str], *, written: int = 0) -> int:
    """Decode one file under limits; write its pixels to standard output.

    Args:
        read: Decodes a file.
        arguments: The file, and the bytes of memory that may be used.
        written: Bytes that a file may grow to.

    Returns:
        The exit status.
    """
    path, memory = Path(arguments[0]), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = io.BytesIO()
    try:
        np.save(content, read(path), allow_pickle=False)
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
