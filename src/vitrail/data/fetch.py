"""Files of public data sets: downloaded whole or not at all, gone on with after a cut, checked.

While a file comes it is called ``<name>.part``, with the server's tag beside it; a later call asks
for the rest alone. pooch compares the checksum; a file that does not fit is deleted. Where none is
published, the one that came is recorded and called unverified.
"""

import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from vitrail.data.catalog import RemoteFile
from vitrail.data.extras import load
from vitrail.errors import DataError
from vitrail.records import Progress, no_progress
from vitrail.runfolder import write_text, writing_folder

_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT_S = (20, 60)
_PARTIAL, _WHOLE, _BEYOND = 206, 200, 416


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that came.

    Attributes:
        name: Of the file.
        url: Where it came from.
        sha256: Of what came.
        verified: Whether it was compared with a published checksum.
    """

    name: str
    url: str
    sha256: str
    verified: bool


def download(file: RemoteFile, folder: Path, *, progress: Progress = no_progress) -> Fetched:
    """Download one file, or the rest of it; one that is there already is only checked.

    Args:
        file: What to download.
        folder: Where it goes, under its name.
        progress: Told of each mebibyte.

    Raises:
        DataError: If the server cannot be reached, the connection is cut again and again, the
            disk is full, or the checksum is another one.
        MissingExtraError: If pooch is not installed.
    """
    pooch = load("pooch", extra="fetch", wanted_for="downloading data sets")
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder, file)
    pooch.get_logger().setLevel("ERROR")
    try:
        path = Path(
            pooch.retrieve(
                file.url,
                known_hash=file.checksum or None,
                fname=file.name,
                path=folder,
                downloader=_Resuming(folder / f"{file.name}.part", file, progress=progress),
            )
        )
    except DataError:
        raise
    except ValueError as error:  # pooch's word for another checksum
        raise DataError(
            file.url,
            "another file came than the catalog knows",
            f"its checksum is {file.checksum}",
            "fetch it again; if that does not help, the file was changed at its source",
        ) from error
    with path.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    return Fetched(name=file.name, url=file.url, sha256=digest, verified=bool(file.checksum))


def _check_room(folder: Path, file: RemoteFile) -> None:
    """Refuse a file that the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if file.bytes is not None and file.bytes > free:
        rule = f"{free} bytes are free on that disk"
        raise DataError(file.name, f"{file.bytes} bytes", rule, "make room, or pass another --to")


class _Resuming:
    """What pooch calls to download: goes on where an earlier attempt was cut."""

    def __init__(self, part: Path, file: RemoteFile, *, progress: Progress) -> None:
        self.part, self.file, self.progress = part, file, progress
        self.tag = part.with_name(f"{part.name}.tag")
        self.requests = load("requests", extra="fetch", wanted_for="downloading data sets")

    def __call__(self, url: str, output_file: str, _: Any) -> None:  # noqa: PLR0917, pooch's call
        """Download ``url`` to the temporary file that pooch checks and renames."""
        for attempt in range(_ATTEMPTS):
            try:
                self._go_on(url)
            except self.requests.exceptions.HTTPError as error:
                came = f"the server answered {error.response.status_code}"
                raise self._failed(url, came, "see the set's homepage") from error
            except self.requests.exceptions.RequestException as error:
                if attempt == _ATTEMPTS - 1:
                    came = f"the connection failed {_ATTEMPTS} times ({type(error).__name__})"
                    raise self._failed(url, came, "repeat the command to go on") from error
            except OSError as error:
                came = f"it cannot be written ({error.strerror})"
                raise self._failed(url, came, "make room and repeat the command") from error
            else:
                break
        self.tag.unlink(missing_ok=True)
        self.part.replace(output_file)

    def _failed(self, url: str, came: str, remedy: str) -> DataError:
        kept = self.part.stat().st_size if self.part.exists() else 0
        return DataError(url, came, f"{kept} bytes of it are kept", remedy)

    def _go_on(self, url: str) -> None:
        """Ask for what is missing, and append it."""
        have = self.part.stat().st_size if self.part.exists() else 0
        tag = self.tag.read_text(encoding="utf-8") if self.tag.exists() else ""
        # Without a tag nobody knows whether the rest belongs to what is there.
        wanted = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
        headers = {"Accept-Encoding": "identity", **wanted}
        with self.requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == _BEYOND:
                self.part.unlink()
                raise self.requests.exceptions.ConnectionError
            answer.raise_for_status()
            going_on = answer.status_code == _PARTIAL
            have = have if going_on else 0
            if not going_on:
                write_text(self.tag, answer.headers.get("ETag", ""))
            rest = int(answer.headers.get("Content-Length", 0))
            with self.part.open("ab" if going_on else "wb") as stream:
                for chunk in answer.iter_content(_CHUNK):
                    stream.write(chunk)
                    have += len(chunk)
                    total = max(self.file.bytes or (rest if not going_on else have), have)
                    self.progress(f"fetch {self.file.name}", done=have, total=total)


def is_archive(path: Path) -> bool:
    """Tell whether a file is unpacked after it came: a zip or a tar, by its name."""
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def extract(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, whole or not at all; nothing leaves the folder.

    Raises:
        DataError: If it is broken, or the disk has no room for what it holds.
    """
    try:
        with writing_folder(folder) as unfinished:
            if zipfile.is_zipfile(archive):
                _extract_zip(archive, unfinished)
            else:
                _extract_tar(archive, unfinished)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(
            str(archive), f"it cannot be unpacked ({error})", "a whole archive", "fetch it again"
        ) from error


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        _check_size(archive, sum(one.file_size for one in packed.infolist()), folder)
        packed.extractall(folder)  # noqa: S202, zipfile cleans the names of .. and of roots


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        _check_size(archive, sum(one.size for one in packed), folder)
        packed.extractall(folder, filter="data")


def _check_size(archive: Path, unpacked: int, folder: Path) -> None:
    """Refuse what does not fit on the disk, a bomb for one."""
    free = shutil.disk_usage(folder).free
    if unpacked > free:
        rule = f"{free} bytes are free on that disk"
        raise DataError(str(archive), f"{unpacked} bytes unpacked", rule, "make room")
