"""What the loop reads off a dataset: who or what its cases come from."""

import json

import torch
from torch.utils.data import TensorDataset

from vitrail.records import Case
from vitrail.training.fit import FitSettings, fit
from vitrail.training.subject import clusters_of


class Pictures(TensorDataset):
    """Cases with their patients."""

    def __init__(self, data, cases):
        super().__init__(*data.tensors)
        self.cases = cases


def test_a_case_comes_from_its_patient_else_its_group_else_itself():
    shown = Pictures(
        TensorDataset(torch.zeros(3)),
        [
            Case(case_id="a", path="a", label="x", patient_id="1", group="1"),
            Case(case_id="1", path="1", label="x", group="1"),
            Case(case_id="1", path="2", label="x"),
        ],
    )
    assert clusters_of(shown) == ["patient 1", "group 1", "case 1"]
    assert clusters_of(TensorDataset(torch.zeros(2))) == ["0", "1"]


def test_the_error_of_an_epoch_is_over_patients(tmp_path, toy_model, toy_data):
    train, validation = toy_data
    errors = {}
    for slices in (1, 6):
        cases = [
            Case(
                case_id=str(place),
                path="x",
                label="x",
                patient_id=f"{place % 2} {place // 2 // slices}",
            )
            for place in range(len(validation))
        ]
        settings = FitSettings(epochs=1, batch_size=8, learning_rate=0.0)
        folder = tmp_path / str(slices)
        fit(toy_model(), train, Pictures(validation, cases), settings, folder=folder)
        (row,) = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
        errors[slices] = row["standard_error"]
    assert errors[1] != errors[6]
    assert errors[1] > 0
