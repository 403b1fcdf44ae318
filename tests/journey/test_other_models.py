"""The main job with other models than the one from scratch, and on another source's pictures."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from vitrail.data.cohort import load_cohort
from vitrail.runfolder import RunFolder

pytestmark = pytest.mark.journey


SIZE = (64, 64)
TINY_BASELINE = {
    "baseline": "resnet10t",
    "baseline_parameters": {"channels": [16, 32, 64, 128], "stem_width": 8},
}


@pytest.fixture(scope="module")
def trained(succeed):
    """Return a function that plans, makes the training tiny, and runs to the report."""

    def planned(folder, pictures, *options, **edits):
        succeed("inspect", pictures, "--out", folder.root)
        succeed("plan", folder.root, "--budget", "1h", *options)
        plan = yaml.safe_load(folder.plan.read_text())
        for name, value in {"epochs": 1, "baseline_epochs": 1, **TINY_BASELINE, **edits}.items():
            plan[name]["value"] = value
        folder.plan.write_text(yaml.safe_dump(plan))
        succeed("run", pictures, "--out", folder.root)
        return plan

    return planned


def test_a_network_without_attention_is_explained_by_its_gradient_as_the_plan_says(
    tmp_path, draw, trained, refused
):
    pictures = draw(tmp_path / "pictures", cases=24, size=SIZE)
    run = RunFolder(tmp_path / "run")
    plan = trained(run, pictures, "--model", "resnet18", image_size=[64, 64])
    assert plan["explanation"]["value"] == "grad_cam"
    maps = [json.loads(path.read_text()) for path in run.explanations.glob("*.json")]
    assert maps
    assert {said["method"] for said in maps} == {"grad_cam"}
    assert all(said["class_specific"] for said in maps)
    assert not (run.explanations / "attention").exists()
    assert "gradient or black-box method" in refused("explain", run.root, "--method", "rollout")


def test_local_weights_are_where_the_training_starts(tmp_path, draw, trained):
    pictures = draw(tmp_path / "pictures", cases=12, size=SIZE)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    weights = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), weights)
    run = RunFolder(tmp_path / "run")
    options = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    plan = trained(run, pictures, *options, learning_rate=1e-9)
    assert plan["weights"]["value"] == str(weights.resolve())
    assert plan["explanation"]["value"] == "rollout"
    kept = RunFolder(run.root).model("vit") / "model.safetensors"
    start = model.blocks[0].attn.qkv.weight.detach().numpy()
    assert _tensor(kept, "blocks.0.attn.qkv.weight") == pytest.approx(start, abs=1e-5)
    assert run.report.exists()


def test_weights_of_a_convolutional_network_are_fine_tuned_and_explained(tmp_path, draw, trained):
    pictures = draw(tmp_path / "pictures", cases=12, size=SIZE)
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=5)
    weights = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    run = RunFolder(tmp_path / "run")
    options = ("--model", "tf_efficientnet_lite0", "--weights", weights, "--mode", "finetune")
    plan = trained(run, pictures, *options, learning_rate=1e-9, image_size=[64, 64])
    assert plan["explanation"]["value"] == "grad_cam"
    kept = run.model("vit") / "model.safetensors"
    start = model.blocks[2][0].conv_pw.weight.detach().numpy()
    assert _tensor(kept, "blocks.2.0.conv_pw.weight") == pytest.approx(start, abs=1e-5)
    assert {json.loads(path.read_text())["method"] for path in run.explanations.glob("*.json")} == {
        "grad_cam"
    }
    assert run.report.exists()


def _tensor(path, name):
    from safetensors.numpy import load_file

    return load_file(path)[name]


@pytest.fixture(scope="module")
def original(tmp_path_factory, draw, trained):
    """Return a finished run with validation cases enough to know what is out of range."""
    root = tmp_path_factory.mktemp("other")
    folder = RunFolder(root / "run")
    small = {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    trained(
        folder,
        draw(root / "pictures", cases=120, size=SIZE),
        model_parameters=small,
        image_size=[64, 64],
    )
    return folder


def test_an_external_set_is_added_with_the_runs_own_threshold_and_counted(
    run, tmp_path, draw, succeed
):
    before = json.loads(run.evaluation.read_text())
    other = draw(tmp_path / "other", cases=20, size=SIZE, seed=1)
    told = succeed("evaluate", run.root, "--external", other)
    after = json.loads(run.evaluation.read_text())
    assert set(after["sets"]) == {"validation", "test", "external"}
    assert after["sets"]["external"]["vit"]["accuracy"]["n"] == 20
    assert after["sets"]["test"] == before["sets"]["test"]
    assert after["operating_points"] == before["operating_points"]
    assert after["test_openings"] == before["test_openings"] == 1
    again = succeed("evaluate", run.root, "--external", other)
    assert (told["openings"], again["openings"]) == (1, 2)
    assert run.predictions.read_text().count(",external,") == 2 * 20


def test_an_external_set_may_be_a_file_of_pictures(run, tmp_path, draw, succeed):
    drawn = sorted(draw(tmp_path / "other", cases=20, size=SIZE, seed=2).rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in drawn])
    source = tmp_path / "other.npz"
    labels = [["left", "right"].index(path.parent.name) for path in drawn]
    np.savez(source, images=pixels, labels=labels, classes=["left", "right"])
    succeed("evaluate", run.root, "--external", source)
    after = json.loads(run.evaluation.read_text())
    assert after["sets"]["external"]["vit"]["accuracy"]["n"] == 20
    assert len(list(run.external.rglob("*.png"))) == 20
    assert succeed("evaluate", run.root, "--external", source)["openings"] == 2


def test_an_external_set_may_be_a_data_set_of_hugging_face(run, tmp_path, draw, succeed):
    drawn = sorted(draw(tmp_path / "other", cases=20, size=SIZE, seed=3).rglob("*.png"))
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in drawn],
        "label": [path.parent.name for path in drawn],
    }
    (tmp_path / "set" / "data").mkdir(parents=True)
    pq.write_table(pa.table(table), tmp_path / "set" / "data" / "test-00000-of-00001.parquet")
    succeed("evaluate", run.root, "--external", tmp_path / "set")
    after = json.loads(run.evaluation.read_text())
    assert after["sets"]["external"]["vit"]["accuracy"]["n"] == 20


def test_an_external_manifest_gives_its_own_subgroups(run, tmp_path, draw, succeed):
    before = json.loads(run.evaluation.read_text())
    drawn = sorted(draw(tmp_path / "other", cases=24, size=SIZE, seed=4).rglob("*.png"))
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{['north', 'south'][place % 2]},"
        f"{'fm'[place // 2 % 2]},{20 + place * 2}"
        for place, path in enumerate(drawn)
    ]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["path,label,site,sex,age", *rows]))
    succeed("evaluate", run.root, "--external", tmp_path, "--manifest", manifest)
    after = json.loads(run.evaluation.read_text())
    assert after["subgroups"] == before["subgroups"]
    found = after["external_subgroups"]
    assert {name: set(models["vit"]["groups"]) for name, models in found.items()} == {
        "site": {"north", "south"},
        "sex": {"f", "m"},
        "age": {"18 to 39", "40 to 59", "60 to 79"},
    }
    succeed("report", run.root)
    assert "Vision Transformer by sex, external set" in run.report.read_text()


def test_an_external_set_of_other_classes_is_refused(run, tmp_path, draw, refused):
    other = draw(tmp_path / "other", cases=4, size=SIZE, seed=1, labels=("left", "up"))
    said = refused("evaluate", run.root, "--external", other)
    assert "classes up" in said
    assert "the run's classes: left, right" in said


def test_the_runs_own_pictures_are_no_external_set(run, refused):
    own = load_cohort(run.cohort).root
    assert "120 pictures are the run's own" in refused("evaluate", run.root, "--external", own)


def test_the_numbers_are_held_against_the_training_classes_and_the_shortcuts(run):
    content = json.loads(run.evaluation.read_text())
    assert any("majority" in said["b"] for said in content["comparisons"])
    found = {said["feature"] for said in content["shortcuts"]}
    assert found <= {said["feature"] for said in json.loads(run.audit.read_text())["shortcuts"]}
    assert found


def test_predict_warns_of_a_picture_unlike_the_training_pictures(run, tmp_path, draw, succeed):
    alike = draw(tmp_path / "alike", cases=10, size=SIZE, seed=2)
    bright = draw(tmp_path / "bright", cases=4, size=SIZE, seed=2, bright=150)
    told = succeed("predict", run.root, alike, bright, "--out", tmp_path / "new")
    outside = {said["path"]: said["out_of_range"] for said in told["predictions"]}
    assert all(value for path, value in outside.items() if "bright" in path)
    assert sum(value for path, value in outside.items() if "alike" in path) <= 3
    assert any("validation pictures" in sentence for sentence in told["summary"])
    assert "out_of_range" in (tmp_path / "new" / "predictions.csv").read_text().splitlines()[0]
