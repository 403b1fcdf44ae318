"""The numbers of each epoch go to a tracker where one is asked for."""

from dataclasses import replace

import pytest
from accelerate.utils import DistributedDataParallelKwargs

from vitrail.errors import InputError
from vitrail.training.fit import FitSettings, fit
from vitrail.training.tracking import tracked

SETTINGS = FitSettings(epochs=2, batch_size=16)


def test_without_one_nothing_is_written(tmp_path, toy_model, toy_data):
    fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    assert not (tmp_path / "tracker").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("tensorbord", "known are .*tensorboard"), ("aim", "pip install aim")]
)
def test_a_tracker_that_is_not_there_is_said(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        tracked(name, tmp_path / "seed0", handler=DistributedDataParallelKwargs())


def test_tensorboards_curves_hold_the_logs_numbers(tmp_path, toy_model, toy_data):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "run" / "models" / "vit" / "seed0" / "fold0"
    settings = replace(SETTINGS, tracker="tensorboard")
    history = fit(toy_model(), *toy_data, settings, folder=folder).history
    (file,) = folder.rglob("events.out.tfevents.*")
    events = reading.EventAccumulator(str(file)).Reload()
    for name in ("train_loss", "validation_loss", "learning_rate"):
        curve = [(event.step, event.value) for event in events.Scalars(name)]
        assert curve == [(row["epoch"], pytest.approx(row[name])) for row in history]


def test_mlflow_gets_the_curves(tmp_path, toy_model, toy_data, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = tmp_path / "run" / "models" / "vit" / "seed0" / "fold0"
    settings = replace(SETTINGS, tracker="mlflow")
    history = fit(toy_model(), *toy_data, settings, folder=folder).history
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'vitrail'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run/vit/seed0/fold0"
    curve = client.get_metric_history(run.info.run_id, "train_loss")
    assert [one.value for one in curve] == [row["train_loss"] for row in history]


def test_weights_and_biases_keeps_the_run_offline_in_the_training_folder(
    tmp_path, toy_model, toy_data, monkeypatch
):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "run" / "models" / "vit" / "seed0" / "fold0"
    fit(toy_model(), *toy_data, replace(SETTINGS, tracker="wandb"), folder=folder)
    assert list((folder / "tracker").rglob("run-*.wandb"))
