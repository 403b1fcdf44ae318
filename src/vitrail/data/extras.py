"""Libraries that are installed with an extra: loaded where they are needed, else named."""

from importlib import import_module
from typing import Any

from vitrail.errors import MissingExtraError


def load(library: str, *, extra: str, wanted_for: str) -> Any:
    """Import a library that not everybody needs.

    Args:
        library: Its module.
        extra: The extra of vitrail that installs it.
        wanted_for: What needs it, in words.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            library.partition(".")[0],
            "it is not installed",
            f"{wanted_for} needs it",
            f"install it with: pip install 'vitrail[{extra}]'",
        ) from error
