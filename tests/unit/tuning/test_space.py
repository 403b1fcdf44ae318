"""What is tried is read as written, and refused by the nearest name."""

import pytest

from vitrail.errors import InputError
from vitrail.tuning.space import grid, read_space

KNOWN = ("patch", "heads", "dropout", "learning_rate")


def test_lists_and_ranges_are_read_in_their_own_kind_of_number():
    patch, rate, dropout = read_space(
        ["patch=8..32", "learning_rate=1e-4..1e-2", "dropout=.1,.3,.3"], known=KNOWN
    )
    assert (patch.is_range, patch.is_whole, patch.is_logarithmic) == (True, True, False)
    assert (rate.is_whole, rate.is_logarithmic) == (False, True)
    assert dropout.values == (0.1, 0.3)


def test_a_grid_is_every_combination_once():
    axes = read_space(["patch=8,16,32", "heads=1,2,4", "dropout=.1,.3,.5"], known=KNOWN)
    points = list(grid(axes))
    assert len(points) == len({tuple(one.values()) for one in points}) == 27
    assert points[1] == {"patch": 8, "heads": 1, "dropout": 0.3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "at least one parameter is tuned"),
        (["ptach=8"], "nearest parameter that can be tuned is 'patch'"),
        (["patch="], "a parameter has values"),
        (["patch=8", "patch=16"], "given twice"),
        (["learning_rate=1e-2..1e-4"], "a range is low..high"),
        (["patch=a..b"], "two numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(words, message):
    with pytest.raises(InputError, match=message):
        read_space(words, known=KNOWN)


def test_a_range_is_no_grid():
    with pytest.raises(InputError, match="pass --trials 40"):
        list(grid(read_space(["patch=8..32"], known=KNOWN)))
