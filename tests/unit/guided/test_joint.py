import torch
from torch.nn.functional import cross_entropy

from vitrail.explain import explain
from vitrail.explain.anatomy import anatomy
from vitrail.explain.rollout import differentiable_rollout
from vitrail.guided.joint import EndToEnd
from vitrail.models.zoo import SMALL_VIT, ModelSpec, build

VIT = ModelSpec(
    architecture="vit",
    num_classes=2,
    img_size=(24, 24),
    in_chans=1,
    parameters={**SMALL_VIT, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
)
CNN = ModelSpec(
    architecture="resnet10t",
    num_classes=2,
    img_size=(24, 24),
    in_chans=1,
    parameters={"channels": (8, 8, 8, 8), "stem_width": 8},
)


def test_the_differentiable_rollout_is_the_rollout():
    model = build(VIT, seed=0).eval()
    images = torch.randn(3, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    layout = anatomy(model, images)
    rolled = differentiable_rollout(model, images, layout=layout)
    assert rolled.requires_grad
    torch.testing.assert_close(rolled.detach(), explain(model, images, method="rollout").values)


def test_its_gradient_is_that_of_finite_differences():
    model = build(VIT, seed=0).double().eval()
    images = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)).double()
    layout = anatomy(model, images)
    (weight,) = (value for name, value in model.named_parameters() if "blocks.0.attn.qkv.w" in name)

    def corner():
        return differentiable_rollout(model, images, layout=layout)[0, 0, 0]

    (slope,) = torch.autograd.grad(corner(), weight)
    place = tuple(int(one) for one in (slope.abs() == slope.abs().max()).nonzero()[0])
    step = 1e-4
    with torch.no_grad():
        weight[place] += step
        above = corner()
        weight[place] -= 2 * step
        below = corner()
    torch.testing.assert_close(slope[place], (above - below) / (2 * step), rtol=1e-4, atol=1e-12)


def test_the_second_stages_loss_trains_the_attention_of_the_first():
    model = EndToEnd(VIT, CNN, seed=0).train()
    images = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    cross_entropy(model(images), torch.tensor([0, 1, 0, 1])).backward()
    reached = {name for name, value in model.vit.named_parameters() if value.grad is not None}
    assert any("blocks.0.attn.qkv" in name for name in reached)
    assert not any("head" in name for name in reached)
    assert model.cnn.conv1[0].in_channels == 2


def test_it_says_the_same_of_a_case_alone_and_among_others():
    model = EndToEnd(VIT, CNN, seed=0).eval()
    images = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images)[2:3], model(images[2:3]), atol=1e-5, rtol=1e-5)
