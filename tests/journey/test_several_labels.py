"""Cases with several labels, or none: from a manifest to a report, a CNN beside the transformer."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from vitrail.runfolder import RunFolder, read_csv

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a manifest: a bright bar above, a bright bar below, both or neither."""
    root = tmp_path_factory.mktemp("labels") / "pictures"
    root.mkdir()
    generator = np.random.default_rng(0)
    lines = ["path,label,patient"]
    for number in range(96):
        pixels = generator.integers(0, 60, size=(64, 64), dtype=np.uint8)
        labels = [name for name in ("above", "below") if generator.random() < 0.45]
        for name in labels:
            row = 8 if name == "above" else 44
            pixels[row : row + 12, 8:56] = generator.integers(200, 255)
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        lines.append(f"{number:03}.png,{'|'.join(labels)},P{number // 2}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def original(pictures, succeed):
    folder = RunFolder(pictures.parent / "run")
    manifest = ("--manifest", pictures / "manifest.csv")
    succeed("inspect", pictures, "--out", folder.root, *manifest)
    succeed("plan", folder.root, "--budget", "30m")
    plan = yaml.safe_load(folder.plan.read_text())
    assert (plan["explanation"]["value"], plan["balance"]["value"]) == ("relevance", "none")
    plan["epochs"]["value"] = plan["baseline_epochs"]["value"] = 40
    plan["baseline"]["value"] = "resnet10t"
    plan["learning_rate"]["value"] = 3e-3
    plan["model_parameters"]["value"] |= {"embed_dim": 32, "depth": 2, "num_heads": 2}
    folder.plan.write_text(yaml.safe_dump(plan))
    succeed("run", pictures, "--out", folder.root, *manifest)
    return folder


def test_both_models_learn_each_label_by_itself(run):
    evaluation = json.loads(run.evaluation.read_text())
    schema = json.loads((files("vitrail") / "schemas" / "evaluation.json").read_text())
    jsonschema.validate(evaluation, schema)
    tested = evaluation["by_class"]["test"]
    assert set(tested) == {"vit", "cnn"}
    for label in ("above", "below"):
        assert tested["vit"][label]["roc_auc_score"]["value"] > 0.8
    assert evaluation["comparisons"][0]["a"] == "vit"


def test_the_probabilities_are_of_each_label_alone(run):
    rows = read_csv(run.predictions)
    assert {"|", "above|below"} <= {row["y_true"] for row in rows}
    sums = [float(row["prob_above"]) + float(row["prob_below"]) for row in rows]
    assert max(sums) > 1.1
    assert min(sums) < 0.9


def test_each_positive_label_has_a_map_of_its_own(run):
    truth = {row["case_id"]: row["label"] for row in read_csv(run.cohort)}
    tested = [row["case_id"] for row in read_csv(run.split) if row["split"] == "test"]
    for label in ("above", "below"):
        has = {name for name in tested if label in truth[name].split("|")}
        folder = run.explanations / f"relevance of {label}"
        assert has <= {path.stem for path in folder.glob("*.npz")}
    record = next((run.explanations / "relevance of below").glob("*.json"))
    about = json.loads(record.read_text())
    assert (about["target"], about["extra"]["label"]) == ("class 1", "below")


def test_the_bench_asks_about_each_label_and_marks_its_maps(run, succeed):
    words = ("--methods", "relevance,input_x_gradient", "--tests", "removal,mosaic,completeness")
    succeed("bench", run.root, *words, "--target", "label", "--cases", "12")
    content = json.loads(run.faithfulness.read_text())
    schema = json.loads((files("vitrail") / "schemas" / "faithfulness.json").read_text())
    jsonschema.validate(content, schema)
    assert content["settings"]["several"]
    assert content["num_units"] < content["num_cases"] == 12
    truth = {row["case_id"]: row["label"] for row in read_csv(run.cohort)}
    asked = {(case, name) for case, of_case in content["strips"].items() for name in of_case}
    assert len(asked) == 2 * 12
    assert {name.rpartition(" of ")[2] for _, name in asked} == {"above", "below"}
    assert all(name.rpartition(" of ")[2] in truth[case].split("|") for case, name in asked)
    case, name = next(one for one in sorted(asked) if one[1].startswith("relevance"))
    about = json.loads(run.explanation(case, method=name).with_suffix(".json").read_text())
    assert about["extra"]["trust"] == content["strips"][case][name]


def test_the_report_names_labels_and_maps(run):
    page = run.report.read_text()
    assert "found 2 labels" in page
    assert "relevance of above" in page
    assert "above, below" in page


def test_predict_lists_every_label_with_its_probability(run, pictures, succeed):
    truth = dict(
        line.split(",")[:2] for line in (pictures / "manifest.csv").read_text().splitlines()[1:]
    )
    both = next(name for name, label in truth.items() if label == "above|below")
    none = next(name for name, label in truth.items() if not label)
    told = succeed("predict", run.root, pictures / both, pictures / none)
    first, second = told["predictions"]
    assert first["label"] == "above|below"
    assert min(first["probabilities"].values()) > 0.5
    assert second["label"] == "|"
    assert "none of the labels" in told["summary"][1]
