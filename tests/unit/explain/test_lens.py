"""The logit lens reads the model's own answer off its last layer, or refuses."""

import pytest
import timm
import torch

from vitrail.errors import MethodError
from vitrail.explain import Anatomy, logit_lens
from vitrail.models.zoo import ModelSpec, build


def small(name, **options):
    torch.manual_seed(0)
    model = timm.create_model(
        name,
        num_classes=3,
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=2,
        **options,
    ).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model


MODELS = {
    "class token": lambda: small("vit_tiny_patch16_224"),
    "mean, norm after": lambda: small("vit_tiny_patch16_224", global_pool="avg", class_token=False),
    "two tokens": lambda: small("deit_tiny_distilled_patch16_224"),
    "registers": lambda: small("vit_small_patch14_reg4_dinov2", dynamic_img_size=False),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layers_answer_is_the_models(name):
    model, images = MODELS[name](), torch.randn(2, 3, 32, 32)
    lens = logit_lens(model, images)
    assert lens.logits.shape == (3, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(lens.logits[-1], model(images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(lens.logits[0], lens.logits[-1])


def test_an_early_layers_answer_is_that_of_a_model_that_ends_there():
    model, images = MODELS["class token"](), torch.randn(2, 3, 32, 32)
    lens = logit_lens(model, images)
    model.blocks = model.blocks[:2]
    with torch.no_grad():
        torch.testing.assert_close(lens.logits[1], model(images), rtol=1e-4, atol=1e-4)


def test_features_are_what_the_head_reads():
    model, images = MODELS["class token"](), torch.randn(2, 3, 32, 32)
    found = logit_lens(model, images).features
    with torch.no_grad():
        torch.testing.assert_close(model.head(found), model(images), rtol=1e-4, atol=1e-4)


def test_a_model_whose_answer_it_cannot_repeat_is_refused():
    model, images = MODELS["class token"](), torch.randn(1, 3, 32, 32)
    wrong = Anatomy(num_prefix_tokens=1, grid_size=(4, 4), readout="patch_mean")
    with pytest.raises(MethodError, match="away from its answer"):
        logit_lens(model, images, anatomy=wrong)


def test_attention_pooling_is_refused():
    model = small("vit_base_patch16_siglip_224")
    with pytest.raises(MethodError, match="pools by attention"):
        logit_lens(model, torch.randn(1, 3, 32, 32))


def test_the_runs_own_transformer_has_a_lens():
    spec = ModelSpec(
        architecture="vit",
        num_classes=2,
        in_chans=1,
        img_size=(32, 32),
        parameters={"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    )
    assert logit_lens(build(spec).eval(), torch.randn(1, 1, 32, 32)).logits.shape == (2, 1, 2)
