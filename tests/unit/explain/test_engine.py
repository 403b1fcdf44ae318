"""The one call refuses what it cannot answer, in words, and survives a full memory."""

import logging

import pytest
import timm
import torch
from torch import nn

from vitrail.errors import AnatomyError, CaptureError, InputError, MethodError, NumericalError
from vitrail.explain import Anatomy, attention_maps, explain
from vitrail.explain.engine import patch_sums


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    ).eval()


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 16, 16), r"\(3, 16, 16\).*\[batch, channel, height, width\]"),
        ((0, 3, 16, 16), r"\(0, 3, 16, 16\); there must be at least one"),
        ((2, 1, 16, 16), r"1 channels; the model takes 3"),
    ],
)
def test_images_of_a_wrong_shape_are_refused(model, shape, words):
    with pytest.raises(InputError, match=words):
        explain(model, torch.zeros(shape), method="rollout")


def test_eight_bit_images_are_refused(model):
    with pytest.raises(InputError, match="uint8"):
        explain(model, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), method="rollout")


def test_an_unknown_method_is_refused_with_the_nearest_name(model, images):
    with pytest.raises(MethodError, match="did you mean 'rollout'"):
        explain(model, images, method="rolout")


def test_an_unknown_parameter_is_refused_with_the_nearest_name(model, images):
    with pytest.raises(MethodError, match=r"head_fuson: .* did you mean 'head_fusion'"):
        explain(model, images, method="rollout", head_fuson="max")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"head_fusion": "median"}, "head_fusion: 'median'; it must be one of mean, max, min"),
        ({"discard_ratio": 1.0}, r"discard_ratio: 1.0; it must lie in \[0, 1\)"),
        ({"residual": -0.1}, r"residual: -0.1; it must lie in \[0, 1\]"),
        ({"start_layer": 2}, "start_layer: 2; there are 2"),
    ],
)
def test_parameters_out_of_range_are_refused(model, images, parameters, words):
    with pytest.raises(MethodError, match=words):
        explain(model, images, method="rollout", **parameters)


def test_train_mode_is_refused(images):
    model = timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, drop_rate=0.1
    )
    with pytest.raises(InputError, match=r"\(Dropout\) is in train mode.*model.eval\(\)"):
        explain(model, images, method="rollout")


def test_nan_in_the_logits_is_refused(model, images):
    nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(NumericalError, match="NaN"):
        explain(model, images, method="rollout")


def test_a_model_without_attention_is_refused(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(CaptureError, match="no attention call was seen"):
        explain(network.eval(), images, method="rollout")


def test_an_anatomy_that_does_not_fit_names_what_was_seen(model, images):
    wrong = Anatomy(num_prefix_tokens=1, grid_size=(3, 3), readout="cls")
    with pytest.raises(AnatomyError, match=r"2 heads 5x5 .*10 tokens \(1 prefix \+ 3x3 patches\)"):
        explain(model, images, method="rollout", anatomy=wrong)


def test_a_max_pooled_model_is_refused_until_its_read_out_is_given(images):
    torch.manual_seed(0)
    network = timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, global_pool="max"
    ).eval()
    with pytest.raises(AnatomyError, match="global_pool='max'"):
        explain(network, images, method="rollout")
    given = Anatomy(num_prefix_tokens=1, grid_size=(2, 2), readout="patch_mean")
    assert explain(network, images, method="rollout", anatomy=given).values.shape == (4, 2, 2)


@pytest.mark.parametrize(("argument", "value"), [("target", "all"), ("versus", 1)])
def test_asking_a_class_agnostic_map_for_a_class_is_refused(model, images, argument, value):
    with pytest.raises(MethodError, match="the same for every class"):
        explain(model, images, method="rollout", **{argument: value})


def test_a_target_that_changes_nothing_is_said_to(model, images, caplog):
    with caplog.at_level(logging.WARNING, "vitrail"):
        explain(model, images, method="rollout", target=1)
    assert "knows no class" in caplog.text


def test_when_memory_ends_the_batch_is_halved_and_said_to_be(model, images, caplog):
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = model, []

        def forward(self, x):
            self.calls.append(len(x))
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(x)

    small = Small().eval()
    layout = Anatomy(num_prefix_tokens=1, grid_size=(2, 2), readout="cls")
    with caplog.at_level(logging.WARNING, "vitrail"):
        found = explain(small, images, method="rollout", anatomy=layout)
    assert small.calls == [4, 2, 2]
    assert "going on with 2 images at a time" in caplog.text
    torch.testing.assert_close(found.values, explain(model, images, method="rollout").values)


def test_every_parameter_is_recorded(model, images):
    found = explain(model, images, method="rollout", residual=0.25)
    assert found.parameters == {
        "head_fusion": "mean",
        "discard_ratio": 0.0,
        "residual": 0.25,
        "start_layer": 0,
    }


def test_attention_of_every_layer_and_head_is_shown(model, images):
    maps = attention_maps(model, images)
    assert maps.shape == (2, 4, 2, 2, 2)
    last = explain(model, images, method="raw_attention", head=1).values
    torch.testing.assert_close(maps[-1, :, 1], last)


def test_patch_sums_add_channels_and_the_pixels_of_each_patch():
    pixels = torch.arange(2 * 4 * 6.0).reshape(1, 1, 2, 4, 6)
    sums = patch_sums(pixels, (2, 3))
    assert sums.shape == (1, 1, 2, 2)
    assert float(sums[0, 0, 1, 0]) == float(pixels[0, 0, :, 2:, :3].sum())
