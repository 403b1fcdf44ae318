"""Which pictures a model may learn from before it sees labels, and how the plan says it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.loader import PictureDataset
from vitrail.errors import DataError, PlanError
from vitrail.pipeline.pretraining import count_pictures, unlabeled_cases
from vitrail.pipeline.request import Request
from vitrail.pipeline.rules import choose
from vitrail.records import Case, Preprocessing


@pytest.fixture
def drawn(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cohort/a.png", "cohort/b.png", "more/deep/new.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "more" / "copy.png").write_bytes((tmp_path / "cohort" / "b.png").read_bytes())
    (tmp_path / "more" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def test_a_held_out_picture_is_not_seen_without_its_label_either(drawn, caplog):
    caplog.set_level("INFO", logger="vitrail")
    a, b = (Case(case_id=name, path=f"{name}.png", label="x") for name in "ab")
    how = Preprocessing(image_size=(16, 16), channels=1, mean=(0.5,), std=(0.5,))
    train = PictureDataset([a], drawn / "cohort", preprocessing=how, classes=["x"])
    (only,) = unlabeled_cases(drawn / "more", train=train, held_out=[b])
    assert only.case_id == "unlabeled/deep/new.png"
    assert "1 that cannot be read and 1 that validation or test cases show" in caplog.text
    pictures = PictureDataset([only], train.root, preprocessing=how, classes=["unlabeled"])
    assert pictures[0][0].shape == (1, 16, 16)


def test_the_pictures_without_labels_are_counted(drawn):
    assert count_pictures(drawn / "more") == 3
    assert count_pictures(None) == 0
    with pytest.raises(DataError, match="no such folder"):
        count_pictures(drawn / "absent")


def made(facts, machine, cost, **request):
    how = {"machine": machine, "cost": cost, "attends": lambda spec: True}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    return choose(facts, Request(**request), data="0" * 64, **how)


def test_pretraining_takes_its_time_from_the_models(facts, machine, cost):
    sized = {"choices": {"image_size": [96, 96]}, "budget_minutes": 1.2}
    plain = made(facts, machine, cost, **sized)
    first = made(facts, machine, cost, pretrain="mae", **sized)
    assert plain.pretrain.value == "none"
    assert first.pretrain.value == "mae"
    assert first.epochs.value < plain.epochs.value
    assert first.baseline_epochs.value == plain.baseline_epochs.value
    assert first.expected_minutes.value["total"] <= 1.2


def test_pretraining_may_take_its_share_and_a_fifth_more(facts, machine, cost):
    sized = {"image_size": [96, 96]}
    first = made(facts, machine, cost, pretrain="mae", choices=sized)
    assert first.pretrain_most_minutes.value == first.most_minutes.value > 0
    asked = made(facts, machine, cost, pretrain="mae", choices=sized | {"pretrain_epochs": 3})
    assert asked.pretrain_most_minutes.value is None
    assert asked.most_minutes.value == first.most_minutes.value
    assert made(facts, machine, cost, choices=sized).pretrain_most_minutes.value is None
    changed = first.model_copy(update={"pretrain_most_minutes": asked.pretrain_most_minutes})
    assert changed.fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pretrain": "dino"}, "the one way is mae"),
        ({"unlabeled": Path("more")}, "pass --pretrain mae with it"),
    ],
)
def test_pretraining_that_cannot_be_is_refused(facts, machine, cost, asked, message):
    with pytest.raises(PlanError, match=message):
        made(facts, machine, cost, **asked)
