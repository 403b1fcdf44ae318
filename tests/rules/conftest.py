"""The checkout as the rules see it: its files, and its modules parsed."""

import ast
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", "node_modules", "__pycache__", "runs", "dist"}


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name (``vitrail.data.audit``), its lines and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, text: str, *, name: str = "vitrail.sample", path: Path = Path("sample.py")):
        return cls(name, path, text, ast.parse(text))


def read_modules(source: Path) -> list[Module]:
    modules = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        modules.append(Module.parse(path.read_text(encoding="utf-8"), name=name, path=path))
    return modules


MODULES = read_modules(CHECKOUT / "src" / "vitrail")


def pytest_generate_tests(metafunc):
    if "module" in metafunc.fixturenames:
        metafunc.parametrize("module", MODULES, ids=lambda module: module.name)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    return MODULES


@pytest.fixture
def sample():
    """Parse a made-up module, to show that a rule can fail."""
    return Module.parse


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file that git holds (or would hold); all files where this is no git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        found = []
        for folder, folders, names in os.walk(CHECKOUT):
            folders[:] = [name for name in folders if name not in NOT_OURS]
            found += [Path(folder) / name for name in names]
        return sorted(found)
    paths = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]
