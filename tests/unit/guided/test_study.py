from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from vitrail.data.manifest import read_manifest
from vitrail.data.thorax import chest_volumes
from vitrail.guided import maps
from vitrail.guided.arms import choose_arms
from vitrail.guided.study import FoldStudy, Stages
from vitrail.models.zoo import SMALL_VIT, ModelSpec, build
from vitrail.records import Preprocessing, VolumeView, no_progress
from vitrail.training.fit import FitSettings


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a fold of sixteen tiny chests: twelve to train on, two and two held out."""
    folder = tmp_path_factory.mktemp("guided")
    manifest = chest_volumes(
        folder, cases=16, seed=2, shape=(10, 32, 32), spacing_mm=(6.0, 6.0, 6.0)
    )
    cohort = read_manifest(manifest)
    by_class = {name: [case for case in cohort if case.label == name] for name in cohort.classes}
    split = {case.case_id: "train" for case in cohort}
    for cases in by_class.values():
        split[cases[0].case_id], split[cases[1].case_id] = "validation", "test"
    tiny = {**SMALL_VIT, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    vit = ModelSpec(
        architecture="vit", num_classes=2, img_size=(24, 24), in_chans=1, parameters=tiny
    )
    cnn = ModelSpec(
        architecture="resnet10t",
        num_classes=2,
        img_size=(24, 24),
        in_chans=1,
        parameters={"channels": (8, 8, 8, 8), "stem_width": 8},
    )
    fit = FitSettings(epochs=1, batch_size=6)
    stages = Stages(
        vit=vit,
        cnn=cnn,
        vit_fit=fit,
        cnn_fit=fit,
        preprocessing=Preprocessing(
            image_size=(24, 24),
            channels=1,
            mean=(0.4,),
            std=(0.3,),
            volume=VolumeView(tile_px=8, window="lung", crop="mask"),
        ),
        augmentation="ct",
        inner_folds=2,
        cache=folder / "cache",
    )
    return FoldStudy(
        cohort=cohort,
        split=split,
        groups={case.case_id: case.patient_id for case in cohort},
        number=0,
        stages=stages,
        outer=build(vit, seed=0).eval(),
        folder=folder / "fold0",
    )


@pytest.fixture
def study(drawn, tmp_path):
    """Return the fold with nothing trained yet, and a folder of its own."""
    return replace(drawn, folder=tmp_path / "fold0", seconds={}, _maps={})


def test_a_training_cases_map_comes_from_the_model_that_held_it_out(study, monkeypatch):
    asked = []

    def inner(self, training, number):
        asked.append({case.case_id for case in training})
        return nn.Identity()

    def by(self, model, windows, method):
        return np.full((len(windows[0]), len(windows), 3, 3), len(asked), dtype=np.float32)

    monkeypatch.setattr(FoldStudy, "_inner", inner)
    monkeypatch.setattr(FoldStudy, "_by", by)
    (guided, *_) = choose_arms("rollout", ablate=False)
    made = study.maps(guided, "train", seed=0)
    names = [case.case_id for case in study.cohort if study.split[case.case_id] == "train"]
    assert len(asked) == 2
    for place, name in enumerate(names):
        model = int(made[place, 0, 0, 0]) - 1
        assert name not in asked[model]
    assert asked[0] | asked[1] == set(names)


def test_every_arm_is_trained_predicts_and_is_kept(study):
    arms = choose_arms("rollout", ablate=True)
    probabilities = {}
    for arm in arms:
        validation, test = study.run(arm, seed=0, progress=no_progress)
        assert (validation.split, test.split) == ("validation", "test")
        np.testing.assert_allclose(test.probabilities.sum(axis=1), 1, atol=1e-6)
        probabilities[arm.name] = test.probabilities
    assert len({value.tobytes() for value in probabilities.values()}) > 4
    again = study.run(arms[0], seed=0, progress=no_progress)
    np.testing.assert_allclose(again[1].probabilities, probabilities["guided"], atol=1e-6)
    assert set(study.seconds) == {"stage one", "maps", "stage two"}


def test_maps_are_kept_by_model_and_case_and_made_once(study, monkeypatch):
    made = []
    explain = maps.explain
    monkeypatch.setattr(
        maps, "explain", lambda *given, **how: made.append(1) or explain(*given, **how)
    )
    windows = study._windows("test")
    asked = {"method": "rollout", "cache": study.folder / "kept"}
    first = maps.explained(study.outer, windows, **asked)
    count = len(made)
    again = maps.explained(study.outer, windows, **asked)
    assert len(made) == count > 0
    np.testing.assert_array_equal(first, again)
    other = maps.explained(build(study.stages.vit, seed=5).eval(), windows, **asked)
    assert len(made) == 2 * count
    assert not np.array_equal(first, other)
    # One case more: only that one is explained.
    more = study._some([*windows[0].cases, *study._windows("validation")[0].cases[:1]])
    np.testing.assert_array_equal(maps.explained(study.outer, more, **asked)[:2], first)
    assert len(made) == 3 * count


def test_both_stages_evidence_is_read_back_from_a_finished_training(study):
    (guided, *_) = choose_arms("rollout", ablate=False)
    study.run(guided, seed=0, progress=no_progress)
    found = study.evidence(guided, seed=0)
    windows = study.stages.preprocessing.volume.votes
    assert found.vit.shape == (2, windows, 3, 3)
    assert found.cnn.shape[:2] == (2, windows)
    assert found.first.class_specific
    assert found.first.signed
    np.testing.assert_array_equal(found.first.values.numpy(), found.cnn[:, 0])


def test_columns_are_joined_in_every_arm_and_both_stages_can_be_trained_together(study):
    cohort = replace(
        study.cohort,
        cases=tuple(
            replace(case, attributes={"age": str(40 + place)} if place else {})
            for place, case in enumerate(study.cohort)
        ),
    )
    other = replace(
        study,
        cohort=cohort,
        stages=replace(study.stages, columns=("age",)),
        folder=study.folder / "columns",
    )
    arms = choose_arms("rollout", ablate=False, end_to_end=True)
    assert [arm.name for arm in arms] == ["guided", "no map", "end to end"]
    for arm in arms:
        _, test = other.run(arm, seed=0, progress=no_progress)
        np.testing.assert_allclose(test.probabilities.sum(axis=1), 1, atol=1e-6)
    assert other.evidence(arms[0], seed=0).cnn.shape[0] == 2
