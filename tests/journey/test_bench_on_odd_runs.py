"""``vitrail bench`` from the command line where something is missing or odd; nothing is trained."""

import json

import numpy as np
import pytest
import torch
import yaml

from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline.choices import read_plan
from vitrail.runfolder import RunFolder

pytestmark = pytest.mark.journey

VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SWIN = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}


@pytest.fixture(scope="module")
def original(tmp_path_factory, draw, succeed):
    """Return the folder of a run that is planned and not trained."""
    root = tmp_path_factory.mktemp("odd")
    succeed("inspect", draw(root / "pictures", cases=40), "--out", root / "run")
    succeed("plan", root / "run", "--budget", "1h")
    run = RunFolder(root / "run")
    plan = yaml.safe_load(run.plan.read_text())
    plan["image_size"]["value"] = [32, 32]
    run.plan.write_text(yaml.safe_dump(plan))
    return run


@pytest.fixture
def benched(run, succeed):
    """Return a function that puts an untrained model where the trained one would be, and benches.

    It gives the record, and what was said.
    """

    def said(*options, architecture="vit", parameters=VIT, still=False, methods="relevance"):
        spec = ModelSpec(architecture=architecture, num_classes=2, img_size=(32, 32), in_chans=1,
                         parameters=parameters)  # fmt: skip
        model = build(spec, seed=0)
        if still:
            torch.nn.init.zeros_(model.head.weight)
        plan = read_plan(run.plan)
        bundle.save(run.model("vit"), model=model, spec=spec, classes=("left", "right"),
                    preprocessing=plan.preprocessing,
                    extra={"plan": plan.fingerprint()})  # fmt: skip
        told = succeed("bench", run.root, "--cases", "4", "--methods", methods, *options)
        return json.loads(run.faithfulness.read_text()), " ".join(told["summary"])

    return said


def test_few_cases_and_missing_masks_are_said(benched):
    found, said = benched("--tests", "removal,localization", "--imputers", "token_drop")
    assert found["refused"]["localization"].startswith("no masks were given")
    assert "left out: localization (no masks were given; pass masks to test it)" in said
    assert "Only 4 patients or pictures: the intervals are guesses." in said
    cell = found["tables"]["removal_gain/token_drop"]["relevance"]
    assert "the interval is a guess" in cell["reason"]


def test_a_windowed_model_refuses_token_dropping_and_keeps_the_rest_with_maps_of_any_grid(benched):
    found, said = benched(
        "--tests", "removal,saco", methods="relevance,input_x_gradient,grad_cam",
        architecture="swin_tiny_patch4_window7_224", parameters=SWIN,
    )  # fmt: skip
    assert {"relevance", "removal_gain/token_drop"} <= set(found["refused"])
    assert {"removal_gain/blur", "saco_score"} <= set(found["tables"])
    assert "left out: removal_gain/token_drop (" in said
    assert set(found["methods"]) == {"input_x_gradient", "grad_cam"}  # maps 8 x 8, and 4 x 4
    gains = found["tables"]["removal_gain/blur"]
    assert all(np.isfinite(cell["value"]) for cell in gains.values())


def test_a_constant_map_is_named_and_gains_nothing(benched):
    found, said = benched("--tests", "removal", "--imputers", "token_drop", still=True)
    assert "Some maps are constant: relevance." in said
    assert found["tables"]["removal_gain/token_drop"]["relevance"]["value"] == pytest.approx(0)
    assert found["recommendation"]["method"] == ""
    assert all("the map is constant" in one["relevance"]["fails"]
               for one in found["strips"].values())  # fmt: skip


def test_an_unknown_test_is_refused_with_those_that_are_known(run, benched, refused):
    benched("--tests", "contrast")
    assert "known are removal" in refused("bench", run.root, "--tests", "magic")
