"""The numbers of each epoch go to a tracker where one is asked for."""

from dataclasses import replace

import pytest
from accelerate.utils import DistributedDataParallelKwargs

from vitrail.errors import InputError
from vitrail.training.fit import FitSettings, fit
from vitrail.training.tracking import tracked

SETTINGS = FitSettings(epochs=2, batch_size=16)


def test_tensorboard_gets_the_curves(tmp_path, toy_model, toy_data):
    pytest.importorskip("tensorboard")
    fit(toy_model(), *toy_data, replace(SETTINGS, tracker="tensorboard"), folder=tmp_path)
    assert list((tmp_path / "tracker").rglob("events.out.tfevents.*"))


def test_without_one_nothing_is_written(tmp_path, toy_model, toy_data):
    fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    assert not (tmp_path / "tracker").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("tensorbord", "known are .*tensorboard"), ("aim", "pip install aim")]
)
def test_a_tracker_that_is_not_there_is_said(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        tracked(name, tmp_path / "seed0", handler=DistributedDataParallelKwargs())
