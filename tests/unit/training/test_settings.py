"""Settings that no training can use are refused by name."""

import pytest

from vitrail.errors import InputError
from vitrail.training.settings import FitSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, r"epochs: 0; it must lie in \[1,"),
        ({"learning_rate": -1.0}, "learning_rate: -1.0"),
        ({"batch_size": 4, "accumulation": 5}, r"accumulation: 5; it must lie in \[1, 4\]"),
        ({"ema_decay": 1.5}, "ema_decay: 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate: nan"),
    ],
)
def test_a_value_out_of_range_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        FitSettings(**changes)
