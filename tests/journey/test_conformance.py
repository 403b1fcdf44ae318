"""The tiny ViT is trained on planted evidence, and the methods are judged."""

import inspect
import sys

import numpy as np
import pytest
import torch

from vitrail.errors import InputError
from vitrail.explain import capture, explain
from vitrail.faithfulness.conformance import SEED, conformance, explain_planted
from vitrail.faithfulness.explainers import control_explainers
from vitrail.faithfulness.interval import mean_estimates
from vitrail.faithfulness.planted import plant, train_tiny_vit
from vitrail.faithfulness.randomization import passes, randomization_error, shuffled_models
from vitrail.pipeline.conformance import find, table

pytestmark = pytest.mark.journey

CONFORMING = ("relevance", "libra", "cp_lrp", "gradient_rollout", "occlusion", "token_drop")


def copied_gradient_rollout(model, images, target):
    """The most copied public code, as its hooks deliver it: gradients in reverse order."""
    with torch.enable_grad(), capture(model) as trace:
        logits = model(images.clone().requires_grad_())
    outputs = [layer.output for layer in trace.layers]
    gradients = torch.autograd.grad(logits[:, target].sum(), outputs)
    after = [
        layer.attention_gradient(gradient)
        for layer, gradient in zip(trace.layers, gradients, strict=True)
    ]
    result = torch.eye(65)
    for layer, gradient in zip(trace.layers, reversed(after), strict=True):
        fused = (layer.attention() * gradient).mean(dim=1).relu() + torch.eye(65)
        result = fused / fused.sum(dim=-1, keepdim=True) @ result
    return result[:, 0, 1:].reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def model():
    return train_tiny_vit()


@pytest.fixture(scope="module")
def rows(model):
    found = conformance(
        model,
        plant(40, seed=SEED),
        methods=(*CONFORMING, "rollout"),
        explainers={"copied": copied_gradient_rollout},
    )
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", CONFORMING)
def test_methods_that_point_at_the_cause_conform(rows, name):
    assert rows[name].pointing.value >= 0.98
    assert rows[name].right_class.value >= 0.98
    assert rows[name].conforms


def test_hiding_a_patch_costs_what_the_task_says_it_is_worth(model):
    pictures = plant(25, seed=SEED)
    lost = explain_planted("occlusion", model, pictures=pictures)
    on_cause = pictures.causes.numpy().swapaxes(0, 1)
    assert np.mean(lost[on_cause]) == pytest.approx(0.5, abs=0.1)
    assert np.mean(lost[~on_cause]) == pytest.approx(0.0, abs=0.05)


def by_method(name):
    def explain_by(network, images, *, targets):
        values = explain(network, images, method=name, target=targets.tolist()).values
        return values.double().numpy()

    return explain_by


def share_without_learning(model, named, method):
    images, targets = named
    original = method(model, images, targets=targets)
    shares = randomization_error(
        shuffled_models(model), images, method=method, targets=targets, original=original
    )
    return mean_estimates({"": shares})[""]


@pytest.fixture(scope="module")
def named():
    """Return pictures, and one motif that is in each."""
    pictures = plant(16, seed=SEED)
    some = pictures.present.any(dim=1)
    return pictures.images[some], pictures.present[some].int().argmax(dim=1).numpy()


@pytest.mark.parametrize("name", ["relevance", "libra", "cp_lrp", "gradient_rollout"])
def test_maps_that_show_what_was_learned_pass_randomization(model, named, name):
    assert passes(share_without_learning(model, named, by_method(name)))


def test_maps_of_the_picture_alone_fail_randomization(model, named):
    assert not passes(share_without_learning(model, named, control_explainers((8, 8))["edges"]))


def test_rollout_is_exposed_as_knowing_no_class(rows):
    assert rows["rollout"].right_class.value == 0.5
    assert not rows["rollout"].conforms


def test_the_most_copied_mistake_is_told_by_name(rows):
    assert rows["copied"].known_mistake.startswith("gradient rollout, gradients in reverse order")
    assert not rows["copied"].conforms
    assert any("a known mistake" in line for line in table(tuple(rows.values())))


@pytest.fixture
def explainers(model, tmp_path, monkeypatch):
    """Stand in a folder with a file of two explainers that differ in one word."""
    wrong = inspect.getsource(copied_gradient_rollout)
    right = wrong.replace("reversed(after)", "after").replace("copied", "corrected")
    imports = "import torch\nfrom vitrail.explain import capture\n\n\n"
    (tmp_path / "explainers_of_mine.py").write_text(f"{imports}{wrong}\n\n{right}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitrail.pipeline.conformance.train", lambda **_: model)
    yield
    sys.modules.pop("explainers_of_mine", None)


def asked(explainer):
    """Return the words that judge one of them."""
    name = f"explainers_of_mine:{explainer}"
    return "conformance", name, "--methods", "gradient_rollout", "--cases", "30"


@pytest.mark.usefixtures("explainers")
def test_the_command_line_names_the_mistake_of_a_copied_explainer(succeed):
    said = " ".join(" ".join(succeed(*asked("copied_gradient_rollout"))["summary"]).split())
    name = "explainers_of_mine:copied_gradient_rollout"
    assert f"{name} is gradient rollout, gradients in reverse order of the layers" in said
    assert said.count(" does not conform") == 1


@pytest.mark.usefixtures("explainers")
def test_the_command_line_passes_an_explainer_that_is_right(succeed):
    rows = {row["name"]: row for row in succeed(*asked("corrected_gradient_rollout"))["rows"]}
    mine, ours = rows["explainers_of_mine:corrected_gradient_rollout"], rows["gradient_rollout"]
    assert mine["conforms"]
    assert not mine["known_mistake"]
    for number in ("pointing", "average_precision", "right_class"):
        assert mine[number]["value"] == pytest.approx(ours[number]["value"], abs=1e-6)


def test_every_control_is_beaten_by_every_conforming_method(rows):
    controls = [row for row in rows.values() if row.is_control]
    for name in CONFORMING:
        for control in controls:
            assert rows[name].pointing.low > control.pointing.high


def test_an_explainer_is_found_by_its_importable_name():
    assert find("vitrail.color:colorize").__name__ == "colorize"
    with pytest.raises(InputError, match=r"it must be path\.to:function"):
        find("vitrail.color:magic")
    with pytest.raises(InputError, match=r"it must be path\.to:function"):
        find("nowhere")
