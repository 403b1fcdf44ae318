"""Drawings are true to their numbers, readable without color, and escaped."""

import math
import re
from xml.etree import ElementTree as ET

import pytest

from vitrail.report.figures import UNIT, Axis, Series, bars, chart, nice_axis, window

UNIT_AXIS = Axis(name="share", low=0.0, high=1.0, ticks=UNIT)
HOSTILE = '<script>alert("x")</script>'


def draw(*series, **options):
    return chart(list(series), x=UNIT_AXIS, y=UNIT_AXIS, title="A chart.", **options)


def coordinates(drawing, kind="line s0"):
    path = re.search(rf'class="{kind}" d="([^"]*)"', drawing).group(1)
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([\d. ]+)", path)]


def test_a_line_runs_where_its_points_are():
    (left, bottom), (middle, up), (right, top) = coordinates(
        draw(Series(name="a", points=[(0, 0), (0.5, 0.5), (1, 1)], style=0))
    )
    assert left < middle < right
    assert bottom > up > top
    assert middle == pytest.approx((left + right) / 2)
    assert up == pytest.approx((bottom + top) / 2)


def test_an_undefined_point_interrupts_the_line_and_is_not_drawn():
    drawing = draw(Series(name="a", points=[(0, 0), (0.5, float("nan")), (1, 1)], style=0))
    assert "nan" not in drawing
    assert re.search(r'class="line s0" d="M[^ML]*M[^ML]*"', drawing)


def test_names_are_escaped_and_the_drawing_is_well_formed():
    drawing = draw(Series(name=HOSTILE, points=[(0, 0), (1, 1)], style=0), diagonal=True)
    assert HOSTILE not in drawing
    assert HOSTILE in "".join(ET.fromstring(drawing).itertext())
    rows = bars([(HOSTILE, 0.5, 0.4, 0.6, 0)], title=HOSTILE)
    assert ET.fromstring(rows).attrib["aria-label"] == HOSTILE


def test_a_band_goes_up_along_its_high_end_and_back_along_its_low_one():
    band = [(0.0, 0.0, 0.2), (1.0, 0.8, 1.0)]
    drawing = draw(Series(name="a", points=[(0, 0.1), (1, 0.9)], style=0, band=band))
    assert len(coordinates(drawing, kind="band s0")) == 4


def test_a_marked_point_says_what_it_is():
    drawing = draw(
        Series(name="a", points=[(0, 0), (1, 1)], style=0, mark=((1, 1), "best epoch 3: 0.4"))
    )
    assert "<title>best epoch 3: 0.4</title>" in drawing


@pytest.mark.parametrize(
    "values", [[0.0, 1.0], [3.0, 3.0], [-4e-6, 2e-5], [1200.0, 99000.0], [float("nan")], []]
)
def test_an_axis_holds_its_values_with_a_readable_number_of_ticks(values):
    axis = nice_axis("x", values)
    known = [value for value in values if not math.isnan(value)]
    assert all(axis.low <= value <= axis.high for value in known)
    assert 2 <= len(axis.ticks) <= 9


def test_an_axis_of_epochs_has_whole_ticks_only():
    assert nice_axis("epoch", [1, 3], whole=True).ticks == (1, 2, 3)


def test_the_emblem_has_one_pane_a_patch():
    drawing = window([["#000000", "#ffffff"], ["#ff0000", "#00ff00"]])
    assert drawing.count("<path fill=") == 4
