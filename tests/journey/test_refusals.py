"""What cannot be trained is refused before hours are spent on it, in words that say what to do."""

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from vitrail.runfolder import RunFolder

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def original(tmp_path_factory, succeed):
    """Return a run folder of twelve pictures of six patients, inspected."""
    root = tmp_path_factory.mktemp("refused")
    generator = np.random.default_rng(0)
    rows = ["path,label,patient"]
    for number in range(12):
        pixels = generator.integers(0, 255, size=(64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number % 6}")
    (root / "manifest.csv").write_text("\n".join(rows))
    succeed("inspect", root, "--manifest", root / "manifest.csv", "--out", root / "run")
    return RunFolder(root / "run")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--folds", "9"), r"9 folds"),
        (("--budget", "10s"), r"5 epochs of the model and of its baseline take about"),
        (("--model", "vit_smal_patch16_224"), r"perhaps vit_small"),
        (("--set", "lerning_rate=0.1"), r"perhaps learning_rate"),
        (("--set", "epochs=-1"), r"greater than or equal to 1"),
        (("--set", "model_parameters={patchsize: 8}"), r"perhaps patch_size"),
        (("--mode", "finetune"), r"without weights"),
    ],
)
def test_planning_refuses_what_cannot_be_done(run, options, said, refused):
    assert said in refused("plan", run.root, *options)
    assert not run.plan.exists()


def test_weights_of_another_architecture_are_refused_by_the_first_keys_that_differ(
    run, tmp_path, refused
):
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    said = refused("plan", run.root, "--model", "resnet10t", "--weights", weights)
    assert "it lacks conv1.0.weight" in said
    assert "it also holds" in said
    assert "blocks.0" in said


def test_a_pickle_of_more_than_tensors_is_refused_unread(run, tmp_path, refused):
    pickle = tmp_path / "model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, pickle)
    said = refused("plan", run.root, "--model", "resnet10t", "--weights", pickle)
    assert "could execute code, which vitrail never does" in said


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"epochs": "many"}, "epochs.value: 'many'"),
        ({"learning_rate": 0.5}, "ends in noise"),
        ({"mean": [0.5, 0.5]}, "mean has 2 numbers for 1 channels"),
        ({"mode": "head"}, "there are no weights to start from"),
        ({"image_size": [63, 63]}, "multiples of patch_size"),
        ({"model": "vitt"}, "a name that timm knows"),
        ({"model_parameters": {"patchsize": 8}}, "perhaps patch_size"),
        ({"baseline": "resnet81"}, "a name that timm knows"),
        ({"batch_size": 1}, "normalizes over its batch"),
        ({"folds": 3}, "split.csv holds 1"),
        ({"optimizer": "adamq"}, "perhaps adam"),
        ({"tracker": "tensorbord"}, "known are"),
        ({"precision": "fp16"}, "a CPU trains in fp32 or bf16"),
    ],
)
def test_a_plan_edited_into_nonsense_is_refused_before_anything_is_trained(
    run, edit, said, succeed, refused
):
    succeed("plan", run.root, "--set", "epochs=1")
    content = yaml.safe_load(run.plan.read_text())
    for name, value in edit.items():
        content[name]["value"] = value
    run.plan.write_text(yaml.safe_dump(content))
    assert said in refused("train", run.root)
    assert not list(run.root.glob("models/**/model.safetensors"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- list\n", "a list"),
        ("epochs: [1\n", "not YAML"),
        ("epoch: {value: 3}\n", "the nearest known one is 'epochs'"),
        ("epochs: {value: 3}\n", "missing"),
    ],
)
def test_a_plan_that_is_none_is_refused(run, text, said, succeed, refused):
    succeed("plan", run.root, "--set", "epochs=1")
    run.plan.write_text(text)
    assert said in refused("train", run.root)
