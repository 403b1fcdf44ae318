"""A small run with a real, untrained transformer, and the application that serves it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from vitrail.data.cohort import write_cohort
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline.choices import write_plan
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.rules import Machine, Request, choose
from vitrail.records import Case, Cohort
from vitrail.runfolder import RunFolder, write_csv, write_text
from vitrail.web.app import application
from vitrail.web.security import access
from vitrail.web.session import Session

CLASSES = ("clear", "nodule")


def planned():
    """Let the rules plan for small grey pictures."""
    facts = Facts(
        cases={"train": 240, "validation": 80, "test": 80},
        train_counts={"clear": 120, "nodule": 120},
        short_side_px=64,
        aspect_spread=1.0,
        color=False,
        bits=8,
    )
    how = {"machine": Machine(cores=2, gpu=None), "attends": lambda spec: True}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    return choose(facts, Request(), data="0" * 64, cost=lambda spec, batch: 0.01, **how)


@pytest.fixture(scope="session")
def served_run(tmp_path_factory):
    """Write a run of six test cases."""
    return write_served_run(tmp_path_factory.mktemp("served"))


def write_served_run(root):
    """Write a run with a trained model's files, and its pictures."""
    run = RunFolder(root / "run")
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir()
    run.pictures.mkdir(parents=True)
    names = [f"case{number}" for number in range(6)]
    for name in names:
        picture = Image.fromarray(rng.integers(0, 255, (40, 32), dtype=np.uint8))
        picture.save(root / "pictures" / f"{name}.png")
        picture.save(run.picture(name))
    cases = tuple(
        Case(case_id=name, path=f"{name}.png", label=CLASSES[place % 2])
        for place, name in enumerate(names)
    )
    write_cohort(run.cohort, Cohort(root / "pictures", cases, CLASSES))
    plan = planned()
    write_plan(run.plan, plan)
    rows = [
        {
            "model": "vit",
            "seed": 0,
            "fold": 0,
            "case_id": name,
            "split": "test",
            "y_true": CLASSES[place % 2],
            "prob_clear": 0.3,
            "prob_nodule": 0.7,
        }
        for place, name in enumerate(names)
    ]
    write_csv(run.predictions, rows, header=list(rows[0]))
    spec = ModelSpec(
        architecture="vit",
        num_classes=2,
        in_chans=1,
        img_size=plan.preprocessing.image_size,
        parameters={"patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2},
    )
    torch.manual_seed(0)
    bundle.save(
        run.model("vit"),
        model=build(spec).eval(),
        spec=spec,
        classes=CLASSES,
        preprocessing=plan.preprocessing,
        extra={},
    )
    write_text(run.report, "<!doctype html><title>report</title>")
    return run


@pytest.fixture
def session(served_run):
    """Open the run."""
    return Session(served_run)


@pytest.fixture
def allowed():
    return access("127.0.0.1", 8642)


@pytest.fixture
def stranger(session, allowed):
    """Return a client without the token."""
    return TestClient(
        application(session, allowed),
        base_url="http://127.0.0.1:8642",
        raise_server_exceptions=False,
    )


@pytest.fixture
def client(stranger, allowed):
    """Return a client that came by the printed address."""
    assert stranger.get("/", params={"token": allowed.token}).status_code == 200
    return stranger


@pytest.fixture
def said():
    """Return what an answer says went wrong."""
    return lambda answer: json.loads(answer.content)["error"]
