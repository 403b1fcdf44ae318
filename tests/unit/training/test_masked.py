"""Hidden patches are hidden, the encoder learns from them, and comes back as it was."""

import json
from dataclasses import replace
from itertools import count

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.utils.data import TensorDataset

from vitrail.errors import InputError
from vitrail.training import loop
from vitrail.training.fit import FitSettings, fit
from vitrail.training.masked import MaskedAutoencoder, _around, pretrain, to_patches

SETTINGS = FitSettings(epochs=3, batch_size=8, learning_rate=3e-3)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def stripes():
    """Pictures that a quarter of tells the rest: stripes of any phase and direction."""
    generator = torch.Generator().manual_seed(0)
    phase = torch.rand(64, 1, 1, generator=generator) * 6.28
    slope = torch.rand(64, 2, 1, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    images = torch.sin(slope[:, 0] * rows + slope[:, 1] * columns + phase)[:, None]
    return TensorDataset(images, torch.zeros(64, dtype=torch.int64))


@pytest.mark.parametrize("parameters", [{}, {"conv_stem": True}, {"reg_tokens": 2}])
def test_no_pixel_of_a_hidden_patch_reaches_the_encoder(toy_model, parameters):
    with _around(toy_model(**parameters), mask_ratio=0.75) as autoencoder:
        autoencoder.eval()
        images = torch.randn(2, 1, 16, 16)
        kept = torch.tensor([[0, 3, 5, 9], [1, 2, 4, 15]])
        hidden = torch.ones(2, 16, dtype=torch.bool).scatter(1, kept, value=False)
        blank = hidden.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        noisy = torch.where(blank, torch.randn_like(images), images)
        first, second = (
            autoencoder.encode(pictures, kept=kept, hidden=hidden) for pictures in (images, noisy)
        )
        assert torch.equal(first, second)
        assert first.shape[1] == 4 + autoencoder.encoder.num_prefix_tokens


def test_tokens_go_back_to_their_own_places(toy_model):
    with _around(toy_model(class_token=False, global_pool="avg"), mask_ratio=0.75) as autoencoder:
        autoencoder.blocks = nn.Identity()
        autoencoder.predict = nn.Identity()
        tokens = torch.randn(1, 4, 16)
        kept = torch.tensor([[7, 0, 12, 3]])
        filled = autoencoder.fill_in(tokens, kept=kept) - autoencoder.places
        expected = autoencoder.embed(tokens)
        torch.testing.assert_close(filled[0, kept[0]], expected[0])
        torch.testing.assert_close(filled[0, 1], autoencoder.mask_token)


def test_the_error_counts_hidden_patches_only_and_each_normalized(toy_model):
    with _around(toy_model(), mask_ratio=0.75) as autoencoder:
        autoencoder.eval()
        images = torch.randn(3, 1, 16, 16)
        seen = {}

        def fill_in(tokens, *, kept):
            seen["kept"] = kept
            return torch.zeros(3, 16, 16)

        autoencoder.fill_in = fill_in
        losses = autoencoder(images)
        patches = to_patches(images, (4, 4))
        for picture, loss in enumerate(losses):
            hidden = [i for i in range(16) if i not in seen["kept"][picture]]
            expected = [
                (((p - p.mean()) / (p.var() + 1e-6).sqrt()) ** 2).mean()
                for p in patches[picture, hidden]
            ]
            assert float(loss) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_patches_lie_row_by_row():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert to_patches(image, (2, 2))[0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_filling_in_is_learned_and_the_head_is_left(tmp_path, toy_model, stripes):
    model = toy_model()
    before, attributes = weights(model), set(vars(model))
    settings = replace(SETTINGS, epochs=25)
    rows = pretrain(model, stripes, settings=settings, folder=tmp_path).history
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    after = weights(model)
    assert before.keys() == after.keys()
    assert torch.equal(before["head.weight"], after["head.weight"])
    assert not torch.equal(before["blocks.0.attn.qkv.weight"], after["blocks.0.attn.qkv.weight"])
    assert set(vars(model)) == attributes
    assert all(parameter.requires_grad for parameter in model.parameters())
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


class CutOff(BaseException):
    """Stands for a kill: nothing catches it."""


def test_pretraining_cut_off_ends_in_the_same_weights(tmp_path, toy_model, stripes):
    settings = replace(SETTINGS, checkpoint_steps=2, ema_decay=0.9)
    whole = toy_model()
    pretrain(whole, stripes, settings=settings, folder=tmp_path / "whole")
    for seed in range(30):
        left = [seed % 7 + 2]

        def cut(stage, *, done, total, note="", left=left):
            left[0] -= 1
            if left[0] < 0:
                raise CutOff

        model = toy_model()
        torch.manual_seed(seed)
        try:
            pretrain(model, stripes, settings=settings, folder=tmp_path / "cut", progress=cut)
            break
        except CutOff:
            assert isinstance(model.patch_drop, nn.Identity)
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(whole).items())


def test_a_pretraining_that_is_slower_than_planned_ends_in_its_time_and_says_so(
    tmp_path, toy_model, stripes, monkeypatch, caplog
):
    minutes = count(step=60.0)
    monkeypatch.setattr(loop, "perf_counter", lambda: next(minutes))
    settings = replace(SETTINGS, epochs=20, most_minutes=100.0)  # an epoch of 8 steps takes 16
    made = pretrain(toy_model(), stripes, settings=settings, folder=tmp_path)
    assert len(made.history) == 6
    assert "pretrain slower than planned: 6 epochs in place of 20" in made.warnings[0]
    assert made.warnings[0] in caplog.text
    again = pretrain(toy_model(), stripes, settings=settings, folder=tmp_path)
    assert again == made  # ended, and said again


def test_embeddings_are_not_decayed(toy_model):
    autoencoder = MaskedAutoencoder(toy_model(), mask_ratio=0.75)
    optimizer = create_optimizer_v2(autoencoder, opt="adamw", lr=1.0, weight_decay=0.05)
    name_of = {id(parameter): name for name, parameter in autoencoder.named_parameters()}
    decayed = {
        name_of[id(parameter)]
        for group in optimizer.param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    assert decayed
    assert all(name.endswith(".weight") for name in decayed)


def test_a_pretrained_encoder_is_then_trained_as_any(tmp_path, toy_model, toy_data, stripes):
    model = toy_model()
    pretrain(model, stripes, settings=replace(SETTINGS, epochs=1), folder=tmp_path / "pretrain")
    fit(model, *toy_data, replace(SETTINGS, epochs=1), folder=tmp_path)


@pytest.mark.parametrize("ratio", [0.0, 0.99])
def test_a_share_that_hides_all_or_nothing_is_refused(toy_model, ratio):
    with pytest.raises(InputError, match="some patches must be hidden and some seen"):
        MaskedAutoencoder(toy_model(), mask_ratio=ratio)


def test_another_architecture_is_refused(tmp_path, stripes):
    with pytest.raises(InputError, match="VisionTransformer alone; choose --model vit"):
        pretrain(nn.Linear(2, 2), stripes, settings=SETTINGS, folder=tmp_path)
