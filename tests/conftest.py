"""What every test gets: checked shapes, seeded randomness, the command line, the example data."""

import json
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("vitrail", "beartype.beartype")

from typer.testing import CliRunner  # noqa: E402 (after the hook, which sees what is imported)

from vitrail.cli import app  # noqa: E402 (after the hook, which sees what is imported)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Let fixtures draw the same from PyTorch's global generator whatever ran before."""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Let a test draw the same whether it made its shared fixtures or found them made."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def invoke():
    """Return a function that runs a command in this process."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def succeed(invoke):
    """Return a function that runs a command, which must end well; the object that it prints."""

    def succeeded(*words):
        done = invoke(*words, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return succeeded


@pytest.fixture(scope="session")
def refused(invoke):
    """Return a function that runs a command, which must refuse; what it says, in one line."""

    def said(*words):
        done = invoke(*words)
        assert done.exit_code == 2, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    return said


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the project's example data beside the checkout, or skip the test, saying so."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the example data (../shared) is not beside this checkout")
    return folder
