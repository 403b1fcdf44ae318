"""The founding systems, each as a check of its path on a generated stand-in."""

import pytest
from PIL import Image

from vitrail.report.tables import number
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


@pytest.fixture
def smoke(succeed):
    """Return a function that runs a recipe in its smallest size into a folder."""

    def found(name, out):
        told = succeed("recipe", "run", name, "--smoke", "--out", out)
        assert told["size"] == "smoke"
        assert any("not run here" in sentence for sentence in told["summary"])
        return told

    return found


def test_the_grid_of_the_slices(tmp_path, smoke, refused):
    found = smoke("sarscov2-grid", tmp_path)
    grid = RunFolder(tmp_path / "grid")
    study = read_json(grid.tuning)
    assert study["configurations_tried"] == 2
    assert [one["parameters"]["heads"] for one in study["skipped"]] == [3, 3]
    assert read_json(grid.evaluation)["configurations_tried"] == 2
    for name in ("confusion", "heads", "tuning-map"):
        assert (grid.root / "figures" / f"{name}.png").exists()
    assert (grid.root / "new" / "predictions.csv").exists()
    assert (tmp_path / "first" / "report.html").exists()
    stages = read_json(grid.environment)["stages"]
    assert stages["evaluate"]["command"] == f"vitrail evaluate {grid.root}"
    # What is finished is skipped.
    assert smoke("sarscov2-grid", tmp_path)["steps"] == found["steps"]
    other = refused("recipe", "run", "sarscov2-grid", "--phantom", "--out", tmp_path)
    assert "a folder keeps one recipe" in other


def test_the_head_of_deit(tmp_path, smoke):
    smoke("beans-deit", tmp_path)
    figures = tmp_path / "head" / "figures"
    assert {path.name for path in figures.iterdir()} == {
        "panels.png",
        "rollout-variants.png",
        "rollout.gif",
    }
    with Image.open(figures / "rollout.gif") as moving:
        assert moving.n_frames == 13  # the input, and twelve layers


def test_the_transformer_beside_the_convolutional_network(tmp_path, smoke):
    smoke("food101-vit-vs-resnet", tmp_path)
    page = (tmp_path / "both" / "compare.html").read_text()
    measured = read_json(tmp_path / "both" / "compare.json")["throughput"]
    assert set(measured["models"]) == {"vit", "cnn"}
    assert measured["pictures"] == 12
    for one in measured["models"].values():
        assert 0 < one["low"] <= one["pictures_per_s"] <= one["high"]
        assert f"<td>{number(one['pictures_per_s'], digits=1)}</td>" in page
    samples = {path.parent.parent.name for path in tmp_path.rglob("figures/samples.png")}
    assert samples == {"vit", "cnn"}
    plans = [(tmp_path / name / "plan.yaml").read_text() for name in ("vit", "cnn")]
    assert all("mean:\n  value:\n  - 0.5\n  - 0.5\n  - 0.5" in plan for plan in plans)


def test_the_tissues_step_by_step(tmp_path, smoke):
    smoke("kather6-vit", tmp_path)
    record = read_json(tmp_path / "sources" / "evaluation.json")
    assert record["sets"]["test"]["vit"]
    names = {path.stem for path in (tmp_path / "random" / "figures").iterdir()}
    assert names == {"steps", "patches", "positions", "heads", "distance"}


def test_the_guided_network(tmp_path, smoke):
    smoke("ct-guided", tmp_path)
    assert (tmp_path / "study" / "guided" / "evaluation.json").exists()
