"""The layout of a model is found, or what was seen is named."""

import pytest
import timm
import torch
from torch import nn

from vitrail.errors import AnatomyError, MethodError
from vitrail.explain import Anatomy, anatomy, explain
from vitrail.explain.anatomy import image_size, patch_size


def test_without_images_the_models_own_size_is_taken():
    model = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=2
    )
    found = anatomy(model.eval())
    assert found == Anatomy(num_prefix_tokens=1, grid_size=(2, 3), readout="cls")
    assert (found.num_patches, found.num_tokens) == (6, 7)
    assert image_size(model) == (16, 24)


def test_a_model_that_names_no_size_asks_for_images():
    with pytest.raises(AnatomyError, match="images: None, and Conv2d names no image size"):
        anatomy(nn.Conv2d(3, 4, 8, 8))


@pytest.mark.parametrize(
    ("module", "size"),
    [(nn.Conv2d(1, 4, (4, 8), (4, 8)), (4, 8)), (nn.Conv2d(1, 4, 3, 1), None), (nn.ReLU(), None)],
)
def test_the_patch_is_the_stride_of_a_convolution_that_tiles(module, size):
    assert patch_size(nn.Sequential(module)) == size


@pytest.mark.parametrize(
    ("readout", "row"),
    [
        ("cls", [1, 0, 0, 0]),
        ("distilled", [0.5, 0.5, 0, 0]),
        ("patch_mean", [0, 0, 0.5, 0.5]),
        ("token_mean", [0.25] * 4),
        ("cls_and_patch_mean", [0.5, 0, 0.25, 0.25]),
    ],
)
def test_the_read_out_row_weighs_the_tokens_that_are_read(readout, row):
    layout = Anatomy(num_prefix_tokens=2, grid_size=(1, 2), readout=readout)
    assert layout.readout_row(torch.zeros(())).tolist() == row


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((0, (2, 2), "cls"), "the read-out 'cls' needs 1 or more prefix tokens"),
        ((1, (2, 2), "distilled"), "the read-out 'distilled' needs 2 or more prefix tokens"),
        ((1, (0, 2), "cls"), r"1 prefix tokens, grid \(0, 2\)"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(fields, words):
    prefix, grid, readout = fields
    with pytest.raises(AnatomyError, match=words):
        Anatomy(num_prefix_tokens=prefix, grid_size=grid, readout=readout)


def registers_last(model, x):
    patches = x.flatten(2).mT
    prefix, suffix = (
        part.expand(len(x), -1, -1) for part in (model.cls_token, model.register_tokens)
    )
    return torch.cat([prefix, patches, suffix], dim=1)


def weighted(model, x):
    return ((x @ model.score.mT).softmax(dim=1) * x).sum(dim=1)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (
            {
                "tokens": registers_last,
                "pool": lambda _, x: x[:, 0],
                "cls_token": (1, 1, 16),
                "register_tokens": (1, 2, 16),
            },
            r"row 0, column 3 of \(3, 4\) is token 4; with 3 tokens before .* it must be 6",
        ),
        ({"tokens": lambda _, x: x.mT.flatten(2).mT}, r"row 0, column 3 of \(3, 4\) is token 9"),
        ({"pool": weighted, "score": (1, 16)}, "the means seen average nothing"),
        ({"pool": lambda _, x: x.amax(dim=1)}, "the means seen average nothing"),
    ],
)
@pytest.mark.parametrize("method", ["rollout", "relevance"])
def test_tokens_in_another_order_and_pools_of_another_kind_are_refused(
    own_vit, pictures, method, choices, words
):
    with pytest.raises(AnatomyError, match=words):
        explain(own_vit(**choices), pictures, method=method)


class Both(nn.Module):
    """Two models whose answers are added."""

    def __init__(self, *models):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x):
        return sum(model(x) for model in self.models)


@pytest.mark.parametrize("method", ["rollout", "relevance", "libra"])
def test_two_models_put_together_are_no_chain_of_layers(own_vit, pictures, method):
    with pytest.raises(AnatomyError, match=r"6 attention calls.* some do not reach the last one"):
        explain(Both(own_vit(), own_vit()).eval(), pictures, method=method)


@pytest.mark.parametrize("method", ["rollout", "relevance", "token_drop"])
def test_layers_side_by_side_are_refused(method):
    model = timm.create_model(
        "vit_small_patch16_18x2_224", img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2,
        num_classes=3,
    )  # fmt: skip
    with pytest.raises(AnatomyError, match=r"4 attention calls.* side by side on the same tokens"):
        explain(model.eval(), torch.zeros(1, 3, 16, 16), method=method)


def test_a_read_out_is_found_inside_inference_mode(own_vit, pictures):
    model = own_vit()
    with torch.inference_mode():
        found = explain(model, pictures, method="rollout").values
    torch.testing.assert_close(found, explain(model, pictures, method="rollout").values)


def test_a_model_that_runs_without_gradients_inside_is_told_so(own_vit, pictures):
    class Frozen(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.head = inner, nn.Linear(4, 2)

        @property
        def layout(self):
            return Anatomy(num_prefix_tokens=0, grid_size=(3, 4), readout="patch_mean")

        def forward(self, x):
            with torch.no_grad():
                features = self.inner(x)
            return self.head(features)

    model = Frozen(own_vit()).eval()
    with pytest.raises(AnatomyError, match=r"carries no gradient \(torch.no_grad inside\?\)"):
        explain(model, pictures, method="rollout")
    assert explain(model, pictures, method="rollout", anatomy=model.layout).grid_size == (3, 4)
    for method in ("relevance", "input_x_gradient", "smooth_grad"):
        with pytest.raises(MethodError, match="does not depend on the images through a graph"):
            explain(model, pictures, method=method, anatomy=model.layout)


@pytest.mark.parametrize("method", ["rollout", "input_x_gradient", "occlusion"])
def test_the_layout_that_is_given_is_the_grid_of_every_kind_of_map(own_vit, pictures, method):
    model = own_vit(tokens=lambda model, x: x.flatten(2).mT)
    model.patches.patch_size = 2  # a name that means something else here
    layout = Anatomy(num_prefix_tokens=0, grid_size=(3, 4), readout="patch_mean")
    found = explain(model, pictures, method=method, anatomy=layout)
    assert found.grid_size == (3, 4)
