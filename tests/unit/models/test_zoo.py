"""A model is built from its description: from nothing, a file, and the hub only if asked."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import InputError
from vitrail.models.zoo import CNN_LADDER, SMALL_VIT, ModelSpec, build, like_cost_cnn

TINY = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
VIT = ModelSpec(architecture="vit", num_classes=2, img_size=(32, 48), in_chans=1, parameters=TINY)


@given(
    st.builds(
        ModelSpec,
        architecture=st.text(min_size=1),
        num_classes=st.integers(1, 1000),
        img_size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
        in_chans=st.sampled_from([1, 3]),
        parameters=st.dictionaries(st.text(), st.one_of(st.integers(), st.booleans(), st.text())),
    )
)
def test_a_description_survives_json(spec):
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_size": [32]}, r"model\.img_size"),
        ({"num_classes": "two"}, r"model\.num_classes: 'two'"),
        ({"depht": 3}, r"model\.depht: an unknown field"),
    ],
)
def test_a_wrong_field_of_a_description_is_named(change, message):
    with pytest.raises(InputError, match=message):
        ModelSpec.from_json(VIT.to_json() | change)


@pytest.mark.parametrize(
    "parameters",
    [
        TINY,
        TINY | {"global_pool": "avg", "class_token": False},
        TINY | {"reg_tokens": 4},
        TINY | {"conv_stem": True},
        SMALL_VIT | {"depth": 1},
    ],
)
def test_a_transformer_from_scratch_takes_its_parameters_and_any_shape(parameters):
    model = build(replace(VIT, parameters=parameters))
    assert model(torch.zeros(2, 1, 32, 48)).shape == (2, 2)
    patch = parameters["patch_size"]
    assert model.patch_embed.grid_size == (32 // patch, 48 // patch)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_randomness():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = build(VIT, seed=1), build(VIT, seed=1), build(VIT, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.pos_embed, second.pos_embed)
    assert not torch.equal(first.pos_embed, other.pos_embed)


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "resnet18"])
def test_timm_models_come_by_name_with_any_channels_classes_and_sides(architecture, in_chans):
    spec = ModelSpec(architecture=architecture, num_classes=5, img_size=(32, 64), in_chans=in_chans)
    assert build(spec)(torch.zeros(2, in_chans, 32, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(VIT, architecture="resnet81"), "architecture: 'resnet81'; .*perhaps .*resnet"),
        (replace(VIT, parameters=TINY | {"dept": 3}), r"parameters\.dept: .*perhaps depth"),
        (replace(VIT, img_size=(30, 48)), "img_size: 30 x 48 px"),
        (replace(VIT, parameters=TINY | {"num_heads": 3}), "model vit: .*num_heads"),
        (replace(VIT, parameters=TINY | {"conv_stem": True, "patch_size": 6}, img_size=(36, 36)),
         "patch_size: 6; a convolutional stem halves"),
        (replace(VIT, architecture="hf-hub:someone/something"), "fetched only if that is asked"),
    ],
)  # fmt: skip
def test_descriptions_that_fit_no_model_are_refused_by_name(spec, message):
    with pytest.raises(InputError, match=message):
        build(spec)


def test_offline_never_asks_the_hub(monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *_a, **_k: pytest.fail("the hub was asked"))
    spec = replace(VIT, architecture="resnet18", parameters={})
    with pytest.raises(InputError, match="pretrained: asked for together with --offline"):
        build(spec, pretrained=True, offline=True)
    with pytest.raises(InputError, match="the hub has weights of named timm models only"):
        build(VIT, pretrained=True)


def test_the_baseline_is_the_rung_of_nearest_cost():
    seconds = dict(zip((str(rung) for rung in CNN_LADDER), (0.1, 0.4, 1, 2, 4, 8, 16), strict=True))

    def cost(spec):
        return (
            1.3
            if spec.architecture == "vit"
            else seconds[str((spec.architecture, spec.parameters))]
        )

    baseline = like_cost_cnn(VIT, cost)
    assert (baseline.architecture, baseline.parameters) == CNN_LADDER[2]
    assert (baseline.img_size, baseline.in_chans) == (VIT.img_size, VIT.in_chans)


@pytest.mark.parametrize(("architecture", "parameters"), CNN_LADDER[:3])
def test_every_small_rung_is_a_dearer_network_than_the_one_before(architecture, parameters):
    spec = replace(VIT, architecture=architecture, parameters=parameters)
    assert build(spec)(torch.zeros(2, 1, 32, 48)).shape == (2, 2)


def test_a_hub_that_cannot_be_reached_is_told_with_the_way_around(monkeypatch):
    def unreachable(name, *, pretrained, **_):
        assert pretrained
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("vitrail.models.zoo.timm.create_model", unreachable)
    spec = ModelSpec(architecture="vit_tiny_patch16_224", num_classes=2, img_size=(224, 224))
    with pytest.raises(InputError, match=r"not known; .*to fetch it.*give a local weights file"):
        build(spec, pretrained=True)
