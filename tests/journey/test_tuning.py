"""Tune, train what was chosen, and read the page: configurations tried stand beside the numbers."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Plan a run on bright squares left and right; no step is timed beforehand."""
    root = tmp_path_factory.mktemp("tuning")
    generator = np.random.default_rng(0)
    for number in range(48):
        label = ("left", "right")[number % 2]
        pixels = generator.integers(0, 90, size=(32, 32), dtype=np.uint8)
        column = 4 if number % 2 == 0 else 20
        pixels[10:20, column : column + 8] = 200
        (root / "pictures" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "pictures" / label / f"{number:03}.png")
    run = RunFolder(root / "run")
    succeed("inspect", root / "pictures", "--out", run.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitrail.pipeline.plan.seconds_a_step", lambda *_, **__: 0.01)
        succeed("plan", run.root, "--budget", "1h")
    plan = yaml.safe_load(run.plan.read_text())
    tiny = {"channels": [8, 16, 16, 16], "stem_width": 8}
    changed = {
        "epochs": 2,
        "baseline_epochs": 1,
        "image_size": [32, 32],
        "baseline": "resnet10t",
        "baseline_parameters": tiny,
        "model_parameters": {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    }
    for name, value in changed.items():
        plan[name]["value"] = value
    run.plan.write_text(yaml.safe_dump(plan))
    return run


def test_a_grid_is_tried_and_the_chosen_one_trained_and_reported(planned):
    unknown = invoke("tune", planned.root, "ptach=8")
    assert unknown.exit_code == 2
    assert "'patch'" in unknown.stderr
    found = succeed("tune", planned.root, "patch=8,16,5", "heads=1,2")
    study = found["tuning"]
    assert study["configurations_tried"] == 4
    assert [one["parameters"]["patch"] for one in study["skipped"]] == [5, 5]
    assert "multiples of patch_size" in study["skipped"][0]["reason"]
    values = {one["number"]: one["value"] for one in study["trials"]}
    assert values[study["chosen"]] == max(values.values())
    assert not planned.predictions.exists()
    again = succeed("tune", planned.root, "patch=8,16,5", "heads=1,2")
    assert again["tuning"]["trials"] == study["trials"]
    for name in ("learning-curve-of-every-trial", "values-over-the-grid", "parallel-coordinates"):
        drawing = (planned.tuning.parent / "figures" / f"{name}.svg").read_text()
        assert drawing.startswith('<svg xmlns="http://www.w3.org/2000/svg"')

    copy, *commands = study["commands"]
    shutil.copy(*copy.split()[1:])
    assert yaml.safe_load(planned.plan.read_text())["seeds"]["value"] == 3
    for command in commands:
        succeed(*command.split()[1:])
    record = read_json(planned.evaluation)
    assert record["configurations_tried"] == 4
    assert record["test_openings"] == 1
    assert record["sets"]["test"]["vit"]["roc_auc_score"]["spread"] is not None
    page = planned.report.read_text()
    assert "Configurations tried: 4; validation cases chose this one." in page
    assert "Learning curve of every trial" in page

    refused = invoke("tune", planned.root, "patch=8")
    assert refused.exit_code == 2
    assert "tuning comes before training" in " ".join(refused.stderr.split())
