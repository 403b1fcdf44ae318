"""What was tried is drawn, listed best first, and told honestly."""

from xml.etree import ElementTree as ET

import pytest

from vitrail.report.page import build
from vitrail.report.tuning import figures, standalone, tuning
from vitrail.runfolder import write_json


@pytest.fixture
def study():
    """Make the record of a grid of eight, one given up, one left out."""
    trials = [
        {
            "number": place,
            "parameters": {"patch": patch, "heads": heads, "dropout": dropout},
            "value": 0.6 + 0.03 * place,
            "given_up": place == 7,
            "curve": [[1, 0.5], [2, 0.6 + 0.03 * place]],
            "seconds": 3.0,
        }
        for place, (patch, heads, dropout) in enumerate(
            (p, h, d) for p in (8, 16) for h in (1, 2) for d in (0.1, 0.3)
        )
    ]
    axes = [("patch", [8, 16]), ("heads", [1, 2]), ("dropout", [0.1, 0.3])]
    return {
        "metric": "roc_auc_score",
        "axes": [{"name": name, "values": values} for name, values in axes],
        "configurations_tried": 8,
        "given_up": 1,
        "skipped": [{"parameters": {"patch": 5, "heads": 1, "dropout": 0.1}, "reason": "no fit"}],
        "trials": trials,
        "chosen": 6,
        "importances": {"patch": 0.7, "heads": 0.2, "dropout": 0.1},
        "optimism": {"chosen": 0.78, "corrected": 0.74, "optimism": 0.04},
        "commands": ["vitrail train run1"],
    }


def test_configurations_stand_best_first_with_the_given_up_last(study):
    told = tuning(study)
    assert told.rows[0] == (True, ("16", "2", "0.1"), "0.780")
    assert told.rows[-1][2] == "given up"
    assert "about 0.740 is to be expected" in told.sentences[1]
    assert told.skipped == ("patch 5, heads 1, dropout 0.1: no fit",)


def test_every_figure_is_a_file_of_its_own_that_parses(study):
    drawn = figures(study)
    assert [one.name.split()[0] for one in drawn] == [
        "Learning",
        "Values",
        "Parallel",
        "Importance",
    ]
    for one in drawn:
        root = ET.fromstring(standalone(one))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    heat = "".join(ET.fromstring(standalone(drawn[1])).itertext())
    assert all(f"{0.6 + 0.03 * place:.3f}" in heat for place in range(7))
    assert "0.810" not in heat  # given up
    assert "\N{BLACK STAR} 16/2/0.1" in str(drawn[0].drawing)


def test_a_tuned_run_has_its_section_and_another_has_none(make_run, study):
    run = make_run(cases=24)
    assert 'id="tuning"' not in build(run)
    write_json(run.tuning, study)
    assert 'id="tuning"' in build(run)
    assert tuning({}) is None
