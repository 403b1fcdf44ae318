"""The bench on toy models: what stands in the record."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import timm
import torch

from vitrail.errors import InputError
from vitrail.faithfulness import suite
from vitrail.faithfulness.bench import bench
from vitrail.faithfulness.controls import CONTROLS
from vitrail.faithfulness.planted import plant, tiny_vit
from vitrail.faithfulness.suite import BenchSettings
from vitrail.faithfulness.verdict import is_ranked
from vitrail.pipeline.bench import sentences

SETTINGS = BenchSettings()


@pytest.fixture(scope="module")
def planted():
    model, pictures = tiny_vit(seed=0), plant(4, seed=8)
    masks = pictures.causes[:, 0].repeat_interleave(8, dim=1).repeat_interleave(8, dim=2).numpy()
    return model, pictures.images, masks


@pytest.fixture(scope="module")
def found(planted):
    model, images, masks = planted
    return bench(
        model, images, targets=[0, 1, 2, 3], methods=("relevance", "rollout"), masks=masks,
        groups=["a", "a", "b", "c"], settings=SETTINGS,
    )  # fmt: skip


def test_every_table_holds_every_method_and_every_control(found):
    for test in ("removal_gain/token_drop", "removal_gain/blur", "saco_score", "mosaic_score",
                 "sensitivity_n_score", "contrast_score", "stability_score",
                 "randomization_error", "pointing_score", "outside_error"):  # fmt: skip
        assert set(found.tables[test]) == {"relevance", "rollout", *CONTROLS}, test


def test_areas_of_published_protocols_stand_in_the_table_where_they_are_asked_for(planted, found):
    model, images, _ = planted
    areas = ("deletion_error", "insertion_score", "positive_perturbation_error",
             "negative_perturbation_score")  # fmt: skip
    assert not set(areas) & set(found.tables)
    asked = BenchSettings(tests=("rise", "chefer"))
    tables = bench(model, images[:2], methods=("relevance",), settings=asked).tables
    assert set(tables) == set(areas)
    for test in areas:
        assert set(tables[test]) == {"relevance", *CONTROLS}
        assert all(0 <= cell.value <= 90 for cell in tables[test].values())


def test_gains_of_logit_and_accuracy_stand_beside_and_do_not_rank(found):
    for test in ("logit_removal_gain/blur", "accuracy_removal_gain/token_drop"):
        assert set(found.tables[test]) == {"relevance", "rollout", *CONTROLS}
        assert not is_ranked(test)


@pytest.mark.parametrize("imputer", ["noise", "linear", "mean", "black"])
def test_every_imputer_can_be_asked_for(planted, imputer):
    model, images, _ = planted
    asked = BenchSettings(tests=("removal",), imputers=(imputer,))
    found = bench(model, images[:2], methods=("relevance",), settings=asked)
    assert f"removal_gain/{imputer}" in found.tables
    assert list(found.curves) == [imputer]


def test_the_record_is_valid_json_by_its_schema(found):
    schema = json.loads((files("vitrail") / "schemas" / "faithfulness.json").read_text())
    content = json.loads(json.dumps(found.to_json(["w", "x", "y", "z"]), allow_nan=False))
    jsonschema.validate(content, schema)
    assert set(content["strips"]) == {"w", "x", "y", "z"}


def test_intervals_are_over_patients_and_few_are_said_to_be_few(found):
    cell = found.tables["removal_gain/blur"]["relevance"]
    assert (found.unit, found.num_units, cell.n) == ("patient", 3, 3)
    assert "fewer than 10 patients" in cell.reason
    assert any("Only 3 patients" in sentence for sentence in found.warnings)


def test_class_agnostic_maps_are_stamped(found):
    assert found.class_specific == {
        "relevance": True, "rollout": False, **dict.fromkeys(CONTROLS, False)
    }  # fmt: skip
    assert found.tables["contrast_score"]["rollout"].value == 0
    assert not found.strips[0]["rollout"].class_specific


def test_controls_that_look_at_the_picture_alone_fail_randomization(found):
    assert not found.randomization_passed["edges"]
    assert not found.randomization_passed["center"]


def test_every_map_has_its_strip(found):
    strip = found.strips[2]["relevance"]
    assert strip.prefix_share is not None
    assert strip.stability is not None
    assert strip.gain_over_random is not None


def test_ranks_carry_their_spread_and_costs_their_unit(found):
    for name in found.methods:
        rank, cost = found.ranks[name], found.costs[name]
        assert 1 <= rank.best <= rank.mean <= rank.worst <= 2
        assert cost.milliseconds > 0
        assert cost.passes


def test_the_same_seed_gives_the_same_tables(planted, found):
    model, images, masks = planted
    again = bench(
        model, images, targets=[0, 1, 2, 3], methods=("relevance", "rollout"), masks=masks,
        groups=["a", "a", "b", "c"], settings=SETTINGS,
    )  # fmt: skip
    assert again.to_json()["tables"] == found.to_json()["tables"]
    assert again.recommendation == found.recommendation


def test_the_model_is_left_as_it_was(planted, found):
    model, _, _ = planted
    fresh = tiny_vit(seed=0)
    for (name, one), two in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert one.grad is None


def test_a_windowed_model_refuses_token_dropping_and_keeps_the_rest():
    torch.manual_seed(0)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, num_classes=3, embed_dim=16, depths=(1, 1),
        num_heads=(2, 2), window_size=4,
    ).eval()  # fmt: skip
    found = bench(
        model, torch.randn(2, 3, 32, 32), methods=("relevance", "input_x_gradient"),
        settings=BenchSettings(tests=("removal", "saco", "localization")),
    )  # fmt: skip
    assert found.methods == ("input_x_gradient",)
    assert {"relevance", "removal_gain/token_drop", "localization"} <= set(found.refused)
    assert {"removal_gain/blur", "saco_score"} <= set(found.tables)


def test_one_picture_recommends_nothing_and_no_number_is_nan_in_words(planted):
    model, images, _ = planted
    settings = BenchSettings(tests=("removal",))
    found = bench(model, images[:1], methods=("relevance", "libra"), settings=settings)
    assert found.recommendation.method == ""
    assert all(strip.fails for strip in found.strips[0].values())
    assert "nan" not in " ".join(sentences(found))
    assert "One patient or picture alone: no interval can be stated." in found.warnings


def test_a_constant_map_is_not_said_to_fail_the_randomization_that_it_cannot_be_tested_for():
    model = tiny_vit(seed=0)
    with torch.no_grad():
        model.head.weight.zero_()
    settings = BenchSettings(tests=("removal", "randomization"))
    found = bench(
        model, plant(2, seed=5).images, methods=("relevance", "rollout"), settings=settings
    )
    assert "relevance" not in found.randomization_passed
    assert found.strips[0]["relevance"].fails[-1] == "the map is constant"
    assert not any("shuffled" in why for why in found.strips[0]["relevance"].fails)


def test_a_budget_leaves_cases_out_and_says_so(planted):
    model, images, _ = planted
    few = BenchSettings(tests=("contrast",), budget_s=1e-6)
    found = bench(model, images, methods=("relevance",), settings=few)
    assert found.num_cases == 1
    assert any("1 cases fit into the budget" in sentence for sentence in found.warnings)


def test_stability_randomization_and_further_imputers_are_asked_of_a_few_pictures(
    planted, monkeypatch
):
    monkeypatch.setattr(suite, "FEW_CASES", 2)
    model, images, _ = planted
    found = bench(model, images, methods=("relevance", "rollout"), settings=SETTINGS)
    asked = {test: found.tables[test]["relevance"].n for test in found.tables}
    few = {"removal_gain/blur", "stability_score", "max_sensitivity_error", "randomization_error"}
    assert {asked[test] for test in few} == {2}
    assert {asked[test] for test in ("removal_gain/token_drop", "saco_score")} == {4}
    steady = [strips["relevance"].stability is None for strips in found.strips]
    assert steady == [False, True, True, False]
    mean = found.tables["stability_score"]["relevance"].value
    assert all(one["relevance"].stability_of_method == pytest.approx(mean, abs=1e-5)
               for one in found.strips)  # fmt: skip
    assert any("asked of 2 of the 4 pictures" in sentence for sentence in found.warnings)
    assert found.settings["protocols"] == ["removal-2", "saco-4", "randomization-2"]


def test_thorough_asks_everything_of_every_picture_at_ten_heights(planted, monkeypatch):
    monkeypatch.setattr(suite, "FEW_CASES", 1)
    model, images, _ = planted
    asked = BenchSettings(tests=("removal", "stability"), thorough=True)
    found = bench(model, images[:2], methods=("relevance",), settings=asked)
    assert {cell.n for row in found.tables.values() for cell in row.values()} == {2}
    assert len(found.curves["blur"]["relevance"]["most"]) == len(found.fractions) == 10
    assert found.settings["protocols"] == ["removal-1", "saco-3", "randomization-2"]


def test_arguments_that_do_not_fit_are_refused(planted):
    model, images, masks = planted
    with pytest.raises(InputError, match="groups: 1 for 4 images"):
        bench(model, images, groups=["a"])
    with pytest.raises(InputError, match=r"masks: \(8, 8\) px for images of \(64, 64\) px"):
        bench(model, images, masks=masks[:, :8, :8])
    with pytest.raises(InputError, match="tests: magic; known are removal"):
        bench(model, images, settings=BenchSettings(tests=("magic",)))
    with pytest.raises(InputError, match="one must serve this model"):
        bench(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4096, 2)).eval(),
              images, methods=("relevance",))  # fmt: skip


def test_a_constant_map_is_named(planted):
    _, images, _ = planted
    still = tiny_vit(seed=0)
    torch.nn.init.zeros_(still.head.weight)
    found = bench(still, images, methods=("relevance",), settings=BenchSettings(tests=("removal",)))
    assert any("Some maps are constant: relevance" in sentence for sentence in found.warnings)
    assert "the map is constant" in found.strips[0]["relevance"].fails
    assert np.isclose(found.tables["removal_gain/token_drop"]["relevance"].value, 0)
    assert found.recommendation.method == ""
