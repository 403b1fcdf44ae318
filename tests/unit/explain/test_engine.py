"""The one call refuses what it cannot answer, in words, and survives a full memory."""

import logging

import pytest
import timm
import torch
import torch.nn.functional as F
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
        img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2
    )
    with pytest.raises(
        InputError, match=r"it \(VisionTransformer\) is in train mode.*model.eval\(\)"
    ):
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


def by_einsum(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).mul(8**-0.5).softmax(dim=-1)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


class NormByHand(nn.LayerNorm):
    """A layer norm, written out."""

    def forward(self, x):
        centered = x - x.mean(dim=-1, keepdim=True)
        deviation = torch.sqrt(centered.square().mean(dim=-1, keepdim=True) + self.eps)
        return centered / deviation * self.weight + self.bias


class RootMeanSquareByHand(nn.RMSNorm):
    """A root mean square norm, as most language models write it."""

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6) * self.weight


class RootMeanSquareByNormalize(RootMeanSquareByHand):
    """The same by the length of the vector."""

    def forward(self, x):
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.weight


def negated_twice(q, k, v):
    return F.scaled_dot_product_attention(q, k, v.neg().neg())


def multiplied_twice(q, k, v):
    return F.scaled_dot_product_attention(q, k, v * -1.0 * -1.0)


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [
        ("attn_lrp", {}, {"attend": by_einsum}),
        ("cp_lrp", {}, {"attend": by_einsum}),
        ("relevance", {}, {"attend": by_einsum}),
        ("cp_lrp", {}, {"norm": NormByHand}),
        ("attn_lrp", {}, {"norm": NormByHand}),
        ("attn_lrp", {"norm": nn.RMSNorm}, {"norm": RootMeanSquareByHand}),
        ("cp_lrp", {"norm": nn.RMSNorm}, {"norm": RootMeanSquareByHand}),
        ("cp_lrp", {"norm": nn.RMSNorm}, {"norm": RootMeanSquareByNormalize}),
        ("transformer_attribution", {"attend": multiplied_twice}, {"attend": negated_twice}),
    ],
)
def test_how_a_function_is_written_does_not_change_its_map(
    own_vit, pictures, method, first, second
):
    maps = [explain(own_vit(**one), pictures, method=method).values for one in (first, second)]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4 * float(maps[0].abs().max()))


def test_a_picture_of_one_channel_may_be_spread_over_three_inside(own_vit, pictures):
    class Gray(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x.expand(-1, 3, -1, -1))

    found = explain(Gray(own_vit()).eval(), pictures[:, :1], method="relevance")
    assert found.values.shape == (2, 3, 4)


@pytest.mark.parametrize("method", ["rollout", "relevance", "occlusion", "cp_lrp"])
def test_what_a_model_by_itself_refuses_is_said_in_our_words(own_vit, method):
    model = own_vit(tokens=lambda model, x: x.flatten(2).mT + model.place, place=(1, 12, 16))
    words = r"images: \(1, 3, 8, 8\); the model refused them: The size of tensor a \(4\) must"
    with pytest.raises(InputError, match=words):
        explain(model, torch.zeros(1, 3, 8, 8), method=method)


def test_maps_of_a_two_layer_head_are_of_the_last_feature_map():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
            self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, x):
            self.seen = self.second(self.first(x).relu()).relu()
            return self.head(self.seen.mean(dim=(2, 3)))

    torch.manual_seed(0)
    model, images = Network().eval(), torch.randn(2, 3, 16, 16)
    found = explain(model, images, method="grad_cam", target=1).values
    (slope,) = torch.autograd.grad(model(images)[:, 1].sum(), model.seen)
    expected = (slope.mean(dim=(2, 3), keepdim=True) * model.seen).sum(dim=1)
    torch.testing.assert_close(found, expected.detach())


def test_a_token_is_dropped_under_causal_attention(own_vit, pictures):
    def causal(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    model = own_vit(attend=causal, pool=lambda _, x: x.mean(dim=1))
    found = explain(model, pictures, method="token_drop", target=0).values
    tokens = model.patches(pictures).flatten(2).mT
    for number in (0, 5):
        rest = torch.cat([tokens[:, :number], tokens[:, number + 1 :]], dim=1)
        shorter = model.head(model.norm(model.blocks(rest)).mean(dim=1))[:, 0]
        expected = model(pictures)[:, 0] - shorter
        torch.testing.assert_close(
            found.flatten(1)[:, number], expected.detach(), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("method", ["legrad", "rollout", "rise"])
def test_maps_are_the_same_inside_autocast(model, images, method):
    settings = {"masks": 4} if method == "rise" else {}
    with torch.autocast("cpu", torch.bfloat16):
        inside = explain(model, images, method=method, **settings).values
    assert torch.equal(inside, explain(model, images, method=method, **settings).values)


@pytest.mark.parametrize("variant", ["fullgrad", "fullgrad_plus"])
def test_libra_serves_attention_pooling_by_a_query_of_its_own(own_vit, pictures, variant):
    pool = nn.MultiheadAttention(16, 2, batch_first=True).eval()

    def pooled(model, x):
        return pool(model.query.expand(len(x), -1, -1), x, x)[0][:, 0]

    many = pictures.repeat(6, 1, 1, 1)  # as many pictures as patches: they are told apart
    found = explain(own_vit(pool=pooled, query=(1, 1, 16)), many, method="libra", variant=variant)
    assert found.values.shape == (12, 3, 4)
    torch.testing.assert_close(found.values[:2], found.values[2:4])
    if found.residual is not None:
        assert float(found.residual.abs().max()) < 1e-4
