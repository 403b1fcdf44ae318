"""Figures for papers, drawn of a run that went from pictures to maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.explain import explain
from vitrail.pipeline.figure import FIGURES
from vitrail.pipeline.portrait import Studio, distances, positions, rollouts
from vitrail.runfolder import RunFolder, write_json

pytestmark = pytest.mark.journey

NEEDS_TUNING = {"tuning-curves", "tuning-map", "tuning-parallel"}


@pytest.fixture(scope="module")
def original(tmp_path_factory, draw, succeed):
    """Train a tiny transformer on bright squares left and right, and explain it."""
    root = tmp_path_factory.mktemp("figures")
    run = RunFolder(root / "run")
    succeed("inspect", draw(root / "pictures", cases=40, size=(32, 40)), "--out", run.root)
    tiny = {
        "image_size": "[32,32]",
        "epochs": 2,
        "baseline_epochs": 1,
        "baseline": "resnet10t",
        "baseline_parameters": "{channels: [8, 8, 8, 8], stem_width: 8}",
        "model_parameters": "{patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}",
    }
    wishes = [word for name, value in tiny.items() for word in ("--set", f"{name}={value}")]
    succeed("plan", run.root, "--budget", "1h", *wishes)
    for verb in ("train", "evaluate", "explain"):
        succeed(verb, run.root)
    return run


@pytest.fixture
def studio(run):
    return Studio(run)


def test_every_figure_is_listed_and_drawn(run, succeed):
    listed = succeed("figure", "list")
    assert [one["name"] for one in listed["figures"]] == list(FIGURES)
    for name in FIGURES.keys() - NEEDS_TUNING:
        drawn = succeed("figure", name, run.root)
        with Image.open(drawn["path"]) as picture:
            assert min(picture.size) > 30
            assert picture.format == ("GIF" if name == "rollout" else "PNG")


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_a_figure_has_the_same_bytes_each_time(run, tmp_path, ending, succeed):
    twice = [tmp_path / f"{place}.{ending}" for place in range(2)]
    for path in twice:
        succeed("figure", "panels", run.root, "--class", "left", "--out", path)
    assert twice[0].read_bytes() == twice[1].read_bytes()
    assert twice[0].read_bytes()[:5] == {"svg": b"<?xml", "pdf": b"%PDF-"}[ending]


@pytest.mark.parametrize("ending", ["gif", "webp", "apng"])
def test_rollout_moves_through_the_layers(run, tmp_path, ending, succeed):
    path = tmp_path / f"rollout.{ending}"
    succeed("figure", "rollout", run.root, "--out", path)
    with Image.open(path) as picture:
        assert picture.n_frames == 3


def test_a_map_of_the_class_that_was_asked_for_is_drawn(run, tmp_path, succeed):
    for label in ("left", "right"):
        succeed("figure", "panels", run.root, "--class", label, "--out", tmp_path / f"{label}.svg")
    left, right = ((tmp_path / f"{label}.svg").read_text() for label in ("left", "right"))
    assert "what speaks for left" in left
    assert "what speaks for right" in right


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("mosaic",), "the nearest figure is"),
        (("panels", "--class", "lefft"), "perhaps 'left'"),
        (("panels", "--case", "left/0001"), "perhaps 'left/0"),
        (("panels", "--method", "relevanc"), "relevance"),
        (("panels", "--out", "a.gif"), "written as png, svg, pdf"),
        (("tuning-map",), "vitrail tune"),
    ],
)
def test_what_cannot_be_drawn_is_said(run, words, problem, refused):
    name, *options = words
    assert problem in refused("figure", name, run.root, *options)


def test_a_figure_without_a_run_is_refused(refused):
    assert "vitrail figure panels RUN" in refused("figure", "panels")


def test_the_last_frame_is_the_whole_rollout(studio):
    one = studio.portrait()
    whole = explain(one.model, one.image, method="rollout").values[0].numpy()
    np.testing.assert_allclose(rollouts(one)[-1], whole, atol=1e-6)


def test_even_attention_looks_as_far_as_it_can(studio, monkeypatch):
    one = studio.portrait()
    tokens = one.layout.num_tokens
    even = torch.full((2, 2, tokens, tokens), 1 / tokens)
    monkeypatch.setattr("vitrail.pipeline.portrait.attention_matrices", lambda *_: even)
    values, furthest = distances(one)
    np.testing.assert_allclose(values, furthest, rtol=1e-5)
    oneself = torch.eye(tokens).expand(2, 2, -1, -1)
    monkeypatch.setattr("vitrail.pipeline.portrait.attention_matrices", lambda *_: oneself)
    assert np.all(distances(one)[0] < 1e-6)


def test_a_position_is_most_like_itself(studio):
    alike = positions(studio.portrait())
    rows, columns = alike.shape[:2]
    for row, column in np.ndindex(rows, columns):
        assert alike[row, column].argmax() == row * columns + column


def test_the_picture_of_a_case_is_what_the_model_was_shown(studio):
    one = studio.portrait()
    assert one.picture().shape == (32, 32, 3)
    assert one.picture().max() > 150  # the bright square


def test_a_grid_that_was_tuned_is_drawn(run, tmp_path, succeed):
    trials = [
        {
            "number": number,
            "parameters": {"patch": patch, "heads": heads, "dropout": 0.1},
            "value": 0.5 + 0.05 * number,
            "given_up": False,
            "curve": [[1, 0.5], [2, 0.5 + 0.05 * number]],
            "seconds": 1.0,
        }
        for number, (patch, heads) in enumerate([(8, 1), (8, 2), (16, 1)])
    ]
    axes = [
        {"name": name, "values": values, "low": 0, "high": 0, "logarithmic": False}
        for name, values in (("patch", [8, 16]), ("heads", [1, 2]), ("dropout", [0.1, 0.3]))
    ]
    study = {"metric": "roc_auc_score", "axes": axes, "trials": trials, "chosen": 2}
    write_json(run.tuning, study)
    for name in NEEDS_TUNING:
        path = tmp_path / f"{name}.svg"
        succeed("figure", name, run.root, "--out", path)
        assert "ROC AUC" in path.read_text()
    assert ".600" in (tmp_path / "tuning-map.svg").read_text()
