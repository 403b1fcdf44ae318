"""Laws of the class-specific methods: completeness, batches, targets, order, planted evidence."""

import pytest
import timm
import torch
from torch import nn

from vitrail.explain import Anatomy, explain, methods

GRADIENT = [name for name, row in methods().items() if row.class_specific and name != "rise"]
CHEAP = {"integrated_gradients": {"steps": 3}, "smooth_grad": {"samples": 2}}
IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    network = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return network.eval()


class Linear(nn.Module):
    """A model whose answer is a weighted sum of pixels: the cause of it is known."""

    patch_size = 8

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 16, 24))

    def forward(self, x):
        return torch.einsum("bchw,khw->bk", x, self.weight.sum(1)) + 0.5


def near(first, second):
    scale = float(second.abs().max())
    torch.testing.assert_close(first, second, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("method", GRADIENT)
def test_all_targets_together_are_the_targets_one_by_one(model, method):
    settings = CHEAP.get(method, {})
    together = explain(model, IMAGES, method=method, target="all", **settings).values
    for target in range(3):
        near(
            together[target],
            explain(model, IMAGES, method=method, target=target, **settings).values,
        )


@pytest.mark.parametrize("method", [*GRADIENT, "rise"])
def test_a_batch_is_its_images_one_by_one(model, method):
    settings = {**CHEAP, "rise": {"masks": 5}}.get(method, {})
    together = explain(model, IMAGES, method=method, target=1, **settings).values
    for number in range(3):
        alone = explain(model, IMAGES[number : number + 1], method=method, target=1, **settings)
        near(together[number], alone.values[0])


def without_positions(seed):
    torch.manual_seed(seed)
    network = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        network.pos_embed[:, 1:] = 0
    return network.eval()


@pytest.mark.parametrize("method", [name for name in GRADIENT if name != "smooth_grad"])
def test_exchanging_patches_exchanges_the_map(method):
    model, images = without_positions(4).double(), IMAGES.double()
    swapped = images.clone()
    swapped[..., :8, :8], swapped[..., 8:, 16:] = images[..., 8:, 16:], images[..., :8, :8]
    settings = CHEAP.get(method, {})
    before = explain(model, images, method=method, target=0, **settings).values
    after = explain(model, swapped, method=method, target=0, **settings).values
    expected = before.clone()
    expected[:, 0, 0], expected[:, 1, 2] = before[:, 1, 2], before[:, 0, 0]
    near(after, expected)


def test_fullgrad_under_corrected_gradients_is_complete(model):
    found = explain(model, IMAGES, method="libra", variant="fullgrad", target="all")
    total = found.values.sum(dim=(-2, -1)) + found.prefix.sum(dim=-1)
    logits = model(IMAGES).T.detach()
    assert float((logits - total).abs().max()) < 1e-3 * float(logits.abs().min())
    torch.testing.assert_close(found.residual, logits - total, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", ["gauss_legendre", "midpoint"])
def test_more_steps_leave_a_smaller_residual(model, rule):
    def residual(steps):
        found = explain(
            model, IMAGES, method="integrated_gradients", target=1, steps=steps, rule=rule
        )
        return float(found.residual.abs().max())

    assert residual(64) < residual(2)
    assert residual(64) < 1e-2


@pytest.mark.parametrize(
    "method", ["occlusion", "input_x_gradient", "integrated_gradients", "cp_lrp"]
)
def test_the_parts_of_a_linear_model_are_found_exactly(method):
    model = Linear().eval()
    weighted = (IMAGES * model.weight[1].sum(0)).sum(1).detach()
    parts = weighted.reshape(3, 2, 8, 3, 8).sum(dim=(2, 4))
    layout = Anatomy(num_prefix_tokens=0, grid_size=(2, 3), readout="patch_mean")
    found = explain(model, IMAGES, method=method, target=1, anatomy=layout)
    torch.testing.assert_close(found.values, parts, rtol=1e-4, atol=1e-4)


def test_rise_finds_where_a_linear_model_looks():
    model = Linear().eval()
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, :, :8, 16:] = 1.0
    found = explain(model, torch.ones(1, 3, 16, 24), method="rise", target=1, masks=200, cells=3)
    assert int(found.values[0].flatten().argmax()) == 2


def test_smooth_grad_of_a_linear_model_is_its_gradient():
    model = Linear().eval()
    found = explain(model, IMAGES, method="smooth_grad", target=0, samples=3)
    expected = model.weight[0].sum(0).detach().expand(3, 3, 16, 24)
    torch.testing.assert_close(found.pixels, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", GRADIENT)
def test_bfloat16_is_near_float32(model, method):
    half = without_positions(1).to(torch.bfloat16)
    wide = without_positions(1).to(torch.bfloat16).float()
    settings = CHEAP.get(method, {})
    images = IMAGES.to(torch.bfloat16)
    low = explain(half, images, method=method, target=1, **settings).values
    high = explain(wide, images.float(), method=method, target=1, **settings).values
    together = torch.stack([low.flatten(), high.flatten()])
    assert low.dtype == torch.float32
    if method != "transformer_attribution":  # its rules divide by sums near zero
        assert float(torch.corrcoef(together)[0, 1]) > 0.95


@pytest.mark.parametrize("method", ["input_x_gradient", "cp_lrp", "integrated_gradients"])
def test_one_image_behind_a_normalized_stem_is_as_in_a_batch(method):
    class Stem(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8))
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.block(self.stem(x).flatten(2).transpose(1, 2)).mean(dim=1))

    torch.manual_seed(0)
    model = Stem()
    model.stem[1].weight.data.uniform_(0.5, 2.0)
    model.eval()
    settings = {"batch_size": 1} if method == "integrated_gradients" else {}
    together = explain(model, IMAGES, method=method, target=0).values
    for number in range(3):
        one = explain(model, IMAGES[number : number + 1], method=method, target=0, **settings)
        near(one.values[0], together[number])
