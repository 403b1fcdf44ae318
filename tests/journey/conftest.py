"""Bright squares to learn, plans that no clock decides, and a copy of the module's run a test."""

import shutil

import numpy as np
import pytest
from PIL import Image

from vitrail.runfolder import RunFolder


@pytest.fixture(scope="module", autouse=True)
def untimed():
    """Time no step: what a plan holds must not depend on how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitrail.pipeline.plan.seconds_a_step", lambda *_, **__: 0.01)
        yield


@pytest.fixture
def run(original, tmp_path):
    """Copy the run that the module made, so that no test sees what another one wrote."""
    return RunFolder(shutil.copytree(original.root, tmp_path / "run"))


@pytest.fixture(scope="session")
def draw():
    """Return a function that draws class folders of grey noise with a bright square in it.

    It lies at the left in the first class and at the right in the others.
    """

    def drawn(root, *, cases, size=(32, 32), labels=("left", "right"), seed=0, bright=0):
        generator = np.random.default_rng(seed)
        rows, columns = size
        for number in range(cases):
            label = labels[number % len(labels)]
            pixels = generator.integers(bright, bright + 90, size=size, dtype=np.uint8)
            left = columns // 8 if label == labels[0] else columns * 5 // 8
            pixels[rows * 5 // 16 : rows * 5 // 8, left : left + columns // 4] = 200
            (root / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / label / f"{number:03}.png")
        return root

    return drawn
