"""Features are those that the head sees, and pictures far from the training ones are told apart."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.pipeline.novelty import features, judge_features, learn_features


class Pictures:
    """Pictures of noise around a brightness."""

    def __init__(self, count, *, seed):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 1, 4, 4, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], 0, index


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2)).eval()


def test_features_are_what_the_last_linear_layer_is_given_and_no_hook_stays(model):
    images = Pictures(3, seed=1).images
    found = features(model, images)
    with torch.no_grad():
        np.testing.assert_allclose(found, model[:3](images).numpy(), rtol=1e-6)
    assert not model[3]._forward_pre_hooks


def test_a_picture_unlike_the_training_pictures_is_told_after_a_way_through_json(model):
    learned = learn_features(model, Pictures(200, seed=2), held_out=Pictures(60, seed=3))
    learned = json.loads(json.dumps(learned))
    assert learned["num_measured"] == 30
    like = [
        judge_features(learned, model, images=Pictures(1, seed=k).images) for k in range(50, 90)
    ]
    assert np.mean([one.outside for one in like]) < 0.3
    assert judge_features(learned, model, images=torch.full((1, 1, 4, 4), 40.0)).outside


def test_with_too_few_pictures_nothing_is_judged(model):
    learned = learn_features(model, Pictures(10, seed=2), held_out=Pictures(5, seed=3))
    assert "at least are needed" in learned["reason"]
    assert judge_features(learned, model, images=torch.zeros(1, 1, 4, 4)) is None
