"""The head is trained first, then one layer more after another."""

from dataclasses import replace
from itertools import count, pairwise

import pytest
import torch
from torch import nn

from vitrail.errors import InputError
from vitrail.training import loop, lora
from vitrail.training.fit import FitSettings, fit
from vitrail.training.unfreezing import Unfreezing


def trained(model):
    return {name.rpartition(".")[0] for name, one in model.named_parameters() if one.requires_grad}


def test_layers_are_set_free_from_the_head_down(toy_model):
    model = toy_model()
    unfreezing = Unfreezing(model, share=0.5)
    found = []
    for epoch in range(8):
        unfreezing.begin(epoch, epochs=8)
        found.append(trained(model))
    assert found[0] == {"head"}
    assert all(before <= after for before, after in pairwise(found))
    assert any("blocks.1.attn.qkv" in one and "blocks.0.attn.qkv" not in one for one in found)
    assert "patch_embed.proj" not in found[3]
    assert "patch_embed.proj" in found[4]


def test_every_layer_is_trained_from_the_first_epoch_where_it_is_not_asked_for(toy_model):
    model = toy_model()
    Unfreezing(model, share=0.0).begin(0, epochs=8)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_resting_layers_do_not_move(tmp_path, toy_model, toy_data):
    model = toy_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = FitSettings(epochs=1, batch_size=8, unfreezing=1.0)
    fit(model, *toy_data, settings, folder=tmp_path)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"head.weight", "head.bias"}


def test_a_schedule_that_is_cut_short_sets_every_layer_free_all_the_same(
    tmp_path, toy_model, toy_data, monkeypatch
):
    minutes = count(step=60.0)
    monkeypatch.setattr(loop, "perf_counter", lambda: next(minutes))
    freed = []
    begin = Unfreezing.begin

    def watched(self, epoch, *, epochs):
        begin(self, epoch, epochs=epochs)
        freed.append(all(parameter.requires_grad for parameter, _ in self.layers))

    monkeypatch.setattr(Unfreezing, "begin", watched)
    # An epoch of three steps takes six minutes; of twenty epochs layers were to rest for ten.
    settings = FitSettings(epochs=20, batch_size=16, unfreezing=0.5, most_minutes=33.0)
    fit(toy_model(), *toy_data, settings, folder=tmp_path)
    assert freed == [False, False, False, True, True]


class CutOff(BaseException):
    """Stands for a kill."""


def test_a_training_cut_off_while_layers_rest_ends_in_the_same_weights(
    tmp_path, toy_model, toy_data
):
    settings = FitSettings(epochs=4, batch_size=16, unfreezing=0.7, checkpoint_steps=1)
    whole, model = toy_model(), None
    fit(whole, *toy_data, settings, folder=tmp_path / "whole")
    for after in (2, 3, 4, 99):
        left = [after]

        def cut(stage, *, done, total, note="", left=left):
            left[0] -= 1
            if left[0] < 0:
                raise CutOff

        model = toy_model()
        try:
            fit(model, *toy_data, settings, folder=tmp_path / "cut", progress=cut)
        except CutOff:
            continue
    ends = model.state_dict()
    assert all(torch.equal(value, ends[name]) for name, value in whole.state_dict().items())


def test_what_rests_for_another_reason_goes_on_resting(toy_model):
    model = toy_model()
    lora.adapt(model, rank=2)
    Unfreezing(model, share=0.5).begin(3, epochs=4)
    assert not model.blocks[0].mlp.fc1.weight.requires_grad


def test_a_model_of_unknown_order_is_refused(tmp_path, toy_data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    settings = replace(FitSettings(), unfreezing=0.5)
    with pytest.raises(InputError, match="set unfreezing: 0 to train all layers"):
        fit(model, *toy_data, settings, folder=tmp_path)
