"""``compile: true`` compiles the training step, where there is a compiler."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from vitrail.training.fit import FitSettings, fit

pytestmark = pytest.mark.journey

SETTINGS = FitSettings(epochs=2, batch_size=8, optimizer="sgd")


def start():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 2))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_ends_in_the_same_weights_as_a_plain_one(tmp_path):
    data = TensorDataset(torch.randn(24, 1, 4, 4), torch.arange(24) % 2)
    plain, compiled = start(), start()
    fit(plain, data, data, SETTINGS, folder=tmp_path / "plain")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fit(compiled, data, data, replace(SETTINGS, compile=True), folder=tmp_path / "compiled")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
