"""A model folder comes back as it was saved, and says what is wrong with it if it cannot."""

import json
from dataclasses import asdict
from importlib.resources import files

import jsonschema
import pytest
import torch

from vitrail.errors import InputError, RunFolderError
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.records import Preprocessing

SPEC = ModelSpec(
    architecture="attention_classifier",
    num_classes=2,
    img_size=(32, 48),
    in_chans=1,
    parameters={"embed_dim": 8, "num_heads": 2, "drop_rate": 0.5},
)
PREPROCESSING = Preprocessing(image_size=(32, 48), channels=1, mean=(0.4,), std=(0.2,))

OTHER = asdict(PREPROCESSING)


def save(folder, **changes):
    arguments = {
        "model": build(SPEC, seed=3),
        "spec": SPEC,
        "classes": ("clear", "nodule"),
        "preprocessing": PREPROCESSING,
        "extra": {"thresholds": {"nodule": 0.4}},
    } | changes
    bundle.save(folder, **arguments)
    return arguments["model"]


def test_a_saved_model_predicts_the_same_and_keeps_its_names(tmp_path):
    model = save(tmp_path).eval()
    loaded = bundle.load(tmp_path)
    image = torch.randn(2, 1, 32, 48)
    assert torch.equal(loaded.model(image), model(image))
    assert not loaded.model.training
    assert (loaded.spec, loaded.classes) == (SPEC, ("clear", "nodule"))
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.extra == {"thresholds": {"nodule": 0.4}}


def test_the_starting_weights_need_not_exist_any_more(tmp_path):
    spec = ModelSpec.from_json(SPEC.to_json() | {"weights": "gone.safetensors"})
    save(tmp_path, spec=spec)
    assert bundle.load(tmp_path).spec == spec


def test_model_json_fits_its_schema(tmp_path):
    save(tmp_path)
    schema = json.loads((files("vitrail") / "schemas" / "model.json").read_text())
    jsonschema.validate(json.loads((tmp_path / "model.json").read_text()), schema)


def test_weights_of_another_training_are_not_taken_for_these(tmp_path):
    save(tmp_path)
    save(tmp_path / "other", model=build(SPEC, seed=4))
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(RunFolderError, match=r"not what model\.json was written for"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"classes": ["a"]}, "classes: 1 names; the model has 2 logits"),
        ({"classes": "ab"}, "classes: 0 names; the model has 2 logits"),
        ({"classes": ["a", "a"]}, "each class has a name of its own"),
        ({"preprocessing": OTHER | {"image_size": [48, 32]}}, r"the model takes \(32, 48\) px"),
        ({"preprocessing": OTHER | {"mean": [0.1, 0.2, 0.3]}}, "each has 1 numbers"),
        ({"preprocessing": OTHER | {"std": [0]}}, "those of std are above 0"),
        (
            {"architecture": SPEC.to_json() | {"parameters": {"embed_dim": 16, "num_heads": 2}}},
            r"its tensors are not those of the model that model\.json describes",
        ),
        ({"preprocessing": {"image_size": "big"}}, r"preprocessing\.image_size is 'big'"),
        ({"architecture": {"architecture": "vit"}}, r"model\.num_classes"),
    ],
)
def test_a_changed_description_is_refused_by_the_field(tmp_path, change, message):
    save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((RunFolderError, InputError), match=message):
        bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunFolderError, match=f"it holds no {name}"):
        bundle.load(tmp_path)


def test_json_that_describes_no_model_is_refused(tmp_path):
    save(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(RunFolderError, match="not the description of a model"):
        bundle.load(tmp_path)


def test_what_does_not_fit_the_model_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="classes: 3 names"):
        save(tmp_path, classes=("a", "b", "c"))
    other = Preprocessing(image_size=(32, 32), channels=1, mean=(0.4,), std=(0.2,))
    with pytest.raises(InputError, match="preprocessing:"):
        save(tmp_path, preprocessing=other)
    assert not list(tmp_path.iterdir())
