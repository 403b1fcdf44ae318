"""The plan file: what people may write into it, and what they are told when they may not."""

import pytest
import yaml

from vitrail.errors import PlanError
from vitrail.pipeline.choices import parse_plan, read_plan, write_plan


def test_a_plan_comes_back_as_it_was_written(plan, tmp_path):
    write_plan(tmp_path / "plan.yaml", plan)
    assert read_plan(tmp_path / "plan.yaml") == plan


def test_every_choice_is_written_with_its_reason(plan, tmp_path):
    write_plan(tmp_path / "plan.yaml", plan)
    content = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert all(set(choice) == {"value", "reason"} for choice in content.values())


def test_an_edited_value_is_respected(content):
    content["epochs"]["value"] = 7
    assert parse_plan(content, name="plan.yaml").epochs.value == 7


def test_an_unknown_key_is_answered_with_the_nearest_known_one(content):
    content["epoch"] = {"value": 3}
    with pytest.raises(PlanError, match=r"plan.yaml: epoch: an unknown key; .* 'epochs'"):
        parse_plan(content, name="plan.yaml")


def test_an_unknown_part_of_a_choice_is_answered_with_the_nearest_known_one(content):
    content["epochs"] = {"values": 3}
    with pytest.raises(PlanError, match=r"epochs.values: an unknown key; .* 'value'"):
        parse_plan(content, name="plan.yaml")


def test_a_missing_choice_is_named(content):
    del content["seed"]
    with pytest.raises(PlanError, match=r"seed: missing; every choice has a value"):
        parse_plan(content, name="plan.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", "many"),
        ("batch_size", -1),
        ("learning_rate", 0),
        ("learning_rate", 50.0),
        ("image_size", [64]),
        ("image_size", [8, 64]),
        ("channels", 2),
        ("augmentation", "magic"),
        ("balance", "wieghts"),
        ("seeds", 0),
        ("std", [0.0]),
        ("budget_minutes", -3),
        ("workers", 1000),
    ],
)
def test_nonsense_is_refused_by_the_name_of_its_key(content, key, value):
    content[key]["value"] = value
    with pytest.raises(PlanError, match=rf"plan\.yaml: {key}"):
        parse_plan(content, name="plan.yaml")


def test_choices_that_contradict_each_other_are_refused(content):
    content["channels"]["value"] = 3
    with pytest.raises(PlanError, match=r"mean has 1 numbers for 3 channels"):
        parse_plan(content, name="plan.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("- 1\n- 2\n", "a list; it is a YAML mapping")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(PlanError, match=message):
        read_plan(tmp_path / "plan.yaml")


def test_the_fingerprint_ignores_reasons_and_estimates_and_nothing_else(plan, content):
    for choice in content.values():
        choice["reason"] = "another"
    content["expected_minutes"]["value"] = {"total": 99.0}
    assert parse_plan(content, name="p").fingerprint() == plan.fingerprint()
    content["epochs"]["value"] += 1
    assert parse_plan(content, name="p").fingerprint() != plan.fingerprint()


@pytest.mark.parametrize(
    ("mode", "weights", "message"),
    [
        ("head", None, "mode is head, but there are no weights to start from"),
        ("scratch", "w.safetensors", "mode is scratch, but there are weights to start from"),
    ],
)
def test_a_mode_that_contradicts_the_weights_is_refused(content, mode, weights, message):
    content["mode"]["value"] = mode
    content["weights"]["value"] = weights
    with pytest.raises(PlanError, match=message):
        parse_plan(content, name="plan.yaml")
