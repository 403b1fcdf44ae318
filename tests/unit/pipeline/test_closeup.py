"""A close look keeps what the viewer needs, within stated errors."""

import numpy as np
import torch
from torch import nn

from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline.closeup import choose, close_up, nearest, packed, quantized
from vitrail.records import Predictions


def vit(classes=2):
    torch.manual_seed(1)
    spec = ModelSpec(
        architecture="vit",
        num_classes=classes,
        in_chans=1,
        img_size=(32, 32),
        parameters={"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    )
    return build(spec).eval()


def test_steps_give_the_attention_back_within_half_a_step():
    attention = torch.rand(2, 3, 5, 7).softmax(dim=-1)
    steps, scales = quantized(attention)
    again = steps * scales[..., None] / 255
    assert np.abs(again - attention.numpy()).max() <= scales.max() / 510 + 1e-7
    assert steps.max(axis=-1).min() == 255


def test_everything_that_the_model_gives_is_kept(tmp_path):
    found = close_up(vit(), torch.randn(1, 1, 32, 32))
    names = {"attention", "prefix", "matrices", "scales", "importance", "lens", "values", "method"}
    assert set(found) == names
    np.testing.assert_allclose(found["lens"].sum(axis=1), 1, rtol=1e-5)
    path = tmp_path / "case.npz"
    path.write_bytes(packed(found))
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored) == names


def test_matrices_are_left_out_where_they_do_not_fit():
    assert "matrices" not in close_up(vit(), torch.randn(1, 1, 32, 32), whole=False)


def test_with_many_classes_there_is_no_map_of_each():
    assert "values" not in close_up(vit(classes=11), torch.randn(1, 1, 32, 32))


def test_a_view_that_the_model_refuses_is_left_out():
    class Headless(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(1, 8, 8, 8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, images):
            return self.head(self.encoder(self.patches(images).flatten(2).mT).mean(1))

    found = close_up(Headless().eval(), torch.randn(1, 1, 32, 32))
    assert "matrices" in found
    assert "lens" not in found


def test_the_surest_right_and_wrong_of_each_class_come_first_then_the_next():
    said = Predictions(
        model="vit",
        seed=0,
        fold=0,
        split="test",
        classes=("a", "b"),
        case_ids=("1", "2", "3", "4"),
        y_true=np.array([0, 0, 0, 1]),
        probabilities=np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]),
    )
    assert choose(said, rounds=1) == ["1", "3", "4"]
    assert choose(said, rounds=2) == ["1", "3", "4", "2"]


def test_the_nearest_is_the_one_in_the_same_direction():
    known = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    ((first, second),) = nearest(np.array([[0.8, 0.6]]), known, count=2)
    assert first[0] == 1
    np.testing.assert_allclose([first[1], second[1]], [0.04, 0.2], atol=1e-12)
