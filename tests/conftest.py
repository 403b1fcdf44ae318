"""What every test gets: checked shapes, seeded randomness, and the example data where it lies."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("vitrail", "beartype.beartype")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the project's example data beside the checkout, or skip the test, saying so."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the example data (../shared) is not beside this checkout")
    return folder
