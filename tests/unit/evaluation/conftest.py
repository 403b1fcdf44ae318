"""Simulated predictions that the tests of this folder share."""

import numpy as np
import pytest

from vitrail.records import Predictions


@pytest.fixture(scope="session")
def predict():
    """Return a function that simulates what one model says of one set."""

    def made(model="vit", split="test", *, num_cases=60, seed=0, num_classes=2, skill=1.5):
        generator = np.random.default_rng([seed, num_cases, int(10 * skill)])
        y_true = np.arange(num_cases) % num_classes
        noise = generator.normal(size=(num_cases, num_classes))
        scores = np.exp(noise + skill * np.eye(num_classes)[y_true])
        names = ("clear", "nodule") if num_classes == 2 else tuple("abcd"[:num_classes])
        ids = tuple(f"{split}/{place}" for place in range(num_cases))
        probabilities = scores / scores.sum(1, keepdims=True)
        return Predictions(model, seed, 0, split, names, ids, y_true, probabilities)

    return made


@pytest.fixture(scope="session")
def predict_labels():
    """Return a function that simulates a model of several labels a case."""

    def made(model="vit", split="test", *, num_cases=80, skill=1.5):
        y_true = np.random.default_rng(num_cases).random((num_cases, 3)) < np.array([0.5, 0.3, 0.4])
        generator = np.random.default_rng([num_cases, int(10 * skill)])
        score = generator.normal(size=(num_cases, 3)) + skill * (y_true - 0.5)
        ids = tuple(f"{split}/{place}" for place in range(num_cases))
        probabilities = 1 / (1 + np.exp(-score))
        return Predictions(
            model, 0, 0, split, ("edema", "mass", "scar"), ids, y_true, probabilities
        )

    return made


@pytest.fixture(scope="session")
def alone():
    """Return a function that makes every case its own cluster."""
    return lambda blocks: {name: name for block in blocks for name in block.case_ids}
