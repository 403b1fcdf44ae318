from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.errors import InputError
from vitrail.guided.columns import Columns, WithColumns, count_missing, with_planes
from vitrail.records import Case, Cohort


def case(name, **attributes):
    known = {key: value for key, value in attributes.items() if value}
    return Case(case_id=name, path=name, label="x", attributes=known)


CASES = (
    case("a", age="50", sex="f"),
    case("b", age="70", sex="m"),
    case("c", age="", sex="m"),
    case("d", age="90", sex="other"),
)
COHORT = Cohort(root=Path(), cases=CASES, classes=("x", "y"))


def test_numbers_are_standardized_and_words_are_one_hot_as_the_training_cases_were():
    columns = Columns.learn(("age", "sex"), COHORT, training=CASES[:3])
    assert columns.width == 4
    np.testing.assert_allclose(
        columns.encode(CASES),
        [[-1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [3, 0, 0, 0]],
    )


def test_a_word_anywhere_makes_a_column_one_of_words():
    odd = Cohort(root=Path(), cases=(*CASES, case("e", age="unknown")), classes=("x", "y"))
    columns = Columns.learn(("age",), odd, training=CASES[:2])
    assert columns.each[0].categories == ("50", "70")


def test_cases_without_a_value_are_listed_and_a_column_that_nobody_has_is_refused():
    assert count_missing(COHORT, ("age", "sex")) == {"age": ["c"], "sex": []}
    with pytest.raises(InputError, match="'stage', which no case has; the cohort's columns are"):
        count_missing(COHORT, ("stage",))


def test_columns_are_joined_to_the_last_layer():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(5, 2)
    model = WithColumns(nn.Sequential(features, head), width=3, classes=2)
    nn.init.normal_(model.columns.weight)
    image, numbers = torch.randn(1, 8, 8), np.array([0.5, -1.0, 2.0], dtype=np.float32)
    said = model(with_planes(image, numbers)[None])
    joined = torch.cat([features(image[None]), torch.from_numpy(numbers)[None]], dim=1)
    weight = torch.cat([head.weight, model.columns.weight], dim=1)
    torch.testing.assert_close(said, joined @ weight.T + head.bias)
