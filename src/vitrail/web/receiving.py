"""What a client sends is written into a folder of ours, counted as it comes, under names of ours.

One request brings one picture, or the files of one scan one after another, with their ``sizes``; a
``mask`` may be the last of them. A file's ending is chosen by how it begins: no name of a client
reaches the file system. Volume formats whose headers may name other files (NRRD, MetaImage,
NIfTI pairs) are not read here, for those names would be paths of this machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vitrail.data.remote import fetch_picture

MOST_FILES = 5000
_NAME_LETTERS = 120
_CHUNK = 1 << 20
_NIFTI = slice(344, 348)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What came: how the client calls it, where it lies, and a volume's mask."""

    name: str
    path: Path
    mask: Path | None = None


async def receive(request: Request, folder: Path, *, most_bytes: int) -> Received:
    """Write the body of a request into a folder.

    Raises:
        HTTPException: If it is too large, or its parts do not add up.
    """
    name = request.query_params.get("name", "picture")[:_NAME_LETTERS]
    sizes = _sizes(request.query_params.get("sizes", ""))
    body = folder / "body"
    length = await _write(request, body, most_bytes=most_bytes)
    if not sizes:
        return Received(name=name, path=_named(body))
    if sum(sizes) != length:
        raise HTTPException(400, f"{length} bytes came, {sum(sizes)} were stated")
    parts = await to_thread.run_sync(_split, body, sizes)
    mask = _named(parts.pop()) if request.query_params.get("mask") and len(parts) > 1 else None
    if mask is not None:
        mask = mask.rename(folder / mask.name)
    path = _named(parts[0]) if len(parts) == 1 else parts[0].parent
    return Received(name=name, path=path, mask=mask)


async def fetch(url: str, folder: Path) -> Received:
    """Fetch a picture from a public address, as ``data.remote`` judges it, into a folder.

    Raises:
        VitrailError: If it may not be asked, is no picture, too large or too slow.
    """
    content = await to_thread.run_sync(lambda: fetch_picture(url))
    path = folder / "body"
    path.write_bytes(content)
    name = urlsplit(url).path.rpartition("/")[2] or "picture"
    return Received(name=name[:_NAME_LETTERS], path=path)


def _sizes(stated: str) -> list[int]:
    """Read the lengths of a scan's files."""
    if not stated:
        return []
    parts = stated.split(",")
    if len(parts) > MOST_FILES or not all(one.isdecimal() and len(one) < 12 for one in parts):
        raise HTTPException(400, f"sizes are at most {MOST_FILES} whole numbers")
    return [int(one) for one in parts]


async def _write(request: Request, path: Path, *, most_bytes: int) -> int:
    """Write a body to a file, and stop where it grows too long."""
    closing = {"connection": "close"}  # what else would come is not taken
    too_large = HTTPException(413, f"larger than {most_bytes >> 20} MB", headers=closing)
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > most_bytes:
        raise too_large
    length = 0
    with path.open("wb") as file:
        async for part in request.stream():
            length += len(part)
            if length > most_bytes:
                raise too_large
            file.write(part)
    return length


def _split(body: Path, sizes: Sequence[int]) -> list[Path]:
    """Cut a body into the files of a scan, in a folder of their own."""
    folder = body.with_name("scan")
    folder.mkdir()
    paths = [folder / f"{number:05d}" for number in range(len(sizes))]
    with body.open("rb") as stream:
        for path, size in zip(paths, sizes, strict=True):
            with path.open("wb") as file:
                for start in range(0, size, _CHUNK):
                    file.write(stream.read(min(_CHUNK, size - start)))
    body.unlink()
    return paths


def _named(path: Path) -> Path:
    """Give a NIfTI file its ending, for readers of volumes go by names; others keep theirs."""
    with path.open("rb") as stream:
        head = stream.read(_NIFTI.stop)
    ending = ".nii" if head[_NIFTI] == b"n+1\0" else ".nii.gz" if head[:2] == b"\x1f\x8b" else ""
    return path.rename(path.with_name(path.name + ending)) if ending else path
