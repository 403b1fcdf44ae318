"""The rules: what they choose for which data, machine and budget."""

from dataclasses import replace

import pytest

from vitrail.errors import PlanError
from vitrail.pipeline.request import Request
from vitrail.pipeline.rules import choose


def made(facts, machine, cost, *, attends=True, **request):
    how = {"machine": machine, "cost": cost, "attends": lambda spec: attends}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    return choose(facts, Request(**request), data="0" * 64, **how)


def test_every_choice_has_a_reason(plan):
    assert all(choice["reason"] for choice in plan.model_dump().values())


def test_a_cnn_baseline_always_stands_beside_the_transformer(plan):
    assert plan.model.value == "vit"
    assert plan.baseline.value.startswith("resnet")


def test_a_larger_budget_buys_a_larger_input_or_more_epochs(facts, machine, cost):
    small = made(facts, machine, cost, budget_minutes=2.0)
    large = made(facts, machine, cost, budget_minutes=60.0)
    assert large.image_size.value[0] >= small.image_size.value[0]
    assert large.epochs.value >= small.epochs.value
    assert large.image_size.value != small.image_size.value


@pytest.mark.parametrize("minutes", [2.0, 10.0, 60.0])
def test_the_expected_minutes_stay_within_the_budget(facts, machine, cost, minutes):
    expected = made(facts, machine, cost, budget_minutes=minutes).expected_minutes.value
    assert expected["total"] <= minutes


def test_an_impossible_budget_is_refused_with_the_estimate(facts, machine):
    with pytest.raises(PlanError, match=r"--budget: 1 minutes; 5 epochs .* about \d+\.\d minutes"):
        made(facts, machine, lambda spec, batch: 10.0, budget_minutes=1.0)


def test_the_input_is_not_larger_than_the_pictures(facts, machine, cost):
    tiny = replace(facts, short_side_px=70)
    assert made(tiny, machine, cost, budget_minutes=600.0).image_size.value == (64, 64)


def test_a_model_without_attention_is_explained_by_its_gradient_and_the_plan_says_so(
    facts, machine, cost
):
    plan = made(facts, machine, cost, attends=False)
    assert plan.explanation.value == "grad_cam"
    assert "no attention" in plan.explanation.reason
    assert "predicted class" in plan.explanation.reason
    assert made(facts, machine, cost).explanation.value == "rollout"


def test_each_part_of_a_wish_stands_in_the_plan(facts, machine, cost):
    plan = made(facts, machine, cost, budget_minutes=30.0, seed=3, seeds=2, accept_leakage="why")
    assert (plan.seed.value, plan.seeds.value, plan.accept_leakage.value) == (3, 2, "why")
    assert list(plan.seed_values) == [3, 4]


def test_more_seeds_leave_fewer_epochs_to_each(facts, machine, cost):
    one = made(facts, machine, cost, budget_minutes=4.0)
    three = made(facts, machine, cost, budget_minutes=4.0, seeds=3)
    assert three.image_size.value < one.image_size.value or three.epochs.value < one.epochs.value


@pytest.mark.parametrize(
    ("counts", "balance"),
    [((120, 120), "none"), ((150, 90), "weights"), ((230, 10), "sampling")],
)
def test_classes_of_unequal_size_are_balanced(facts, machine, cost, counts, balance):
    uneven = replace(facts, train_counts=dict(zip(("clear", "nodule"), counts, strict=True)))
    assert made(uneven, machine, cost).balance.value == balance


def test_pictures_of_many_shapes_keep_their_proportions(facts, machine, cost):
    assert made(replace(facts, aspect_spread=1.6), machine, cost).fit.value == "pad"


@pytest.mark.parametrize(
    ("color", "spread", "kind"),
    [(False, 1.0, "ct"), (True, 1.0, "histology"), (True, 1.5, "photo")],
)
def test_the_augmentation_suits_the_kind_of_picture(facts, machine, cost, color, spread, kind):
    seen = replace(facts, color=color, aspect_spread=spread)
    assert made(seen, machine, cost).augmentation.value == kind


def test_weights_bring_their_own_size_normalization_and_a_small_learning_rate(
    facts, machine, cost, tmp_path
):
    plan = made(
        facts,
        machine,
        cost,
        weights=tmp_path / "w.safetensors",
        model="vit_tiny_patch16_224",
        mode="finetune",
        budget_minutes=60.0,
    )
    assert plan.image_size.value == (224, 224)
    assert plan.channels.value == 3
    assert len(plan.mean.value) == 3
    assert plan.learning_rate.value < 1e-3


def test_published_weights_are_downloaded_only_where_asked_for_and_train_as_weights_do(
    facts, machine, cost
):
    asked = {"model": "vit_tiny_patch16_224", "budget_minutes": 60.0}
    plan = made(facts, machine, cost, pretrained=True, mode="finetune", **asked)
    assert plan.pretrained.value is True
    assert plan.learning_rate.value < 1e-3
    assert made(facts, machine, cost, **asked).pretrained.value is False


@pytest.mark.parametrize("model", [None, "vit"])
def test_published_weights_without_a_named_model_are_refused(facts, machine, cost, model):
    with pytest.raises(PlanError, match="--pretrained: without --model"):
        made(facts, machine, cost, pretrained=True, model=model)


def test_several_labels_are_asked_for_one_by_one_and_not_balanced(facts, machine, cost):
    chosen = made(replace(facts, multi_label=True, train_counts={"a": 10, "b": 200}), machine, cost)
    assert chosen.explanation.value == "relevance"
    assert chosen.balance.value == "none"


NAMED = {"model": "vit_tiny_patch16_224", "budget_minutes": 60.0}


@pytest.mark.parametrize(
    ("gpu", "cases", "weights", "mode", "reason"),
    [
        (None, 240, True, "head", "no GPU"),
        ("H200", 240, True, "head", "240 training cases are few"),
        ("H200", 5000, True, "finetune", "a GPU and 5000 training cases"),
        ("H200", 5000, False, "scratch", "no weights to start from"),
    ],
)
def test_the_mode_follows_from_weights_machine_and_cases(  # noqa: PLR0917
    facts, machine, cost, gpu, cases, weights, mode, reason
):
    seen = replace(facts, cases={**facts.cases, "train": cases})
    plan = made(seen, replace(machine, gpu=gpu), cost, pretrained=weights, **NAMED)
    assert plan.mode.value == mode
    assert reason in plan.mode.reason


@pytest.mark.parametrize(
    ("weights", "mode", "message"),
    [
        (True, "scratch", "from scratch starts without weights"),
        (False, "head", "--mode head: without weights"),
        (False, "finetune", "--mode finetune: without weights"),
    ],
)
def test_a_mode_that_contradicts_the_weights_is_refused(
    facts, machine, cost, weights, mode, message
):
    with pytest.raises(PlanError, match=message):
        made(facts, machine, cost, pretrained=weights, mode=mode, **NAMED)


def test_a_frozen_backbone_leaves_the_time_to_the_baseline(facts, machine, cost):
    frozen = made(facts, machine, cost, pretrained=True, mode="head", **NAMED)
    tuned = made(facts, machine, cost, pretrained=True, mode="finetune", **NAMED)
    assert frozen.expected_minutes.value["total"] <= 60
    assert frozen.baseline_epochs.value >= 5
    assert frozen.expected_minutes.value["train"] < tuned.expected_minutes.value["train"]
    folds = replace(facts, folds=5)
    many = made(folds, machine, cost, pretrained=True, mode="head", **NAMED)
    assert many.folds.value == 5
    assert many.expected_minutes.value["total"] <= 60


@pytest.mark.parametrize(
    ("model", "attends", "wishes", "rate", "decay"),
    [
        ("vit_tiny_patch16_224", True, {}, 5e-5, 0.75),
        ("vit_tiny_patch16_224", True, {"lora_rank": 8}, 5e-4, 0.75),
        ("convnext_atto", False, {}, 5e-5, 0.75),
        ("resnet18", False, {}, 3e-4, None),
    ],
)
def test_a_cnn_is_fine_tuned_by_its_own_rates(
    facts, machine, cost, tmp_path, model, attends, wishes, rate, decay
):
    given = {"model": model, "weights": tmp_path / "w.safetensors", "mode": "finetune"}
    plan = made(facts, machine, cost, attends=attends, choices=wishes, **given)
    assert (plan.learning_rate.value, plan.layer_decay.value) == (rate, decay)
