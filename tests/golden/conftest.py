"""The golden set's model, inputs and maps (../shared/golden)."""

import json

import numpy as np
import pytest
import safetensors
import timm
import torch


@pytest.fixture(scope="session")
def model(shared):
    with safetensors.safe_open(shared / "golden" / "A.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    network = timm.models.VisionTransformer(
        img_size=tuple(config["img_size"]),
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        num_classes=config["num_classes"],
    )
    network.load_state_dict(weights)
    return network.eval()


@pytest.fixture(scope="session")
def inputs(shared):
    with np.load(shared / "golden" / "A_io.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def maps(shared):
    with np.load(shared / "golden" / "A_maps.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def images(inputs):
    return torch.from_numpy(inputs["images"])
