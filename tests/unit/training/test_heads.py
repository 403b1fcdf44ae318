"""Heads on frozen features: optimal, chosen by validation cases, and whole models in the end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitrail.errors import InputError
from vitrail.records import Case
from vitrail.training.fit import FitSettings
from vitrail.training.heads import NEIGHBORS, PENALTIES, Features, train_head


def features(cases, *, seed, views=1, several=False, apart=2.0):
    """Draw Gaussian clouds, one a class, on scales that differ by feature."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, size=cases)
    centers = np.random.default_rng(9).normal(size=(3, 6)) * apart
    values = centers[labels] + generator.normal(size=(views, cases, 6))
    scaled = (values * np.array([1, 10, 0.1, 1, 5, 1]) + 3).astype(np.float32)
    return Features(scaled, np.eye(3, dtype=np.int64)[labels] if several else labels)


def trained(kind, tmp_path, *, views=1, several=False, **settings):
    return train_head(
        kind,
        features(90, seed=0, views=views, several=several),
        validation=features(45, seed=1, several=several),
        num_classes=3,
        settings=FitSettings(epochs=15, batch_size=16, multi_label=several, **settings),
        folder=tmp_path,
    )


def accuracy(found, *, several=False):
    test = features(200, seed=2, several=several)
    with torch.no_grad():
        decision = found.head(torch.from_numpy(test.views[0])).argmax(dim=1).numpy()
    truth = test.labels.argmax(axis=1) if several else test.labels
    return np.mean(decision == truth)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("kind", ["linear", "mlp", "knn"])
def test_each_head_tells_clouds_apart_from_features_as_they_are(kind, views, tmp_path):
    found = trained(kind, tmp_path, views=views)
    assert accuracy(found) > 0.85
    row = found.history[found.best - 1]
    assert row["epoch"] == found.best
    assert row["validation_loss"] == min(one["validation_loss"] for one in found.history)
    assert found.seconds > 0


@pytest.mark.parametrize("kind", ["linear", "mlp", "knn"])
def test_each_head_takes_several_labels_a_case(kind, tmp_path):
    assert accuracy(trained(kind, tmp_path, several=True), several=True) > 0.8


def test_the_linear_head_is_scikit_learns_optimum(tmp_path):
    found = trained("linear", tmp_path, balance="none")
    train = features(90, seed=0)
    mean, std = train.views[0].mean(axis=0), train.views[0].std(axis=0, ddof=1)
    penalty = found.history[found.best - 1]["penalty"]
    reference = LogisticRegression(C=1 / (penalty * 90), tol=1e-9, max_iter=5000)
    reference.fit((train.views[0] - mean) / std, train.labels)
    test = features(50, seed=3).views[0]
    with torch.no_grad():
        ours = found.head(torch.from_numpy(test)).softmax(dim=1).numpy()
    assert ours == pytest.approx(reference.predict_proba((test - mean) / std), abs=2e-3)


def test_classes_are_balanced_where_the_settings_say_so(tmp_path):
    def share(balance):
        train, held = features(300, seed=0, apart=0.2), features(60, seed=1, apart=0.2)
        rare = (train.labels != 0) | (np.arange(300) % 10 == 0)
        found = train_head(
            "linear",
            Features(train.views[:, rare], train.labels[rare]),
            validation=held,
            num_classes=3,
            settings=FitSettings(balance=balance),
            folder=tmp_path,
        )
        with torch.no_grad():
            said = found.head(torch.from_numpy(features(300, seed=4, apart=0.2).views[0]))
        return said.softmax(dim=1)[:, 0].mean()

    assert share("weights") > share("none") + 0.1


def test_the_seed_matters_to_the_hidden_layer_alone(tmp_path):
    def weights(kind, seed):
        head = trained(kind, tmp_path / f"{kind}{seed}", seed=seed).head
        return torch.cat([value.flatten() for value in head.state_dict().values()])

    assert torch.equal(weights("linear", 0), weights("linear", 1))
    assert not torch.equal(weights("mlp", 0), weights("mlp", 1))


def test_every_setting_stands_in_the_history(tmp_path):
    assert [row["penalty"] for row in trained("linear", tmp_path).history] == list(PENALTIES)
    tried = [row["neighbors"] for row in trained("knn", tmp_path).history]
    assert tried == [count for count in NEIGHBORS if count <= 90]


def test_the_epoch_of_the_hidden_layer_is_chosen_by_patients(tmp_path):
    validation = features(45, seed=1)
    patients = [
        Case(case_id=str(place), path=f"{place}.png", label=str(label), patient_id="one")
        for place, label in enumerate(validation.labels)
    ]
    for cases, known in ((None, True), (patients, False)):  # one patient tells nothing
        found = train_head(
            "mlp",
            features(90, seed=0),
            validation=replace(validation, cases=cases),
            num_classes=3,
            settings=FitSettings(epochs=1, batch_size=16, metric="roc_auc_score"),
            folder=tmp_path / str(known),
        )
        assert (found.history[0]["standard_error"] is not None) is known


def test_without_validation_cases_no_head_is_trained(tmp_path):
    empty = Features(np.zeros((1, 0, 6), dtype=np.float32), np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError, match="choose how strongly a head is regularized"):
        train_head(
            "linear",
            features(9, seed=0),
            validation=empty,
            num_classes=3,
            settings=FitSettings(),
            folder=tmp_path,
        )
