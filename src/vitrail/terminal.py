"""What a running command shows: bars and messages on standard error, the result on standard output.

Apart from ``cli``, because rich's bars take longer to import than ``vitrail --help`` may take.
"""

import errno
import json
import logging
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vitrail.errors import StoppedError, VitrailError
from vitrail.runfolder import RunFolder

Show = Callable[[Mapping[str, Any]], None]


class Bars:
    """Draws one bar a stage; it is the ``progress`` that the pipeline is given."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Move the bar of ``stage``."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total, note=note)


@contextmanager
def speaking(*, as_json: bool, debug: bool, out: Path | None) -> Iterator[tuple[Bars, Show]]:
    """Give a command its progress and its way to show a result, and turn errors into messages."""
    leads = os.environ.get("RANK", "0") == "0"  # of several processes, one speaks
    console = Console(stderr=True, quiet=not leads)
    log = logging.getLogger("vitrail")
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    try:
        with ExitStack() as shown:
            # The time left is told from all of a bar's steps: one may take longer than rich's 30 s.
            progress = Progress(*columns, console=console, speed_estimate_period=24 * 3600)
            bars = shown.enter_context(progress)

            def show(result: Mapping[str, Any]) -> None:
                shown.close()  # bars that are still drawn would take what is printed
                if leads:
                    _print(result, as_json=as_json)

            yield Bars(bars), show
    except StoppedError as error:
        stopped_by = signal.Signals[error.argument]
        raise _failure(str(error), debug=debug, status=128 + stopped_by) from error
    except VitrailError as error:
        raise _failure(str(error), debug=debug) from error
    except KeyboardInterrupt as error:
        message = _interrupted(out)
        raise _failure(message, debug=debug, status=128 + signal.SIGINT) from error
    except Exception as error:  # a fault of ours: one message instead of a page of frames
        raise _failure(_unforeseen(error), debug=debug) from error
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _print(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result: as one JSON object, or its sentences."""
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo("\n".join(result["summary"]))


def _failure(message: str, *, debug: bool, status: int = 2) -> typer.Exit:
    """Print one message (and the traceback if asked) and return the exit with its status."""
    if debug:
        typer.echo(traceback.format_exc(), err=True)
    typer.echo(f"vitrail: {message}", err=True)
    return typer.Exit(status)


def _unforeseen(error: Exception) -> str:
    """Say what no check foresaw: a full disk, a lack of rights, or a fault."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error.filename or 'a file'}: {error.strerror}; a file is written whole or not at "
            "all, and nothing finished is lost; make room on the disk and run the same command "
            "again: it goes on from there"
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or 'a file'}: {error.strerror}; pictures are read, and what a "
            "command makes is written; change the permissions, or write to another folder"
        )
    return (
        f"{type(error).__name__}: {error}; this is not a mistake of yours but a fault; nothing "
        "finished is lost; run the same command with --debug and send the traceback"
    )


def _interrupted(out: Path | None) -> str:
    """Say what Ctrl-C left and how to go on."""
    if out is None:
        return "Ctrl-C: stopped; nothing was being written; run the command again"
    finished = "no finished stage yet"
    environment = RunFolder(out).environment
    if environment.exists():
        stages = json.loads(environment.read_text(encoding="utf-8"))["stages"]
        finished = ", ".join(stages)
    return (
        f"Ctrl-C: stopped; {out} keeps what is finished ({finished}) and the newest checkpoint; "
        "files are written whole, so nothing is half done; run the same command again to go on"
    )
