"""What was decoded, on disk: pictures and stacks of tiles, bounded, safe under several processes.

One file an entry, named by the hash of what was read and of what was done to it, so that a changed
picture is never taken for the old one. A file is renamed into place whole; one that does not hold
what it should (a disk that was full, a machine that lost power) is made again by whoever asked.
What was used longest ago goes first. Nothing here is needed: the folder may be deleted at any time.
"""

import json
import logging
import os
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from vitrail.records import Preprocessing
from vitrail.runfolder import write_bytes

MOST_BYTES = 8 << 30
"""Room that a cache takes by default."""

_log = logging.getLogger("vitrail")
_KEPT_SHARE, _LOOK_SHARE = 0.9, 0.05


def cache_key(content: bytes, preprocessing: Preprocessing) -> str:
    """Name a decoded, resized picture by its file's content and by what is done to it.

    Normalization comes after the cache, so mean and std do not matter.
    """
    relevant = asdict(replace(preprocessing, mean=(), std=()))
    return sha256(json.dumps(relevant, sort_keys=True).encode() + b"\0" + content).hexdigest()


class Cache:
    """A folder of decoded pictures and stacks.

    Args:
        folder: Where; it is made if need be.
        most_bytes: Room that the files may take together. Several processes may go beyond it by a
            twentieth each before they look.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._unseen = most_bytes  # so that the first entry looks at what is there
        self._works = True

    def get(self, key: str) -> bytearray | None:
        """Return an entry, or None where it is not there."""
        path = self._path(key)
        try:
            content = bytearray(path.read_bytes())
            os.utime(path)
        except OSError:
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry; a disk that cannot take it is told once and left alone."""
        if not self._works or len(content) > self.most_bytes:
            return
        try:
            write_bytes(self._path(key), content, durable=False)
            self._unseen += len(content)
            if self._unseen > _LOOK_SHARE * self.most_bytes:
                self._evict()
        except OSError as error:
            self._works = False
            _log.warning("%s: nothing is kept (%s)", self.folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _evict(self) -> None:
        """Delete the entries used longest ago, where there are too many bytes."""
        self._unseen = 0
        files = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.most_bytes:
            return
        for _, size, path in sorted(files):
            path.unlink(missing_ok=True)
            total -= size
            if total <= _KEPT_SHARE * self.most_bytes:
                break
