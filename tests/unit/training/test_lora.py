"""Low-rank products learn beside resting matrices, and are then merged into them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitrail.errors import InputError
from vitrail.training import lora
from vitrail.training.fit import FitSettings, fit

SETTINGS = FitSettings(epochs=3, batch_size=8, learning_rate=5e-3)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_an_adapted_model_computes_at_first_what_it_did(toy_model):
    model = toy_model().eval()
    images = torch.randn(2, 1, 16, 16)
    before = model(images)
    lora.adapt(model, rank=2)
    torch.testing.assert_close(model.eval()(images), before)


def test_only_products_and_head_are_trained_and_the_rest_is_as_it_was(toy_model):
    model = toy_model()
    lora.adapt(model, rank=2)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    products = [f"blocks.{b}.attn.{m}.lora_{x}" for b in "01" for m in lora.ADAPTED for x in "AB"]
    assert all(any(name.startswith(one) for name in trained) for one in products)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9, "layer_decay": 0.8}])
def test_the_merged_model_computes_the_same_and_loads_as_a_plain_one(
    tmp_path, toy_model, toy_data, changes
):
    model = toy_model()
    before = weights(model)
    lora.adapt(model, rank=2)
    fit(model, *toy_data, replace(SETTINGS, **changes), folder=tmp_path)
    images = toy_data[1].tensors[0]
    adapted = model(images)
    lora.merge(model)
    torch.testing.assert_close(model(images), adapted, rtol=1e-4, atol=1e-5)
    after = weights(model)
    plain = toy_model()
    plain.load_state_dict(after)
    torch.testing.assert_close(plain.eval()(images), model(images))
    assert all(parameter.requires_grad for parameter in model.parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"blocks.{b}.attn.{m}.weight" for b in "01" for m in lora.ADAPTED} | {
        "head.weight",
        "head.bias",
    }


def test_each_matrix_moves_by_a_product_of_the_asked_rank(tmp_path, toy_model, toy_data):
    model = toy_model()
    before = model.blocks[0].attn.qkv.weight.clone()
    lora.adapt(model, rank=2)
    fit(model, *toy_data, SETTINGS, folder=tmp_path)
    lora.merge(model)
    moved = (model.blocks[0].attn.qkv.weight - before).detach()
    assert int(torch.linalg.matrix_rank(moved, rtol=1e-4)) == 2


def test_a_model_that_was_not_adapted_is_left(toy_model):
    model = toy_model()
    before = weights(model)
    lora.merge(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_such_matrices_is_refused():
    with pytest.raises(InputError, match=r"attn\.qkv and attn\.proj"):
        lora.adapt(nn.Linear(2, 2), rank=4)


def test_a_missing_package_is_named_with_its_install_command(toy_model, monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "vitrail\[lora\]"'):
        lora.adapt(toy_model(), rank=4)
