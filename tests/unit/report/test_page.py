"""The page tells what the run folder holds, all of it, and nothing else."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from vitrail.errors import InputError, RunFolderError
from vitrail.evaluation.evaluate import AnalysisPlan, evaluate
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import read_predictions
from vitrail.report import subgroup
from vitrail.report.gallery import MOST_CASES
from vitrail.report.page import build
from vitrail.report.tables import number
from vitrail.runfolder import RunFolder, read_csv, read_json, write_csv, write_json, write_text

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


class Tags(HTMLParser):
    """Collects the elements of a page, and complains of what is not closed."""

    VOID = frozenset({"img", "meta", "link", "input", "br", "path", "circle"})

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def text_of(page):
    body = re.sub(r"<(style|script)\b[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_same_folder_gives_the_same_bytes_whatever_the_time_and_hash_seed(make_run):
    run = make_run(cases=24)
    command = (
        "import sys; from pathlib import Path; from vitrail.runfolder import RunFolder;"
        "from vitrail.report.page import build;"
        "assert 'torch' not in sys.modules;"
        "sys.stdout.buffer.write(build(RunFolder(Path(sys.argv[1]))).encode())"
    )
    pages = {
        subprocess.run(
            [sys.executable, "-c", command, str(run.root)],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert pages == {build(run).encode()}


def test_making_the_report_twice_changes_nothing(make_run):
    run = make_run(cases=24)
    first = build(run)
    write_text(run.report, first)
    environment = read_json(run.environment)
    environment["stages"]["report"]["seconds"] = 99.0
    write_json(run.environment, environment)
    assert build(run) == first


def test_the_page_is_well_formed_and_points_to_nothing_outside(make_run):
    page = build(make_run())
    tags = Tags(page)
    assert tags.open == []
    for tag, attributes in tags.found:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert "url(" not in re.sub(r'clip-path="url\(#arch\)"', "", page)


def test_every_picture_has_an_alternative_text_and_every_section_a_heading(make_run):
    tags = Tags(build(make_run())).found
    assert all("alt" in attributes for tag, attributes in tags if tag == "img")
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    sections = [attributes for tag, attributes in tags if tag == "section"]
    assert all(attributes["aria-labelledby"] in ids for attributes in sections)
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert all(link[1:] in ids for link in links if link.startswith("#"))


def test_every_number_of_the_headline_table_is_the_records(make_run):
    run = make_run()
    page = build(run)
    tests = read_json(run.evaluation)["sets"]["test"]
    for model, metrics in tests.items():
        for metric, one in metrics.items():
            cell = re.search(
                rf'<td data-metric="{metric}" data-model="{model}">(.*?)</td>', page
            ).group(1)
            shown = re.findall(r"\d\.\d{3}|not defined", cell)
            expected = [one["value"], one["low"], one["high"]]
            assert shown == (
                ["not defined"] if one["value"] is None else [number(part) for part in expected]
            )


def really_evaluated(run, **options):
    """Evaluate a run's predictions, its validation cases standing for themselves."""
    predictions = read_predictions(run.predictions)
    names = {name for one in predictions for name in one.case_ids}
    plan = AnalysisPlan(
        prevalence=0.02,
        test_openings=3,
        configurations_tried=27,
        subgroups={"sex": {name: "fm"[place % 2] for place, name in enumerate(sorted(names))}},
    )
    found = evaluate(
        [*predictions, *(replace(one, split="validation") for one in predictions)],
        clusters={name: name for name in names},
        unit="patient",
        resamples=50,
        plan=plan,
        **options,
    )
    write_json(run.evaluation, to_json(found))
    return read_json(run.evaluation)


def shown(estimate):
    """Say what a cell shows of an estimate: value, ends, spread."""
    if estimate["value"] is None:
        return ["not defined"]
    ends = [estimate[key] for key in ("value", "low", "high", "spread")]
    return [number(one) for one in ends if one is not None]


def assert_subgroups_are_the_records(page, subgroups):
    """Hold every row of the subgroup tables against the record: values, ends and n."""
    section = re.search(r'<section id="subgroups".*?</section>', page, re.S)[0]
    tables = re.findall(r"<tbody>(.*?)</tbody>", section, re.S)
    records = [one["groups"] for models in subgroups.values() for one in models.values()]
    for table, groups in zip(tables, records, strict=True):
        rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)<td>(\d+)</td></tr>', table, re.S)
        for (name, cells, n), (group, metrics) in zip(rows, groups.items(), strict=True):
            stated = [metrics[metric] for metric in subgroup.SHOWN]
            assert (name, int(n)) == (group, stated[0]["n"])
            for cell, one in zip(re.findall(r"<td>(.*?)</td>", cells, re.S), stated, strict=True):
                found = re.findall(r"\N{MINUS SIGN}?\d+\.\d{3}|not defined", cell)
                assert found == shown({**one, "spread": None}), (group, cell)


SIDES = ("image_level", "calibrated", "vector_scaled")


@pytest.mark.parametrize("classes", [("clear", "nodule"), ("air", "bone", "fat")])
def test_every_number_on_the_page_is_the_records(make_run, classes):
    run = make_run(classes=classes, cases=96, seeds=(0, 1))
    record = really_evaluated(run)
    page = build(run)
    tables = re.findall(
        r'<table class="numbers headline"[^>]*data-table="(\w+)">(.*?)</table>', page, re.S
    )
    stated = {"headline": [record["sets"]["test"]]}
    stated["metrics"] = [record[side]["test"] for side in SIDES if record[side]]
    stated["metrics"].append(record["sets"]["validation"])
    stated["classes"] = [record["by_class"].get("test", {}).get(m) for m in ("vit", "cnn")]
    checked = 0
    for name, body in tables:
        if name not in stated:
            continue
        source = stated[name].pop(0)
        for metric, model, cell in re.findall(
            r'<td data-metric="([^"]+)" data-model="([^"]+)">(.*?)</td>', body, re.S
        ):
            plain = re.sub(r"<sup>.*?</sup>", "", cell)
            found = re.findall(r"\N{MINUS SIGN}?\d+\.\d{3}|not defined", plain)
            assert found == shown(source[model][metric]), (name, metric, model)
            checked += 1
    assert checked > 100
    assert not any(any(left) for key, left in stated.items() if key != "classes")
    text = text_of(page)
    for one in record["comparisons"]:
        for value in (one["difference"], one["low"], one["high"]):
            assert f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") in text
    for models in record["subgroups"]["sex"].values():
        assert f"{number(models['gap']['gap'])} ({models['gap']['high']}" in text
    assert_subgroups_are_the_records(page, record["subgroups"])
    for model in record["uncertainty"].values():
        for share in model["conformal"]["coverage"].values():
            assert number(share["value"]) in text


def test_prevalence_openings_and_configurations_are_printed(make_run):
    run = make_run(cases=48)
    really_evaluated(run)
    text = text_of(build(run))
    assert "The test set was opened 3 times. Configurations tried: 27;" in text
    assert "where 2 % of the people have" in text
    assert "PPV at the stated prevalence" in text
    assert "after vector scaling (fitted on validation)" in text


def test_every_table_can_be_downloaded_at_full_precision(make_run):
    run = make_run(cases=48)
    record = really_evaluated(run)
    page = build(run)
    names = re.findall(r'download="([^"]+)\.csv"', page)
    for name in ("comparisons", "subgroups-sex-vit", "confusion-vit-1", "confusion-cnn-2"):
        assert name in names
    address = re.search(r'download="comparisons.csv" href="([^"]*)"', page).group(1)
    rows = list(csv.DictReader(io.StringIO(unquote(address.split(",", 1)[1]))))
    assert [row["difference"] for row in rows] == [
        str(one["difference"]) for one in record["comparisons"]
    ]


def test_the_downloaded_table_has_every_digit(make_run):
    run = make_run()
    address = re.search(r'download="headline.csv" href="([^"]*)"', build(run)).group(1)
    rows = list(csv.DictReader(io.StringIO(unquote(address.split(",", 1)[1]))))
    tests = read_json(run.evaluation)["sets"]["test"]
    assert len(rows) == sum(len(metrics) for metrics in tests.values())
    for row in rows:
        one = tests[row["model"]][row["metric"]]
        assert row["value"] == ("" if one["value"] is None else str(one["value"]))
        assert row["unit"] == "patient"


def test_hostile_names_are_shown_as_text(make_run):
    page = build(make_run(classes=("clear", HOSTILE), cases=24))
    assert HOSTILE not in page
    assert "onerror=alert(1)>" not in page
    tags = Tags(page).found
    assert all("onerror" not in attributes for _, attributes in tags)
    decisions = [json.loads(one["data-decisions"]) for _, one in tags if "data-decisions" in one]
    assert any(HOSTILE in one.values() for one in decisions)
    assert "{{ 7*7 }}" in text_of(page)


def test_a_hostile_case_id_warning_and_command_are_shown_as_text(make_run):
    run = make_run(cases=24)
    evaluation, environment = read_json(run.evaluation), read_json(run.environment)
    evaluation["warnings"] = [HOSTILE]
    evaluation["comparisons"][0]["sentence"] = HOSTILE
    environment["command"] = "vitrail run '</code><script>alert(1)</script>'"
    write_json(run.evaluation, evaluation)
    write_json(run.environment, environment)
    page = build(run)
    assert HOSTILE not in page
    assert "<script>alert" not in page


def test_every_warning_stands_on_the_page(make_run):
    run = make_run(cases=24)
    assert "Only 40 patients: the intervals are wide." in text_of(build(run))


def test_class_agnostic_maps_are_stamped_and_the_color_bar_says_its_normalization(make_run):
    text = text_of(build(make_run(cases=24)))
    assert "class-agnostic" in text
    assert "class-specific" not in text
    assert "Normalization: per run" in text


def test_the_summary_is_three_sentences_with_unit_interval_and_baseline(make_run):
    page = build(make_run(cases=24))
    sentences = re.findall(r'<p class="lead">(.*?)</p>', page)
    assert len(sentences) == 3
    assert "40 patients" in sentences[0]
    assert "0.91 (95\xa0% interval 0.85 to 0.96)" in sentences[0]
    assert (
        "no evidence of a difference in ROC AUC: +0.020 (95\xa0% interval \N{MINUS SIGN}0.030"
        in sentences[1]
    )


def test_a_model_not_shown_to_be_better_than_guessing_is_not_said_to_use_a_shortcut(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    reached = evaluation["sets"]["test"]["vit"]["roc_auc_score"]
    reached.update(value=0.55, low=0.44, high=0.66)
    write_json(run.evaluation, evaluation)
    doubt = re.findall(r'<p class="lead">(.*?)</p>', build(run))[2]
    assert doubt.startswith("Its ROC AUC is not shown to be above 0.5")
    reached.update(low=0.51)
    write_json(run.evaluation, evaluation)
    doubt = re.findall(r'<p class="lead">(.*?)</p>', build(run))[2]
    assert doubt.startswith("Mind the shortcut")


def test_unknown_patients_are_said_in_the_summary_the_certificate_and_the_limits(make_run):
    run = make_run(cases=24)
    write_json(run.evaluation, {**read_json(run.evaluation), "unit": "image"})
    rows = [{**row, "patient_id": ""} for row in read_csv(run.cohort)]
    write_csv(run.cohort, rows, header=list(rows[0]))
    text = text_of(build(run))
    assert "The patients are unknown" in text
    assert "Patients unknown:" in text
    assert "Patients are unknown." in text


def test_the_faults_of_a_known_public_set_stand_among_the_limits(make_run):
    run = make_run(cases=24)
    known = {"name": "x", "title": "Set X", "faults": ["Slides are on both sides."]}
    write_json(run.audit, {**read_json(run.audit), "known_set": known})
    assert "Known of Set X: Slides are on both sides." in text_of(build(run))


def test_doubts_about_patient_ids_stand_among_the_limits(make_run):
    run = make_run(cases=24)
    write_json(run.audit, {**read_json(run.audit), "doubts": ["ANON names nobody"]})
    assert "Patient ids: ANON names nobody." in text_of(build(run))


def test_known_patients_are_not_called_unknown_where_the_numbers_are_by_image(make_run):
    run = make_run(cases=24)
    write_json(run.evaluation, {**read_json(run.evaluation), "unit": "image"})
    assert "unknown" not in text_of(build(run))


def test_a_comparison_keeps_the_records_numbers_and_calls_models_as_the_page_does(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    evaluation["comparisons"][0]["sentence"] = "vit against cnn, accuracy: vit is better: +0.300"
    write_json(run.evaluation, evaluation)
    expected = "Vision Transformer against CNN baseline, accuracy: Vision Transformer is better: "
    assert f"{expected}+0.300." in text_of(build(run))


def test_subgroups_and_operating_points_are_shown(make_run):
    text = text_of(build(make_run(cases=24)))
    assert "Vision Transformer by site, test set. Largest gap in balanced accuracy: 0.050" in text
    assert "Vision Transformer decides at 0.500 (Youden" in text
    assert "The same test set image by image" in text


def test_a_leak_is_an_alarm_and_names_no_person(make_run):
    run = make_run(cases=24)
    leak = {
        "kind": "patient",
        "name": "Erika Mustermann",
        "splits": ["test", "train"],
        "cases": ["clear/slice 000"],
    }
    write_json(run.audit, {**read_json(run.audit), "leaks": [leak]})
    text = text_of(build(run))
    assert "1 leak between the parts of the split" in text
    assert "one patient in test and train: clear/slice 000" in text
    assert "Mustermann" not in text
    assert "these numbers may be too good" in text


@pytest.mark.parametrize(
    ("part", "verb"),
    [
        ("audit.json", "inspect"),
        ("plan.yaml", "plan"),
        ("predictions.csv", "evaluate"),
        ("evaluation.json", "evaluate"),
        ("environment.json", "run"),
        ("cohort.csv", "inspect"),
        ("split.csv", "plan"),
    ],
)
def test_a_missing_part_is_named_with_the_verb_that_makes_it(make_run, part, verb):
    run = make_run(cases=24)
    (run.root / part).unlink()
    assert f"<code>vitrail {verb}</code>" in build(run)


def test_a_run_that_has_only_begun_gets_its_page(tmp_path):
    page = build(RunFolder(tmp_path))
    assert "have not been evaluated yet" in page
    assert Tags(page).open == []


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(RunFolderError, match="no such folder"):
        build(RunFolder(tmp_path / "nothing"))


def test_a_file_that_is_not_what_it_should_be_is_named(make_run):
    run = make_run(cases=24)
    write_json(run.evaluation, [1])
    with pytest.raises(RunFolderError, match=r"evaluation\.json: a list"):
        build(run)


def test_three_models_four_classes_and_two_seeds_fit_on_the_page(make_run):
    run = make_run(
        classes=("a", "b", "c", "d"), models=("vit", "cnn", "forest"), seeds=(0, 1), cases=48
    )
    page = build(run)
    assert page.count('data-model="forest"') > 0
    assert "mean of 2 trainings" in page
    assert Tags(page).open == []


def test_a_run_without_baseline_says_so(make_run):
    assert "No CNN baseline" in text_of(build(make_run(models=("vit",), cases=24)))


def test_without_maps_the_pictures_are_still_shown(make_run):
    run = make_run(cases=24)
    for path in run.explanations.glob("*"):
        if path.is_file():
            path.unlink()
    page = build(run)
    assert 'class="overlay"' not in page
    assert "<code>vitrail explain</code>" in page
    assert 'class="outline"' in page


def test_two_hundred_cases_with_maps_of_three_methods_fit_in_25_mb_and_open_light(make_run):
    page = build(make_run(cases=600, methods=("libra", "relevance")))
    assert page.count('class="case"') == MOST_CASES
    assert len(page) < 25_000_000
    assert page.index('id="gallery"') < 1_500_000


def test_p_values_are_shown_with_their_correction_and_never_as_zero(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    evaluation["comparisons"][0] |= {"p_value": 0.00001, "p_value_holm": 0.0421, "method": "paired"}
    write_json(run.evaluation, evaluation)
    assert "&lt; 0.001 0.042" in text_of(build(run))


def test_the_spread_over_seeds_and_the_reason_for_a_missing_number_are_shown(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    metrics = evaluation["sets"]["test"]["vit"]
    metrics["accuracy"]["spread"] = 0.0123
    metrics["matthews_corrcoef"]["reason"] = "a class is absent"
    write_json(run.evaluation, evaluation)
    text = text_of(build(run))
    assert "± 0.012 over seeds" in text
    assert "A class is absent." in text


def test_an_external_set_has_its_own_section(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    evaluation["sets"]["hospital B"] = evaluation["sets"]["test"]
    evaluation["curves"]["hospital B"] = evaluation["curves"]["test"]
    write_json(run.evaluation, evaluation)
    page = build(run)
    assert "Cases from elsewhere: hospital B" in text_of(page)
    assert "was not measured" not in text_of(page)
    assert Tags(page).open == []


def test_the_subgroups_of_an_external_set_stand_in_its_section(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    for key in ("sets", "curves"):
        evaluation[key]["external"] = evaluation[key]["test"]
    (column,) = evaluation["subgroups"]
    evaluation["external_subgroups"] = {"scanner": evaluation["subgroups"][column]}
    write_json(run.evaluation, evaluation)
    page = build(run)
    section = re.search(r'<section id="external".*?</section>', page, re.S)[0]
    assert "Vision Transformer by scanner, external set. Largest gap" in section
    assert 'download="external-subgroups-scanner-vit.csv"' in section
    assert Tags(page).open == []


def test_openings_of_the_test_set_are_counted(make_run):
    run = make_run(cases=24)
    write_json(run.evaluation, {**read_json(run.evaluation), "test_openings": 2})
    assert "The test set was opened 2 times." in text_of(build(run))


def test_what_a_model_learned_before_labels_has_its_curve(make_run):
    run = make_run()
    assert "Learning before labels" not in build(run)
    rows = [{"epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(run.model("vit", seed=0) / "pretraining" / "log.jsonl", text)
    page = build(run)
    assert page.index("Learning before labels") < page.index("Loss: ")
    assert "fills in hidden patches of training pictures" in page


def test_the_bench_fills_the_trust_section(make_run):
    page = build(make_run(cases=24, methods=("libra",)))
    text = text_of(page)
    assert "2 methods and 2 controls, tested on 8 cases; intervals over 6 patients." in text
    assert "Look at libra first." in text
    assert "Not to be trusted: it hardly changes when the weights are shuffled." in text
    assert page.count("overlay failing") == 8 * 4
    assert Tags(page).open == []


def test_ranks_are_drawn_from_the_best_to_the_worst(make_run):
    page = build(make_run(cases=24, methods=("libra",)))
    assert "Mean rank, best and worst: rollout 1.5 (1 to 2); libra 1.5 (1 to 2)." in page


def test_removal_curves_are_drawn_of_both_orders_with_every_method_in_the_file(make_run):
    page = build(make_run(cases=24, methods=("libra",)))
    text = text_of(page)
    assert "Hiding by tokens, most relevant first" in text
    address = re.search(r'download="hiding-by-tokens-least[^"]*" href="([^"]*)"', page).group(1)
    rows = list(csv.DictReader(io.StringIO(unquote(address.split(",", 1)[1]))))
    assert {row["method"] for row in rows} == {"rollout", "libra", "random", "center"}
    assert [row["height"] for row in rows if row["method"] == "libra"] == ["1.0", "0.8", "0.1"]


@pytest.mark.parametrize(
    ("units", "counted"),
    [(8, "each counted as a patient"), (6, "counted as 6: near-duplicates as one")],
)
def test_pictures_without_a_patient_id_are_counted_as_they_were(make_run, units, counted):
    run = make_run(cases=24)
    rows = read_csv(run.cohort)
    write_csv(run.cohort, [row | {"patient_id": ""} for row in rows], header=list(rows[0]))
    write_text(run.evaluation, run.evaluation.read_text().replace('"n": 40', f'"n": {units}'))
    said = f"(0 known by an id, and 8 pictures without an id, {counted})"
    assert f"On {units} patients {said}" in text_of(build(run))


def test_a_number_just_below_one_is_not_rounded_to_perfection(make_run):
    run = make_run(cases=24)
    evaluation = read_json(run.evaluation)
    evaluation["sets"]["test"]["vit"]["roc_auc_score"] |= {"value": 0.9987, "low": 0.994, "high": 1}
    write_json(run.evaluation, evaluation)
    text = text_of(build(run)).replace("\N{NO-BREAK SPACE}", " ")
    assert "a ROC AUC of 0.999 (95 % interval 0.994 to 1.000), a sensitivity of 0.87" in text


def test_many_leaks_are_counted_and_their_cases_folded_away(make_run):
    run = make_run(cases=24)
    leak = {"kind": "moved", "name": "a = b", "splits": ["test", "train"], "cases": ["a", "b"]}
    other = leak | {"kind": "exact", "splits": ["train", "validation"]}
    write_json(run.audit, {**read_json(run.audit), "leaks": [leak] * 300 + [other]})
    page = build(run)
    said = "300 moved copies in test and train, 1 duplicate in train and validation."
    assert f"301 leaks between the parts of the split: {said}" in text_of(page).replace(" :", ":")
    folded = r"<details><summary>The cases of every leak</summary><ul>(<li>.*?</li>){301}"
    assert re.search(folded, page)


def test_a_long_gallery_is_folded_after_its_first_cases(make_run):
    page = build(make_run(cases=120))
    right = page[page.index("Right predictions") : page.index('id="trust"')]
    opened, folded = right.split('<details class="more">')
    count = len(re.findall(r'<li class="case"', folded))
    assert len(re.findall(r'<li class="case"', opened)) == 12
    assert f"<summary>{count} more</summary>" in folded


def test_the_doubt_of_several_trainings_stands_beside_a_case(make_run):
    assert re.search(r"0\.\d\d to 0\.\d\d over 2 trainings", text_of(build(make_run(seeds=(0, 1)))))


def test_without_a_bench_the_page_says_that_maps_were_not_tested(make_run):
    assert "<code>vitrail bench</code>" in build(make_run(cases=24))


@pytest.mark.parametrize("name", ["claim-2024", "tripod-ai", "stard-ai"])
def test_a_checklist_is_filled_by_topic_and_invents_no_item(make_run, name):
    text = text_of(build(make_run(cases=24), checklist=name))
    part = text[text.index("Checklist: ") :]
    assert "Item numbers and wordings are not available offline" in part
    assert re.search(r"\b[Ii]tem \d", part) is None
    assert "25 found, 1 not readable and left out, 24 used" in part
    assert "Evaluation on external data" in part[part.index("does not hold") :]
    assert "Ethics approval" in part[part.index("Only the authors") :]


def test_a_checklist_that_does_not_exist_is_refused(make_run):
    with pytest.raises(InputError, match="one of claim-2024, tripod-ai, stard-ai"):
        build(make_run(cases=24), checklist="claim")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_what_evaluate_really_writes_is_drawn(make_run, seeds):
    run = make_run(cases=96, seeds=seeds)
    really_evaluated(run)
    page = build(run)
    text = text_of(page)
    assert "after temperature scaling" in text
    assert "not defined" not in text[text.index("Results") : text.index("Confusion matrices")]
    assert "When not to decide" in text
    assert "sets that hold the truth: clear" in text.lower()
    assert "Shaded: 95\xa0% interval." in page
    assert ("Drawn is the training with seed 0." in text) == (len(seeds) > 1)
    assert (" over seeds" in text) == (len(seeds) > 1)
    for name in ("roc-curve", "decision-curve", "calibration-vision-transformer"):
        assert f'download="{name}.csv"' in page
    assert Tags(page).open == []
