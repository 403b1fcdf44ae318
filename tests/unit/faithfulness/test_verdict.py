"""What is said beside a recommendation."""

from vitrail.faithfulness.verdict import other_hidings
from vitrail.records import Estimate


def estimate(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high, n=20, method="")


def test_a_way_of_hiding_that_disagrees_is_named_beside_the_recommendation():
    tables = {
        "removal_gain/blur": {"libra": estimate(-1.0, 1.0)},
        "over_controls/removal_gain/token_drop": {"libra": estimate(-1.0, 1.0)},
        "over_controls/removal_gain/blur": {"libra": estimate(-0.1, 0.06)},
        "over_controls/removal_gain/noise": {"libra": estimate(0.1, 0.2)},
    }
    (said,) = other_hidings(tables, "libra", gain="removal_gain/token_drop")
    assert said.startswith("Hidden by blur, its gain is not surely above the best control's")
    assert "(difference -0.020, -0.100 to 0.060)" in said
