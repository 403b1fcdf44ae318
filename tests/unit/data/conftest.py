"""Small cohorts of generated pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Return a writer of random pictures; the seed decides the pixels."""

    def write(path: Path, seed: int = 0, *, size: tuple[int, int] = (40, 48)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, size=(5, 6), dtype=np.uint8)
        image = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        image.save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Return a folder of two classes of six pictures each."""
    root = tmp_path / "tiles"
    for seed in range(12):
        picture(root / ("benign" if seed < 6 else "tumor") / f"{seed}.png", seed)
    return root
