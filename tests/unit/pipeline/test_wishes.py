"""What ``--set`` puts into a plan, and what it may not."""

import pytest

from vitrail.errors import PlanError
from vitrail.pipeline.request import Request
from vitrail.pipeline.rules import choose
from vitrail.pipeline.wishes import checked, read_wishes, stands_for


def made(facts, machine, cost, **wishes):
    how = {"machine": machine, "cost": cost, "attends": lambda spec: True}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    return choose(facts, Request(choices=wishes), data="0" * 64, **how)


def test_a_wish_stands_in_the_plan_and_says_where_it_is_from(facts, machine, cost):
    plan = made(facts, machine, cost, mixup=0.2, epochs=60, image_size=[96, 128])
    assert (plan.mixup.value, plan.epochs.value) == (0.2, 60)
    assert plan.image_size.value == (96, 128)
    assert plan.mixup.reason == "as given on the command line"


def test_parameters_are_put_over_the_rules_own(facts, machine, cost):
    plain = made(facts, machine, cost).model_parameters.value
    wished = made(facts, machine, cost, model_parameters={"conv_stem": True, "depth": 3})
    assert wished.model_parameters.value == plain | {"conv_stem": True, "depth": 3}


def test_the_expected_minutes_are_those_of_the_wished_epochs(facts, machine, cost):
    few, many = (made(facts, machine, cost, epochs=n, baseline_epochs=n) for n in (5, 50))
    assert many.expected_minutes.value["train"] > 5 * few.expected_minutes.value["train"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"epoch": 3}, r"--set epoch: not a choice of the plan; .* perhaps epochs"),
        ({"data": "x"}, r"--set data: not a choice"),
        ({"seeds": 3}, r"it has an option of its own; .*; pass --seeds"),
        ({"epochs": "many"}, r"--set epochs.*'many'"),
        ({"image_size": 96}, r"--set image_size.*96"),
        ({"mixup": -1}, r"--set mixup.*-1"),
        ({"model_parameters": 3}, r"--set model_parameters.*3"),
    ],
)
def test_an_impossible_wish_is_refused_by_its_name(wishes, message):
    with pytest.raises(PlanError, match=message):
        checked(wishes)


@pytest.mark.parametrize("text", ["epochs", "image_size=[96"])
def test_a_text_that_is_no_wish_is_refused(text):
    with pytest.raises(PlanError, match="--set"):
        read_wishes([text])


def test_a_plan_grants_a_wish_for_a_part_of_a_mapping():
    assert stands_for({"depth": 3}, {"depth": 3, "patch_size": 8})
    assert not stands_for({"depth": 3}, {"depth": 4})
    assert not stands_for({"depth": 3}, {})
    assert not stands_for(3, 4)
