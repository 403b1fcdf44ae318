"""The viewer's modules become one script for a page that opens from disk.

A page on disk cannot import modules (their origin is nobody's), so the modules are set one after
another, each after those that it imports, and their ``import`` and ``export`` words are dropped.
That is safe because no two modules use the same name at their top (a test holds them to it), and
the same files always give the same bytes. The server hands the modules out as they are.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?function|const|class)", re.MULTILINE)

ENTRY = "disk"
"""The module that starts the viewer in a page on disk."""


@cache
def modules() -> Mapping[str, str]:
    """Read the viewer's modules by name, those of the server included."""
    folder = files("vitrail.report.viewer")
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(".js"))
    return {name.removesuffix(".js"): folder.joinpath(name).read_text("utf-8") for name in found}


def shell() -> str:
    """Read the viewer's frame: plain HTML without data."""
    return files("vitrail.report.viewer").joinpath("viewer.html").read_text("utf-8")


def style() -> str:
    """Read the viewer's style sheet."""
    return files("vitrail.report.viewer").joinpath("viewer.css").read_text("utf-8")


@cache
def script(entry: str = ENTRY) -> str:
    """Join a module and all that it imports into one, dependencies first."""
    known, done = modules(), list[str]()

    def visit(name: str) -> None:
        for needed in _IMPORT.findall(known[name]):
            if needed not in done:
                visit(needed)
        if name not in done:
            done.append(name)

    visit(entry)
    parts = [_EXPORT.sub("", _IMPORT.sub("", known[name])) for name in done]
    return "\n".join(parts)


def fingerprint(source: str) -> str:
    """Return the source expression by which a content security policy allows one inline script."""
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"
