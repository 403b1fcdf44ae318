"""What is asked of the numbers is read, kept, and refused by the nearest word."""

from pathlib import Path

import pytest

from vitrail.errors import InputError
from vitrail.pipeline.analysis import Asked, analysis
from vitrail.pipeline.crossvalidation import Folds
from vitrail.records import Case, Cohort
from vitrail.runfolder import RunFolder, write_json


def test_words_become_the_choices_of_the_analysis():
    plan = Asked(
        prevalence=0.02, operating_point="sensitivity=0.95", roll_up="top=5", risk=0.1
    ).plan()
    assert (plan.prevalence, plan.risk) == (0.02, 0.1)
    assert str(plan.operating_point) == "sensitivity 0.95"
    assert str(plan.roll_up) == "mean of the highest 5 over a patient's images"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(operating_point="sensitivty=0.9"), "write sensitivity"),
        (Asked(operating_point="cost"), "cost has a number"),
        (Asked(operating_point="sensitivity=95"), "write 95 % as 0.95"),
        (Asked(roll_up="median"), "it is one of mean, max, top, vote"),
        (Asked(prevalence=2.0), "a prevalence lies between 0 and 1"),
        (Asked(risk=0.0), "a risk lies between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_remedy(asked, message):
    with pytest.raises(InputError, match=message):
        asked.plan()


def test_what_was_asked_before_stays_asked():
    before = {"prevalence": 0.02, "roll_up": "max"}
    assert Asked(roll_up="vote").after(before) == Asked(prevalence=0.02, roll_up="vote")
    assert Asked().after({}) == Asked()


def test_groups_come_from_the_site_and_every_attribute_with_ages_in_bands(tmp_path):
    rows = [("north", "25", "f"), ("south", "067Y", "f"), ("south", "unknown", "f")]
    cases = tuple(
        Case(
            case_id=str(place),
            path="p",
            label="a",
            site=site,
            attributes={"age": age, "sex": sex},
        )
        for place, (site, age, sex) in enumerate(rows)
    )
    run = RunFolder(tmp_path)
    write_json(run.audit, {"shortcuts": []})
    write_json(run.tuning, {"configurations_tried": 27})
    cohort = Cohort(root=Path(), cases=cases, classes=("a",))
    found = analysis(run, cohort, folds=Folds(({"0": "train"},), {}), openings=1)
    assert found.subgroups == {
        "site": {"0": "north", "1": "south", "2": "south"},
        "age": {"0": "18 to 39", "1": "60 to 79"},
    }
    assert found.training_counts == {"a": 1}
    assert found.configurations_tried == 27
