"""A toy task that a tiny transformer learns in a second."""

import pytest
import torch
from torch.utils.data import TensorDataset

from vitrail.models.zoo import ModelSpec, build


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy_data():
    """Return training and validation cases: class 1 has a bright patch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(72, 1, 16, 16, generator=generator)
    labels = torch.arange(72) % 2
    images[labels == 1, :, 4:8, 8:12] += 2
    return TensorDataset(images[:48], labels[:48]), TensorDataset(images[48:], labels[48:])


@pytest.fixture
def toy_model():
    """Return a maker of the same untrained transformer, with dropout."""

    def make(**parameters):
        return build(
            ModelSpec(
                architecture="vit",
                num_classes=2,
                img_size=(16, 16),
                in_chans=1,
                parameters={"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
                | {"drop_rate": 0.1, "drop_path_rate": 0.1}
                | parameters,
            )
        )

    return make
