"""Weights come from local files: adapted where that is right, refused by name where it is not."""

import logging
import pickle
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

from vitrail.errors import DataError, InputError
from vitrail.models.zoo import ModelSpec, build

VIT = ModelSpec(
    architecture="vit",
    num_classes=2,
    img_size=(32, 32),
    parameters={"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
)


@pytest.fixture
def pretrained():
    return build(VIT, seed=7)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_back_whole(tmp_path, pretrained, suffix):
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": pretrained.state_dict()}, path)
    else:
        save_file(pretrained.state_dict(), path)
    model = build(replace(VIT, weights=path))
    assert all(map(torch.equal, model.state_dict().values(), pretrained.state_dict().values()))


def test_a_head_of_another_size_is_left_out_and_said_so(tmp_path, pretrained, caplog):
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    with caplog.at_level(logging.INFO, logger="vitrail"):
        model = build(replace(VIT, num_classes=5, weights=tmp_path / "w.safetensors"))
    assert model.head.weight.shape == (5, 16)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, pretrained.blocks[1].mlp.fc1.weight)
    assert "its head does not fit 5 classes and is left out" in caplog.text
    assert not model.head.weight.any()
    assert not model.head.bias.any()


def test_a_cnns_new_head_is_certain_of_nothing(tmp_path):
    spec = ModelSpec(architecture="tf_efficientnet_lite0", num_classes=7, img_size=(64, 64))
    save_file(build(spec).state_dict(), tmp_path / "w.safetensors")
    model = build(replace(spec, num_classes=2, weights=tmp_path / "w.safetensors"))
    assert not model.classifier.weight.any()
    whole = build(replace(spec, weights=tmp_path / "w.safetensors"))
    assert torch.equal(whole.classifier.weight, build(spec).classifier.weight)


def test_positions_are_resized_for_other_sizes_and_shapes(tmp_path, pretrained):
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    model = build(replace(VIT, img_size=(32, 64), weights=tmp_path / "w.safetensors"))
    assert model.pos_embed.shape == (1, 1 + 4 * 8, 16)
    torch.testing.assert_close(model.pos_embed[:, 0], pretrained.pos_embed[:, 0])
    grid = model.pos_embed[0, 1:].view(4, 8, 16).mean(dim=(0, 1))
    old = pretrained.pos_embed[0, 1:].mean(dim=0)
    torch.testing.assert_close(grid, old, atol=0.01, rtol=0)


def test_a_grey_model_sees_a_grey_picture_as_the_color_model_did(tmp_path, pretrained):
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    grey = build(replace(VIT, in_chans=1, weights=tmp_path / "w.safetensors")).eval()
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(grey(image), pretrained.eval()(image.expand(-1, 3, -1, -1)))


def test_a_color_model_sees_grey_pixels_as_the_grey_model_did(tmp_path):
    grey = build(replace(VIT, in_chans=1), seed=7).eval()
    save_file(grey.state_dict(), tmp_path / "w.safetensors")
    color = build(replace(VIT, weights=tmp_path / "w.safetensors")).eval()
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(color(image.expand(-1, 3, -1, -1)), grey(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, r"it lacks blocks\.2\.norm1\.weight"),
        ({"depth": 1}, r"it also holds blocks\.1\.attn\.proj\.bias"),
        ({"embed_dim": 32}, r"of another shape are cls_token \[1, 1, 16\] for \[1, 1, 32\]"),
    ],
)
def test_another_architecture_is_refused_with_the_first_keys_that_differ(
    tmp_path, pretrained, change, message
):
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    spec = replace(VIT, parameters=VIT.parameters | change, weights=tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        build(spec)


class Harm:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_positions_that_cannot_be_resized_are_named(tmp_path, pretrained):
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    plain = {**VIT.parameters, "class_token": False, "global_pool": "avg"}
    with pytest.raises(
        InputError, match=r"also holds cls_token.*shape are pos_embed \[1, 17, 16\]"
    ):
        build(replace(VIT, parameters=plain, weights=tmp_path / "w.safetensors"))


def test_an_autoencoders_decoder_is_left_out(tmp_path, pretrained):
    path = tmp_path / "mae.pth"
    decoder = {"decoder_pred.weight": torch.ones(3, 3), "mask_token": torch.ones(1, 1, 3)}
    torch.save({"model": pretrained.state_dict() | decoder}, path)
    model = build(replace(VIT, weights=path))
    assert all(map(torch.equal, model.state_dict().values(), pretrained.state_dict().values()))


def test_names_of_another_library_are_told(tmp_path):
    path = tmp_path / "hf.pth"
    torch.save({"vit.embeddings.patch_embeddings.projection.weight": torch.ones(1)}, path)
    with pytest.raises(InputError, match="those of Hugging Face's transformers: take timm's"):
        build(replace(VIT, weights=path))


def test_weights_of_nan_are_refused(tmp_path, pretrained):
    pretrained.blocks[0].norm1.weight.data[3] = torch.nan
    save_file(pretrained.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        DataError, match=r"NaN or infinity in blocks\.0\.norm1\.weight; weights are"
    ):
        build(replace(VIT, weights=tmp_path / "w.safetensors"))


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3)])
def test_a_file_of_something_else_is_named(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth: unreadable \(AttributeError"):
        build(replace(VIT, weights=tmp_path / "w.pth"))


def test_a_pickle_that_is_more_than_weights_is_refused_unexecuted(tmp_path, pretrained):
    with_an_object = tmp_path / "object.pth"
    torch.save({"model": pretrained.state_dict(), "metric": Fraction(1, 3)}, with_an_object)
    harmful = tmp_path / "harm.pth"
    harmful.write_bytes(pickle.dumps(Harm(), protocol=2))
    for path in (with_an_object, harmful):
        with pytest.raises(DataError, match="could execute code"):
            build(replace(VIT, weights=path))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x00" * 64])
def test_files_that_are_not_weights_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        build(replace(VIT, weights=tmp_path / name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.pth: no such file"):
        build(replace(VIT, weights=tmp_path / "none.pth"))
