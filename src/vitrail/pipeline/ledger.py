"""Which stages of a run are finished, from which inputs, and how long they took.

The ledger is the ``stages`` part of ``environment.json``. A stage is skipped when it finished
before, from the same inputs (by hash), and its outputs are still there.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from vitrail import __version__
from vitrail.errors import RunFolderError
from vitrail.pipeline.environment import capture
from vitrail.pipeline.processes import leads
from vitrail.runfolder import RunFolder, read_json, write_json

_log = logging.getLogger("vitrail")

Result = dict[str, Any]
"""What a verb returns and ``--json`` prints: ``summary`` holds sentences for people."""


def hash_of(*parts: str | Path) -> str:
    """Hash texts and the bytes of files; a file that does not exist counts as such."""
    digest = sha256(__version__.encode())
    for part in parts:
        content = part.encode() if isinstance(part, str) else _content(part)
        digest.update(sha256(content).digest())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    """Return a file's bytes, or a mark that cannot be one."""
    return path.read_bytes() if path.is_file() else b"\0absent"


def stage(
    name: str,
    run: RunFolder,
    *,
    inputs: str | None,
    outputs: Sequence[Path],
    work: Callable[[], Result],
    command: str = "",
) -> Result:
    """Do a stage, or skip it when it is finished from the same inputs.

    Args:
        name: The verb.
        run: The run.
        inputs: Hash of all that the stage reads; None for a stage that is always done anew.
        outputs: Files that the stage leaves; all must exist for it to count as finished.
        work: Does the stage and returns its result.
        command: The exact command line, kept beside the timing.

    Returns:
        The result of the work, now or then, with ``stage``, ``skipped`` and ``seconds``.
    """
    entry = entries(run).get(name, {})
    unchanged = inputs is not None and entry.get("inputs") == inputs
    if unchanged and all(path.exists() for path in outputs):
        _log.info("%s: finished before from the same inputs, skipped", name)
        return {**entry["result"], "stage": name, "skipped": True, "seconds": entry["seconds"]}
    started = time.perf_counter()
    result = work()
    seconds = round(time.perf_counter() - started, 2)
    entry = {"inputs": inputs, "seconds": seconds, "result": result}
    if leads():
        _record(run, name, command=command, entry=entry)
    return {**result, "stage": name, "skipped": False, "seconds": seconds}


def entries(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the finished stages of a run."""
    if not run.environment.exists():
        return {}
    content = cast("Mapping[str, Any]", read_json(run.environment))
    return dict(content.get("stages", {}))


def _record(run: RunFolder, name: str, *, command: str, entry: Mapping[str, object]) -> None:
    """Write one stage into ``environment.json``, beside what the machine is now."""
    stages = entries(run)
    stages[name] = {
        **entry,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    content = capture(command)
    if run.environment.exists():
        first = cast("Mapping[str, Any]", read_json(run.environment))
        content["command"] = first["command"] or command
    write_json(run.environment, {**content, "stages": stages})


def require_run(run: RunFolder) -> None:
    """Check that a folder is a run's.

    Raises:
        RunFolderError: If it does not exist or holds no cohort.
    """
    if not run.root.is_dir():
        raise RunFolderError(
            str(run.root),
            "no such folder",
            "this verb reads a run folder",
            "make one with `vitrail run DIR --out RUN`",
        )
    run.require(run.cohort, "inspect DIR --out")


def require_own_folder(run: RunFolder) -> None:
    """Check that a new run may write into a folder.

    Raises:
        RunFolderError: If the folder holds files that no run of vitrail wrote.
    """
    known = (run.environment, run.cohort, run.data)
    if not run.root.exists() or any(path.exists() for path in known):
        return
    if not run.root.is_dir() or any(not path.match(".writing-*") for path in run.root.iterdir()):
        raise RunFolderError(
            str(run.root),
            "it is not empty and not a run folder",
            "a run writes into a new, an empty or its own folder",
            "pass another --out",
        )
