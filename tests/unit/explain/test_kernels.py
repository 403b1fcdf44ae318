"""Linear layers by oneDNN: the numbers of PyTorch's own, in whatever shape they come."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitrail.explain import explain
from vitrail.explain.intercept import entered
from vitrail.explain.kernels import WideLinear
from vitrail.faithfulness.planted import plant, tiny_vit


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (2, 3, 5, 7), (1, 7)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_linear_layer_and_its_gradient_are_those_of_torch(shape, with_bias):
    torch.manual_seed(0)
    layer = nn.Linear(7, 3, bias=with_bias)
    inside, outside = (torch.randn(shape, generator=_seeded()).requires_grad_() for _ in range(2))
    with entered(layer, WideLinear()):
        wide = layer(inside)
        (slope,) = torch.autograd.grad(wide.square().sum(), inside)
    plain = layer(outside)
    torch.testing.assert_close(wide, plain)
    torch.testing.assert_close(slope, torch.autograd.grad(plain.square().sum(), outside)[0])


def _seeded():
    return torch.Generator().manual_seed(3)


def test_rows_that_do_not_lie_side_by_side_are_multiplied_as_they_are():
    torch.manual_seed(0)
    layer, tokens = nn.Linear(4, 2), torch.randn(3, 5, 8)
    with torch.no_grad():
        plain = layer(tokens[:, 0, ::2]), layer(tokens.mT[:, :4].mT)
        with entered(layer, WideLinear()):
            wide = layer(tokens[:, 0, ::2]), layer(tokens.mT[:, :4].mT)
    torch.testing.assert_close(wide, plain)


@pytest.mark.parametrize(
    "values",
    [torch.ones(2, 3, dtype=torch.float64), torch.ones(3), torch.ones(0, 3)],
    ids=["double", "one row without an axis", "no rows"],
)
def test_what_it_does_not_serve_is_left_to_torch(values):
    weight = torch.ones(2, 3, dtype=values.dtype)
    with entered(nn.Identity(), WideLinear()):
        assert torch.equal(F.linear(values, weight), values @ weight.T)


def test_only_the_inputs_gradient_is_made_inside():
    layer = nn.Linear(3, 2)
    with entered(layer, WideLinear()):
        made = layer(torch.ones(2, 3))
    assert not made.requires_grad
    assert layer(torch.ones(2, 3)).requires_grad


def test_a_method_that_changes_the_rules_of_linear_layers_keeps_them_inside():
    model, images = tiny_vit(seed=3), plant(2, seed=5).images
    for method in ("transformer_attribution", "cp_lrp"):
        plain = explain(model, images, method=method, target=1).values
        with entered(model, WideLinear()):
            wide = explain(model, images, method=method, target=1).values
        torch.testing.assert_close(wide, plain, rtol=0.0, atol=1e-4 * float(plain.abs().max()))
