"""The guided study on the page: every arm with its interval, differences around zero, evidence."""

import re

import pytest

from vitrail.report.contents import read
from vitrail.report.gallery import gallery
from vitrail.report.guided import study
from vitrail.report.page import build
from vitrail.runfolder import read_json, write_json


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 20}


@pytest.fixture
def guided(make_run):
    """Return a run with a study of three arms, whose gallery has maps of stage two."""
    run = make_run(methods=("guided_cnn",))
    pairs = [("guided", "no map", 0.02), ("random map", "guided", 0.05)]
    write_json(
        run.root / "guided" / "evaluation.json",
        {
            "sets": {
                "test": {
                    "no map": {"roc_auc_score": estimate(0.75)},
                    "guided": {"roc_auc_score": estimate(0.77)},
                    "random map": {"roc_auc_score": estimate(0.82)},
                    "cnn alone": {"roc_auc_score": estimate(0.70)},
                }
            },
            "comparisons": [
                {
                    "a": first,
                    "b": second,
                    "metric": "roc_auc_score",
                    "difference": difference,
                    "low": difference - 0.04,
                    "high": difference + 0.06,
                    "sentence": f"{first} against {second}, ROC AUC: no evidence",
                }
                for first, second, difference in pairs
            ],
        },
    )
    write_json(
        run.root / "guided" / "study.json",
        {
            "method": "rollout",
            "classifier": "resnet18",
            "columns": ["age"],
            "arms": [
                {"name": "guided", "about": "the map of stage one"},
                {"name": "no map", "about": "the picture alone"},
                {"name": "random map", "about": "noise"},
            ],
            "evidence": "share of the positive evidence in the mask: 40%",
        },
    )
    return run


def test_every_arm_stands_with_its_interval_and_one_sentence(guided):
    told = study(read(guided), gallery(read(guided)))
    assert [row.name for row in told.rows] == ["guided", "no map", "random map", "cnn alone"]
    assert told.rows[1].value == "0.750"
    assert told.rows[1].interval == "0.650 to 0.850"
    assert "guided against no map" in told.rows[1].sentence
    assert "the columns age are joined" in told.opening
    assert "A second network (resnet18)" in told.opening


def test_a_second_stage_like_the_baseline_is_named_in_words(guided):
    path = guided.root / "guided" / "study.json"
    write_json(path, read_json(path) | {"classifier": "plan"})
    told = study(read(guided), gallery(read(guided)))
    assert "A second network (of the baseline's kind)" in told.opening


def test_differences_are_guided_minus_the_other_whichever_way_they_were_compared(guided):
    _, forest = study(read(guided), gallery(read(guided))).figures
    rows = [line.split(",") for line in decoded(forest.csv).splitlines()[1:]]
    found = {name: tuple(map(float, rest)) for name, *rest in rows}
    assert found["no map"] == pytest.approx((0.02, -0.02, 0.08))
    assert found["random map"] == pytest.approx((-0.05, -0.11, -0.01))


def test_the_page_shows_the_study_and_both_stages_over_the_montage(guided):
    page = build(guided)
    assert page.count('href="#guided"') == 1
    section = re.search(r'<section id="guided".*?</section>', page, flags=re.DOTALL).group()
    assert "Grad-CAM of stage two of case" in section
    assert "Share of the positive evidence" in section


def test_stage_twos_map_never_stands_for_stage_ones(guided):
    shown = study(read(guided), gallery(read(guided))).examples
    assert shown
    assert all(one.vit != one.cnn for one in shown)
    for path in guided.explanations.glob("*.npz"):  # `vitrail explain` has not run yet
        path.unlink()
    assert study(read(guided), gallery(read(guided))).examples == ()


def test_a_run_without_a_study_has_no_such_section(make_run):
    run = make_run()
    assert study(read(run), gallery(read(run))) is None
    assert 'id="guided"' not in build(run)


def decoded(address):
    from urllib.parse import unquote

    return unquote(address.partition(",")[2])
