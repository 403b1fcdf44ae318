"""Which model speaks of which case."""

import pytest
import torch

from vitrail.data.cohort import load_cohort
from vitrail.data.split import load_folds
from vitrail.web import session as sessions
from vitrail.web.session import Session


def test_a_case_is_looked_at_by_a_model_that_did_not_train_on_it(fold_run, monkeypatch):
    session = Session(fold_run)
    folds = load_folds(fold_run.split, load_cohort(fold_run.cohort))
    asked = []
    monkeypatch.setattr(sessions, "close_json", lambda found: found)
    monkeypatch.setattr(sessions, "close_up", lambda model, *_, **__: asked.append(model) or {})
    models = [one.model for one in session.trained.each]
    assert len(models) == 3
    for index, case_id in enumerate(session.case_ids):
        session.close_json(index)
        fold = next(place for place, model in enumerate(models) if model is asked[-1])
        assert folds[fold][case_id] == "test"
        assert f"fold {fold + 1} of 3" in session.case_json(index)["note"]
    assert len(set(map(id, asked))) == 3


def test_the_probabilities_of_a_new_picture_are_the_mean_over_the_folds(fold_run):
    trained = Session(fold_run).trained
    size = trained.each[0].preprocessing.image_size
    image = torch.rand((2, 1, *size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        each = [fold.model(image).double().softmax(dim=1).mean(dim=0) for fold in trained.each]
    expected = torch.stack(each).mean(dim=0).tolist()
    assert trained.probabilities(image) == pytest.approx(expected)
    assert "mean of 3" in trained.note(None)


def test_one_split_needs_no_note(session):
    assert session.trained.note("case0") == session.trained.note(None) == ""
