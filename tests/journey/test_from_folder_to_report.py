"""The main job, through the command line, on toys: files in, a report out, resumed, and used."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import jsonschema
import pytest
import yaml
from PIL import Image

from vitrail.runfolder import RunFolder, read_json, write_json

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw):
    """Return a folder of two classes: a bright square left or right, and one truncated file."""
    root = draw(tmp_path_factory.mktemp("toy") / "pictures", cases=60, size=(64, 64))
    whole = (root / "left" / "000.png").read_bytes()
    (root / "left" / "broken.png").write_bytes(whole[:200])
    return root


@pytest.fixture(scope="module")
def original(pictures, succeed):
    """Return a finished run: inspected, planned, edited to be tiny, and run on."""
    folder = RunFolder(pictures.parent / "run")
    succeed("inspect", pictures, "--out", folder.root)
    succeed("plan", folder.root, "--budget", "30m")
    plan = yaml.safe_load(folder.plan.read_text())
    plan["epochs"]["value"] = plan["baseline_epochs"]["value"] = 2
    plan["baseline"]["value"] = "resnet10t"
    plan["baseline_parameters"]["value"] = {"channels": [8, 8, 8, 8], "stem_width": 8}
    plan["model_parameters"]["value"] |= {"embed_dim": 32, "depth": 2, "num_heads": 2}
    folder.plan.write_text(yaml.safe_dump(plan))
    succeed("run", pictures, "--out", folder.root)
    return folder


def test_the_run_folder_is_complete(run):
    for path in (run.plan, run.cohort, run.split, run.audit, run.predictions, run.evaluation):
        assert path.exists()
    test_cases = [row for row in run.split.read_text().splitlines() if ",test," in row]
    maps = sorted(run.explanations.glob("*.npz"))
    assert len(maps) == len(test_cases)
    assert all(path.with_suffix(".json").exists() for path in maps)
    assert list((run.explanations / "attention").glob("*.npz"))
    assert run.report.read_text().lstrip().startswith("<!")


@pytest.mark.parametrize(
    ("name", "path"),
    [("environment", "environment"), ("audit", "audit"), ("evaluation", "evaluation")],
)
def test_each_file_fits_its_schema(run, name, path):
    schema = files("vitrail") / "schemas" / f"{name}.json"
    if not schema.is_file():
        pytest.skip(f"no schema {name}.json is in the package yet")
    jsonschema.validate(json.loads(getattr(run, path).read_text()), json.loads(schema.read_text()))


def test_the_truncated_picture_is_named_and_left_out(run):
    audit = json.loads(run.audit.read_text())
    assert [item["path"] for item in audit["unreadable"]] == ["left/broken.png"]
    assert "broken" not in run.cohort.read_text()


def test_the_edited_plan_was_respected(run):
    assert len((run.model("vit") / "log.jsonl").read_text().splitlines()) == 2


def test_running_again_skips_every_finished_stage_and_changes_nothing(run, pictures, succeed):
    before = {
        path: path.read_bytes() for path in (run.plan, run.split, run.predictions, run.evaluation)
    }
    again = succeed("run", pictures, "--out", run.root)
    skipped = {name for name, stage in again["stages"].items() if stage["skipped"]}
    assert skipped == {"inspect", "plan", "train", "evaluate", "explain"}
    assert before == {path: path.read_bytes() for path in before}


def test_a_lost_map_is_written_again_and_the_others_are_kept(run, succeed):
    maps = sorted(run.explanations.glob("*.npz"))
    kept = maps[1].stat().st_mtime_ns
    maps[0].unlink()
    assert succeed("explain", run.root)["written"] == 1
    assert maps[1].stat().st_mtime_ns == kept


def test_another_method_gets_a_folder_of_its_own(run, succeed):
    told = succeed("explain", run.root, "--method", "relevance", "--all")
    assert len(list((run.explanations / "relevance").glob("*.npz"))) == told["maps"] == 60


def test_a_plan_edited_after_the_training_is_refused_and_nothing_is_lost(run, refused):
    plan = yaml.safe_load(run.plan.read_text())
    plan["epochs"]["value"] = 3
    run.plan.write_text(yaml.safe_dump(plan))
    assert "trained under another plan" in refused("train", run.root)
    assert (run.model("vit") / "model.safetensors").exists()


@pytest.mark.parametrize("verb", ["evaluate", "explain", "bench"])
def test_models_are_not_shown_what_another_plan_makes_of_pictures(run, refused, verb):
    plan = yaml.safe_load(run.plan.read_text())
    plan["mean"]["value"] = [0.9]
    run.plan.write_text(yaml.safe_dump(plan))
    predictions = run.predictions.read_text()
    assert "trained under another plan" in refused(verb, run.root)
    assert run.predictions.read_text() == predictions


def test_pictures_that_changed_since_the_plan_are_not_trained_on(run, pictures, tmp_path, refused):
    changed = shutil.copytree(pictures, tmp_path / "changed")
    companion = run.cohort.with_suffix(".json")
    write_json(companion, {**read_json(companion), "root": str(changed)})
    Image.effect_noise((64, 64), 60).save(changed / "left" / "002.png")
    shutil.rmtree(run.model("cnn"))
    assert "made for other data than" in refused("train", run.root)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed", "9"), "it says seed: 0, the command line says 9"),
        (("--head", "knn"), "it says head: linear, the command line says knn"),
        (("--views", "5"), "it says views: 1, the command line says 5"),
        (("--hold-out-site", "Ulm"), "it holds out others than --hold-out-site asks for (Ulm)"),
        (("--hold-out-sites",), "it holds out others than --hold-out-sites asks for"),
    ],
)
def test_another_wish_on_the_command_line_than_the_plan_says_is_refused(
    run, pictures, refused, words, said
):
    assert said in refused("run", pictures, "--out", run.root, *words)


def test_predict_labels_new_pictures_and_leaves_out_the_broken_one(run, pictures, succeed):
    told = succeed("predict", run.root, pictures / "left")
    assert len(told["predictions"]) == 30
    assert [item["reason"] != "" for item in told["unreadable"]] == [True]
    for said in told["predictions"]:
        assert sum(said["probabilities"].values()) == pytest.approx(1)
        with Image.open(said["overlay"]) as overlay:
            assert overlay.size == (64, 64)


def test_predict_agrees_with_the_stored_predictions(run, pictures, succeed):
    rows = [line.split(",") for line in run.predictions.read_text().splitlines()]
    column = rows[0].index("prob_right")
    stored = {row[rows[0].index("case_id")]: row[column] for row in rows if row[0] == "vit"}
    case_id, probability = next(iter(stored.items()))
    told = succeed("predict", run.root, pictures / f"{case_id}.png")
    assert told["predictions"][0]["probabilities"]["right"] == pytest.approx(
        float(probability), abs=1e-5
    )


@pytest.fixture
def address(pictures):
    """Serve the pictures on this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=pictures)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("threshold", "label"), [(0.0, "right"), (1.01, "left")])
def test_predict_decides_where_the_test_cases_were_decided(
    run, pictures, threshold, label, succeed
):
    evaluation = read_json(run.evaluation)
    assert evaluation["positive_class"] == "right"
    for point in evaluation["operating_points"]["vit"]:
        point["threshold"] = threshold
    write_json(run.evaluation, evaluation)
    told = succeed("predict", run.root, pictures / "left" / "002.png")
    assert told["predictions"][0]["label"] == label
    assert f"right is decided from {threshold:.3f} up" in " ".join(told["summary"])


def test_predict_takes_an_address_where_it_is_allowed(run, pictures, address, succeed, refused):
    assert "pass --urls public" in refused("predict", run.root, f"{address}/left/002.png")
    inside = refused("predict", run.root, f"{address}/left/002.png", "--urls", "public")
    assert "private network, or to this machine" in inside
    page = refused("predict", run.root, f"{address}/left/", "--urls", "private")
    assert "it is not a picture" in page
    told = succeed("predict", run.root, f"{address}/left/002.png", "--urls", "private")
    known = succeed("predict", run.root, pictures / "left" / "002.png")
    said, same = (one["predictions"][0]["probabilities"] for one in (told, known))
    assert said == same
    assert len(list((run.root / "new" / "fetched").iterdir())) == 1


def test_the_smoke_demo_goes_from_nothing_to_a_report_with_masks(tmp_path, succeed):
    told = succeed("demo", "--smoke", "--out", tmp_path / "demo")
    assert list((tmp_path / "demo" / "run" / "pictures").glob("*.mask.png"))
    assert told["report"].endswith("report.html")


def test_the_bench_says_which_map_to_trust(run, succeed):
    said = succeed("bench", run.root, "--methods", "relevance,rollout", "--cases", "6")
    assert any("rollout" in sentence for sentence in said["summary"])
    content = json.loads(run.faithfulness.read_text())
    schema = json.loads((files("vitrail") / "schemas" / "faithfulness.json").read_text())
    jsonschema.validate(content, schema)
    assert content["num_cases"] == 6
    marked = run.explanation(next(iter(content["strips"]))).with_suffix(".json")
    assert json.loads(marked.read_text())["extra"]["trust"]["class_specific"] is False
    assert succeed("bench", run.root, "--methods", "relevance,rollout", "--cases", "6")["skipped"]
