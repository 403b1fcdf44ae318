"""A learning rate that is unfit for the way of training is said, or refused."""

import logging

import pytest

from vitrail.errors import PlanError
from vitrail.pipeline.choices import Choice
from vitrail.pipeline.guards import check_learning_rates, way_of


def with_(plan, **values):
    return plan.model_copy(update={name: Choice(value=value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("values", "way"),
    [
        ({}, "scratch"),
        ({"mode": "finetune"}, "finetune"),
        ({"mode": "finetune", "lora_rank": 8}, "lora"),
        ({"mode": "head"}, "head"),
        ({"lora_rank": 8}, "scratch"),
    ],
)
def test_the_way_of_training_is_told_from_the_plan(plan, values, way):
    assert way_of(with_(plan, **values)) == way


def test_the_rules_own_rates_are_taken_without_a_word(plan, caplog):
    check_learning_rates(plan)
    check_learning_rates(with_(plan, mode="finetune", learning_rate=5e-5))
    assert not caplog.records


def test_a_rate_that_would_wash_out_trained_weights_is_refused_with_a_fitting_one(plan):
    tuned = with_(plan, mode="finetune", learning_rate=0.03)
    with pytest.raises(PlanError, match=r"learning_rate: 0\.03 for adamw, .*set .*: 5e-05"):
        check_learning_rates(tuned)


def test_a_high_rate_is_warned_of(plan, caplog):
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        check_learning_rates(with_(plan, mode="finetune", learning_rate=1e-3))
    assert "is high for adamw (training: finetune)" in caplog.text


def test_the_baseline_is_checked_as_trained_from_scratch(plan):
    with pytest.raises(PlanError, match=r"baseline_learning_rate: 0\.5"):
        check_learning_rates(with_(plan, baseline_learning_rate=0.5))


def test_an_optimizer_of_bare_gradients_may_take_larger_steps(plan, caplog):
    check_learning_rates(with_(plan, optimizer="sgd", learning_rate=0.1))
    assert not caplog.records
