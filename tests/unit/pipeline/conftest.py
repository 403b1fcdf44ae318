"""A plan made by the rules for a small grey cohort, on a machine that never varies."""

import pytest

from vitrail.pipeline.facts import Facts
from vitrail.pipeline.request import Machine, Request
from vitrail.pipeline.rules import choose


@pytest.fixture
def facts():
    return Facts(
        cases={"train": 240, "validation": 80, "test": 80},
        train_counts={"clear": 120, "nodule": 120},
        short_side_px=192,
        aspect_spread=1.0,
        color=False,
        bits=8,
    )


@pytest.fixture
def machine():
    return Machine(cores=2, gpu=None)


@pytest.fixture
def cost():
    """Return the cost of a step: proportional to the pixels, twice as much for a transformer."""

    def seconds(spec, batch_size):
        each = 2e-7 if spec.architecture == "vit" else 1e-7
        return each * spec.img_size[0] * spec.img_size[1] * batch_size

    return seconds


@pytest.fixture
def plan(facts, machine, cost):
    how = {"machine": machine, "cost": cost, "attends": lambda spec: True}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    return choose(facts, Request(), data="0" * 64, **how)


@pytest.fixture
def content(plan):
    return plan.model_dump(mode="json")
