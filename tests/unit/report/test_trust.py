"""The trust section and the strips."""

import json

import pytest

from vitrail.report.page import build
from vitrail.report.trust import sentence, trust
from vitrail.runfolder import write_json

STRIP = {
    "class_specific": False,
    "gain_over_random": 0.123,
    "gain_low": 0.05,
    "gain_high": 0.2,
    "stability": 0.9,
    "randomization_passed": True,
    "completeness_error": None,
    "prefix_share": 0.25,
    "fails": ["it beats no control"],
}
CELL = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 20, "method": "percentile", "reason": ""}


def write_bench(run, case_ids):
    names = ["relevance", "rollout", "edges"]
    write_json(
        run.faithfulness,
        {
            "unit": "patient",
            "num_cases": len(case_ids),
            "methods": names[:2],
            "controls": names[2:],
            "refused": {"legrad": "it <refused> this model"},
            "tables": {
                "removal_gain/token_drop": dict.fromkeys(names, CELL),
                "contrast_score": {name: {**CELL, "value": None} for name in names},
            },
            "ranks": {name: {"mean": 1.5, "best": 1, "worst": 2} for name in names[:2]},
            "costs": {"relevance": {"passes": "1 forward, 1 backward", "milliseconds": 3.2}},
            "randomization_passed": {"relevance": True, "rollout": False, "edges": False},
            "class_specific": {"relevance": True, "rollout": False, "edges": False},
            "strips": {case: {"rollout": STRIP} for case in case_ids},
            "recommendation": {"method": "relevance", "reason": "It is best.", "limits": ["Here."]},
            "warnings": ["Few cases."],
        },
    )


def test_a_strip_is_one_line_of_what_was_measured():
    assert sentence(STRIP) == (
        "class-agnostic · gain over random 0.12 (method 0.05 to 0.20) · stability 0.90 · "
        "randomization passed · on prefix tokens 0.25"
    )


@pytest.fixture
def tested(make_run_folder):
    cases = [path.with_suffix("").name for path in run_folder.explanations.glob("*.npz")]
    ids = [json.loads(one.read_text())["extra"]["case_id"]
           for one in run_folder.explanations.glob("*.json")
           if "case_id" in json.loads(one.read_text()).get("extra", {})]  # fmt: skip
    write_bench(run_folder, ids or cases)
    return run_folder


def test_without_a_bench_there_is_no_section(make_run_folder):
    assert trust(make_run_folder) is None
    assert 'id="trust"' not in build(make_run_folder)


def test_the_section_names_the_recommendation_the_controls_and_what_was_left_out(tested):
    page = build(tested)
    section = page[page.index('id="trust"') : page.index('id="gallery"')]
    assert "Look first at <strong>relevance</strong>" in section
    assert "control" in section
    assert "it &lt;refused&gt; this model" in section
    assert "Few cases." in section


def test_rows_keep_the_order_of_the_ranks_and_the_controls_come_last(tested):
    found = trust(tested)
    assert [row.name for row in found.rows] == ["relevance", "rollout", "edges"]
    assert found.columns == ("Removal gain", "Class contrast")
