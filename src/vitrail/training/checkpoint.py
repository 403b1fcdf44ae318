"""Checkpoints that are whole or do not exist.

A checkpoint is one file, ``step-<number>-<hash>.pt``: written beside its place, flushed to the
disk, then renamed. The hash of the content stands in the name, so that one rename publishes both,
and a file that was cut short or changed is recognized and passed over. The newest whole one is
resumed. It holds tensors and plain values only; nothing in it is executed on reading. What it holds
is its format: a state of other parts is another version's, and is refused untouched.
"""

import logging
from collections.abc import Collection
from hashlib import file_digest
from io import BufferedIOBase, BufferedRandom
from pathlib import Path
from typing import Any

import torch

from vitrail.errors import RunFolderError, TrainingError
from vitrail.runfolder import write_stream

_log = logging.getLogger("vitrail")
KEPT = 2


def save_checkpoint(folder: Path, *, step: int, state: dict[str, Any]) -> None:
    """Publish a checkpoint, then remove all but the newest two.

    Args:
        folder: Of this training's checkpoints.
        step: Steps that are done.
        state: Tensors and plain values.

    Raises:
        TrainingError: If it cannot be written; the older checkpoints stay as they are.
    """

    def write(stream: BufferedRandom) -> str:
        torch.save(state, stream)
        stream.seek(0)
        return f"step-{step:09d}-{_digest(stream)}.pt"

    try:
        write_stream(folder, write)
    except (OSError, RuntimeError) as error:
        refused = _refusal(error)
        if refused is None:
            raise
        raise TrainingError(
            str(folder),
            f"the checkpoint of step {step} could not be written ({refused.strerror or refused})",
            "a checkpoint is written whole or not at all; the state before it is kept",
            "make room on the disk, or give the right to write, and run the same command again: it "
            "goes on from there",
        ) from error
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def _refusal(error: BaseException | None) -> OSError | None:
    """Find what the system refused; `torch.save` closes its archive all the same, and fails so.

    A lost connection is none: it is what was being dealt with when the checkpoint was begun.
    """
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            return error
        error = error.__context__
    return None


def load_checkpoint(folder: Path, *, parts: Collection[str]) -> dict[str, Any] | None:
    """Read the newest whole checkpoint and clear away what a killed writer left.

    Args:
        folder: Of this training's checkpoints.
        parts: Names of everything that a state holds.

    Returns:
        Its state, or None if there is none.

    Raises:
        RunFolderError: If it holds other parts: another version of vitrail wrote it. It is left.
    """
    if not folder.is_dir():
        return None
    for rest in folder.glob(".writing-*"):
        rest.unlink(missing_ok=True)
    for path in _newest_first(folder):
        with path.open("rb") as stream:
            found = _digest(stream)
        if found == path.stem.rpartition("-")[2]:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            _require_parts(path, set(state), wanted=set(parts))
            return state
        _log.warning("%s is damaged and is passed over", path.name)
    return None


def _require_parts(path: Path, found: set[str], *, wanted: set[str]) -> None:
    """Refuse a checkpoint in the format of another version."""
    if found == wanted:
        return
    lacks, more = (", ".join(sorted(names)) for names in (wanted - found, found - wanted))
    said = [f"it lacks {lacks}"] * bool(lacks) + [f"it holds {more} beside"] * bool(more)
    raise RunFolderError(
        str(path),
        f"in the format of another version of vitrail ({'; '.join(said)})",
        "a training goes on in the format that it began in; nothing was changed",
        f"go on with the version that began it, or delete {path.parent.parent} and run the same "
        "command again: this training begins anew, finished ones are kept",
    )


def _digest(stream: BufferedIOBase) -> str:
    """Hash what is left of a stream; nothing of it is held in memory."""
    return file_digest(stream, "sha256").hexdigest()[:16]


def _newest_first(folder: Path) -> list[Path]:
    """List the checkpoints."""
    return sorted(folder.glob("step-*.pt"), reverse=True)
