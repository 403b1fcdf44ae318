"""What every command does around its verb: bars, messages, the result, the command line."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitrail.errors import InputError, MissingExtraError

Speaking = AbstractContextManager[tuple[Callable[..., None], Callable[[Mapping[str, Any]], None]]]
"""What a command is given: its progress, and what shows its result."""

STEP: ContextVar[tuple[str, ...]] = ContextVar("STEP", default=())
"""Words of the command that a recipe is executing; empty outside of recipes."""


def speaking(*, as_json: bool, debug: bool, out: Path | None) -> Speaking:
    """Open what shows a running command; its libraries are too heavy for ``--help``."""
    from vitrail.terminal import speaking as open_terminal

    return open_terminal(as_json=as_json, debug=debug, out=out)


def require(*libraries: str, extra: str) -> None:
    """Refuse to go on without the libraries of an extra.

    Raises:
        MissingExtraError: If one is not installed.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtraError(
                library,
                "it is not installed",
                f"this command needs the extra {extra}",
                f"install it with: pip install 'vitrail[{extra}]'",
            )


def command_line() -> str:
    """Return the exact command line; of a recipe's step, that of the step."""
    return shlex.join(["vitrail", *(STEP.get() or sys.argv[1:])])


_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def minutes(budget: str | None) -> float | None:
    """Read a time such as ``90s``, ``15m`` or ``2h``."""
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(
            "--budget", repr(budget), "it is a number and s, m or h", "pass --budget 15m"
        )
    return float(match[1]) * _UNITS[match[2]]
