"""What cannot be explained is refused in one clear sentence, whatever the method."""

import logging

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from vitrail.errors import AnatomyError, CaptureError, InputError, MethodError, NumericalError
from vitrail.explain import Anatomy, explain


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    ).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["rollout", "relevance", "input_x_gradient", "occlusion"])
def test_images_of_another_size_are_refused_in_our_words(model, method):
    with pytest.raises(InputError, match=r"images: 24x16 px; the model takes 16 x 16 px and refu"):
        explain(model, torch.zeros(1, 3, 24, 16), method=method)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (3, "target: 3; the model has classes 0 to 2"),
        (-1, "target: -1; the model has classes 0 to 2"),
        ([0, 1], "target: 2 classes for 4 images; it must be one class, or one class an image"),
        ([0, 1, 2, 3], "target: 3; the model has classes 0 to 2"),
        ("best", "target: 'best'; it must be 'predicted', 'all', a class"),
        (torch.tensor([0.5] * 4), r"target: torch.float32 values; classes are whole numbers"),
        (lambda output: output, r"target: the callable returned \(4, 3\) for 4 images; it must"),
        (lambda output: output.sum(), r"target: the callable returned \(\) for 4 images; it must"),
        (lambda _: 1.0, "target: the callable returned float for 4 images; it must"),
        (lambda output: output[:2, 0], r"target: the callable returned \(2,\) for 4 images"),
        (lambda output: output[:, 0].detach(), "target: the score does not depend on the images"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(model, images, target, words):
    with pytest.raises((InputError, MethodError), match=words):
        explain(model, images, method="relevance", target=target)


def test_a_target_that_is_not_finite_is_refused(model, images):
    with pytest.raises(NumericalError, match="the callable returned NaN or infinity"):
        explain(model, images, target=lambda output: output[:, 0] / 0)


def test_a_contrast_with_a_class_that_is_not_there_is_refused(model, images):
    with pytest.raises(InputError, match="versus: 9; the model has classes 0 to 2"):
        explain(model, images, target=1, versus=9)


@pytest.mark.parametrize("target", [np.int64(1), np.array([1, 1, 1, 1]), torch.tensor(1)])
def test_classes_may_come_from_numpy_and_torch(model, images, target):
    found = explain(model, images, target=target)
    torch.testing.assert_close(found.values, explain(model, images, target=1).values)


@pytest.mark.parametrize("method", ["relevance", "libra", "integrated_gradients", "occlusion"])
def test_nan_in_the_logits_is_refused_by_every_kind_of_method(model, images, method):
    broken = images.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericalError, match="its logits hold NaN or infinity"):
        explain(model, broken, method=method)


@pytest.mark.parametrize("method", ["relevance", "input_x_gradient", "libra", "grad_cam"])
def test_a_gradient_inside_inference_mode_is_refused(model, images, method):
    with torch.inference_mode(), pytest.raises(MethodError, match=r"inside torch.inference_mode"):
        explain(model, images, method=method)


def test_a_map_without_gradients_is_served_inside_inference_mode(model, images):
    with torch.inference_mode():
        found = explain(model, images, method="rollout").values
    torch.testing.assert_close(found, explain(model, images, method="rollout").values)


def test_an_output_that_is_no_logits_is_refused(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8))
    with pytest.raises(InputError, match=r"its output is \(4, 4, 2, 2\); a class target needs"):
        explain(network.eval(), images, method="input_x_gradient")


def test_a_head_of_zeros_tells_no_read_out(images):
    class Zeros(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 2)
            nn.init.zeros_(self.head.weight)

        def forward(self, x):
            return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))

    with pytest.raises(AnatomyError, match=r"its answer depends on no row \(zeros\?\)"):
        explain(Zeros().eval(), images, method="rollout")


class ConvProjected(nn.Module):
    """One block whose queries, keys and values come from a convolution, run ``times`` times."""

    def __init__(self, times):
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(3, 8, 8, 8), nn.Conv1d(8, 24, 1)
        self.head, self.times = nn.Linear(8, 2), times

    def forward(self, x):
        tokens = self.patches(x).flatten(2)
        for _ in range(self.times):
            q, k, v = (part.mT.unsqueeze(1) for part in self.qkv(tokens).chunk(3, dim=1))
            tokens = tokens + F.scaled_dot_product_attention(q, k, v)[:, 0].mT
        return self.head(tokens.mean(2))


def test_a_layer_projected_by_a_convolution_is_served(images):
    torch.manual_seed(0)
    layout = Anatomy(num_prefix_tokens=0, grid_size=(2, 2), readout="patch_mean")
    found = explain(ConvProjected(1).eval(), images, method="rollout", anatomy=layout)
    assert found.values.shape == (4, 2, 2)


def test_a_layer_projected_by_a_convolution_and_run_twice_is_refused(images):
    layout = Anatomy(num_prefix_tokens=0, grid_size=(2, 2), readout="patch_mean")
    with pytest.raises(CaptureError, match=r"qkv.weight fed two attention calls"):
        explain(ConvProjected(2).eval(), images, method="rollout", anatomy=layout)


class Scarce(nn.Module):
    """A model that runs out of memory above a number of images."""

    def __init__(self, inner, most):
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(x)


@pytest.mark.parametrize(("method", "target"), [("relevance", [0, 1, 2, 0]), ("libra", "all")])
def test_when_memory_ends_each_image_keeps_its_target(model, images, method, target, caplog):
    layout = Anatomy(num_prefix_tokens=1, grid_size=(2, 2), readout="cls")
    with caplog.at_level(logging.WARNING, "vitrail"):
        found = explain(
            Scarce(model, 3).eval(), images, method=method, target=target, anatomy=layout
        )
    assert "out of memory: going on with 2 images at a time" in caplog.text
    whole = explain(model, images, method=method, target=target)
    torch.testing.assert_close(found.values, whole.values, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.classes, whole.classes)


def test_when_memory_ends_at_one_image_it_is_said(model, images):
    layout = Anatomy(num_prefix_tokens=1, grid_size=(2, 2), readout="cls")
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        explain(Scarce(model, 0).eval(), images, method="relevance", anatomy=layout)


@pytest.mark.parametrize(
    "method", ["rollout", "relevance", "token_drop", "transformer_attribution"]
)
def test_a_masked_key_gets_no_score(images, method):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
            self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 2)
            self.register_buffer("mask", torch.tensor([True, True, True, False])[None, None, None])

        def forward(self, x):
            tokens = self.patches(x).flatten(2).mT
            q, k, v = (part.unsqueeze(1) for part in self.qkv(self.norm(tokens)).chunk(3, dim=-1))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)[:, 0]
            return self.head((tokens[:, :3] * 0 + mixed[:, :3]).mean(1))

    torch.manual_seed(0)
    layout = Anatomy(num_prefix_tokens=0, grid_size=(2, 2), readout="patch_mean")
    if method == "token_drop":
        with pytest.raises(MethodError, match="must be left out of attention and of pooling"):
            explain(Masked().eval(), images, method=method, anatomy=layout)
        return
    found = explain(Masked().eval(), images, method=method, anatomy=layout, target=0)
    own_share = 0.25 if method != "rollout" else 0.125  # the identity: what skip connections carry
    torch.testing.assert_close(found.values[:, 1, 1], torch.full((4,), own_share))
