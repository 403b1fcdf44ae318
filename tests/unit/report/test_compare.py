"""Runs on the same test cases stand side by side on one page; others are refused."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

import vitrail
from vitrail.data.split import clusters
from vitrail.errors import InputError, RunFolderError
from vitrail.evaluation.compare import compare_runs
from vitrail.evaluation.table import read_predictions
from vitrail.records import Case
from vitrail.report.compare import build, names_of
from vitrail.report.tables import number
from vitrail.runfolder import RunFolder, read_csv, read_json, write_csv, write_json

SCHEMA = Path(vitrail.__file__).parent / "schemas" / "compare.json"


def own(run):
    return [one for one in read_predictions(run.predictions) if one.model == "vit"]


def patients(run):
    return clusters(
        [
            Case(case_id=row["case_id"], path=row["path"], label="", patient_id=row["patient_id"])
            for row in read_csv(run.cohort)
        ]
    )


@pytest.fixture
def pair(make_run):
    """Write two runs on the same cases."""
    return make_run("one", cases=48), make_run("two", cases=48, noise=11)


@pytest.fixture
def record(pair, tmp_path):
    """Compare the two runs as the pipeline does."""
    content = compare_runs(
        {run.root.name: own(run) for run in pair},
        clusters=patients(pair[0]),
        unit="patient",
        resamples=200,
    )
    path = tmp_path / "compare.json"
    write_json(path, content)
    return path


def test_the_record_fits_its_schema_and_compares_only_runs(record):
    content = read_json(record)
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    pairs = {(one["a"], one["b"]) for one in content["comparisons"]}
    assert pairs == {("one", "two")}


def test_every_number_of_every_run_stands_in_the_table(pair, record):
    page = build(pair, compared=record)
    for run in pair:
        for model, name in (("vit", "Vision Transformer"), ("cnn", "CNN baseline")):
            one = read_json(run.evaluation)["sets"]["test"][model]["accuracy"]
            cell = re.search(
                rf'data-metric="accuracy" data-model="{run.root.name}: {name}">(.*?)</td>', page
            ).group(1)
            assert number(one["value"]) in cell


def test_a_run_about_another_network_is_not_called_a_vision_transformer(pair, record):
    plan = yaml.safe_load(pair[1].plan.read_text())
    plan["model"] = {"value": "resnet50.a1_in1k", "reason": "asked for"}
    pair[1].plan.write_text(yaml.safe_dump(plan))
    page = build(pair, compared=record)
    assert "one: Vision Transformer against two: resnet50.a1_in1k" in page
    assert "two: Vision Transformer" not in page


def test_the_area_that_takes_clicks_hides_no_chart(pair, record):
    page = build(pair, compared=record)
    drawn = page.count('<rect class="pick" fill="none"')
    assert drawn == page.count('<rect class="pick"') > 0


def test_pictures_a_second_stand_on_the_page_where_they_were_measured(pair, record):
    assert "Pictures a second" not in build(pair, compared=record)
    content = read_json(record)
    content["throughput"] = {
        "batch_size": 16,
        "pictures": 64,
        "rounds": 5,
        "device": "cpu",
        "threads": 2,
        "models": {
            run.root.name: {"pictures_per_s": rate, "low": rate - 1, "high": rate + 1}
            for run, rate in zip(pair, (41.25, 96.5), strict=True)
        },
    }
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    write_json(record, content)
    table = re.search(
        r'<table class="numbers" id="throughput">(.*?)</table>', build(pair, compared=record), re.S
    )[1]
    assert "64 test pictures in batches of 16" in table
    assert re.findall(r'row">(.*?)</th><td>([0-9.]+)</td>', table) == [
        ("one: Vision Transformer", "41.2"),
        ("two: Vision Transformer", "96.5"),
    ]


def test_the_paired_differences_are_the_records_under_the_pages_names(pair, record):
    page = build(pair, compared=record)
    assert page.count("one: Vision Transformer against two: Vision Transformer") >= 6
    assert "one against two" not in page


def test_the_same_runs_give_the_same_bytes(pair, record):
    assert build(pair, compared=record) == build(pair, compared=record)


def test_without_a_record_the_page_says_that_differences_are_missing(pair):
    assert "<code>vitrail compare</code>" in build(pair)


def test_only_the_choices_that_differ_are_listed(pair, make_run):
    plan = pair[1].plan.read_text().replace("value: 16", "value: 32")
    pair[1].plan.write_text(plan)
    page = build(pair)
    assert re.search(r'<th scope="row">batch size</th><td>16</td><td>32</td>', page)
    assert '<th scope="row">image size</th>' not in page


def test_runs_on_other_test_cases_are_refused_with_the_first_odd_one(make_run):
    runs = make_run("one", cases=24), make_run("two", cases=48)
    with pytest.raises(RunFolderError, match=r"differs .* in 8 cases or their labels, like clear"):
        build(runs)


def test_runs_that_gave_a_case_another_label_are_refused(pair):
    rows = read_csv(pair[1].predictions)
    other = {"clear": "nodule", "nodule": "clear"}
    for row in rows:
        if row["case_id"] == rows[0]["case_id"]:
            row["y_true"] = other[row["y_true"]]
    write_csv(pair[1].predictions, rows, header=list(rows[0]))
    with pytest.raises(RunFolderError, match="1 cases or their labels"):
        build(pair)


def test_runs_by_another_unit_are_refused(pair):
    write_json(pair[1].evaluation, {**read_json(pair[1].evaluation), "unit": "image"})
    with pytest.raises(RunFolderError, match="its numbers are by image"):
        build(pair)


def test_a_run_that_was_not_evaluated_is_refused(pair):
    pair[1].evaluation.unlink()
    with pytest.raises(RunFolderError, match="it was not evaluated"):
        build(pair)


def test_a_record_of_other_runs_is_refused(pair, make_run, record):
    third = make_run("three", cases=48)
    with pytest.raises(RunFolderError, match="it compares one, two"):
        build([pair[0], third], compared=record)


def test_one_run_is_no_comparison_nor_is_one_run_twice(make_run):
    run = make_run(cases=24)
    for runs in ([run], [run, run]):
        with pytest.raises(InputError, match="two or more different runs"):
            build(runs)


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    runs = [RunFolder(tmp_path / "a" / "run"), RunFolder(tmp_path / "b" / "run")]
    assert names_of(runs) == ("a/run", "b/run")
