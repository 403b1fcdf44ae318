"""What a bench will cost."""

import pytest

from vitrail.faithfulness.controls import CONTROLS
from vitrail.faithfulness.forecast import Load, fitting, forecast, loads
from vitrail.faithfulness.suite import BenchSettings

ROWS = 1 + len(CONTROLS)


@pytest.mark.parametrize(
    ("tests", "every", "few"),
    [
        ((), (1, 0, 0), (0, 0, 0)),
        (("contrast", "mosaic"), (4, 0, 0), (0, 0, 0)),
        (("saco", "sensitivity_n"), (1, 5 * ROWS + 1 + 61, 0), (0, 0, 0)),
        (("removal",), (1, 10 * ROWS + 1, 0), (0, 0, 10 * ROWS + 1)),
        (("stability", "randomization"), (1, 0, 0), (6, 0, 0)),
        (("chefer",), (1, 0, 18 * ROWS + 1), (0, 0, 0)),
    ],
)
def test_the_passes_of_each_test_are_counted(tests, every, few):
    found = loads(BenchSettings(tests=tests), methods=1)
    assert found == tuple(
        Load(explanations=one, variants=two, others=three) for one, two, three in (every, few)
    )


def test_what_is_asked_of_a_few_pictures_is_paid_for_once():
    assert fitting(100.0, 1.0, few=2.0, some=24) == 52
    assert fitting(30.0, 1.0, few=2.0, some=24) == 10
    assert fitting(0.1, 1.0, few=2.0, some=24) == 0


def test_one_picture_is_forecast_even_where_none_fits(tiny):
    model, images, _ = tiny
    asked = BenchSettings(tests=("contrast",), budget_s=1e-6)
    found = forecast(model, images, methods=["relevance"], settings=asked, asks={})
    assert (found.cases, found.every.explanations) == (1, 2)
    assert found.megabytes < 1
