"""Normalization is measured on training pictures; what is held out has no say in it."""

import csv

import numpy as np
import pytest
from PIL import Image

from vitrail.data.loader import PictureDataset
from vitrail.pipeline import pixels
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.pixels import intensity_range, mean_and_std
from vitrail.pipeline.plan import plan
from vitrail.pipeline.request import Request
from vitrail.records import Case, Preprocessing
from vitrail.runfolder import RunFolder


def save(folder, pictures):
    cases = []
    for number, values in enumerate(pictures):
        Image.fromarray(values).save(folder / f"{number}.png")
        cases.append(Case(case_id=str(number), path=f"{number}.png", label="ab"[number % 2]))
    return cases


def shown(folder, cases, *, channels=1, size=(16, 16)):
    blank = (0.5,) * channels
    how = Preprocessing(image_size=size, channels=channels, mean=blank, std=blank)
    return PictureDataset(cases, folder, preprocessing=how, classes="ab")


def test_mean_and_standard_deviation_are_those_of_all_pixels(tmp_path):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 200, size=(6, 16, 16, 3), dtype=np.uint8)
    pictures[..., 1] //= 3
    pictures[:3] //= 2  # pictures differ from each other: a mean of their spreads is too small
    mean, std = mean_and_std(shown(tmp_path, save(tmp_path, pictures), channels=3))
    values = pictures.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(std, values.std(axis=0), atol=1e-4)


def test_pictures_without_contrast_are_not_divided_by_nothing(tmp_path):
    cases = save(tmp_path, np.full((2, 16, 16), 128, np.uint8))
    assert mean_and_std(shown(tmp_path, cases)) == ((0.502,), (0.01,))


def test_deep_pictures_tell_what_is_black_and_white_and_others_nothing(tmp_path):
    deep = np.linspace(100, 3000, 1024).reshape(2, 16, 32).astype(np.uint16)
    low, high = intensity_range(save(tmp_path, deep), tmp_path)
    assert 100 <= low < 130
    assert 2600 < high <= 3000
    (tmp_path / "flat").mkdir()
    flat = save(tmp_path / "flat", np.zeros((2, 16, 16), np.uint8))
    assert intensity_range(flat, tmp_path / "flat") is None


def test_of_many_pictures_some_are_measured_all_over_the_list(monkeypatch):
    monkeypatch.setattr(pixels, "MOST", 4)
    assert list(pixels._spread(range(10))) == [0, 3, 6, 9]
    assert list(pixels._spread(range(4))) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_plan_knows_nothing_of_held_out_pixels(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("vitrail.pipeline.plan.seconds_a_step", lambda *_, **__: 0.01)
    generator = np.random.default_rng(0)
    found = []
    for bright in (60, 200):  # of the test pictures alone
        folder = tmp_path / str(bright)
        folder.mkdir()
        (folder / "p").mkdir()
        pictures = np.random.default_rng(1).integers(0, 50, size=(24, 64, 64)).astype(dtype)
        pictures[16:] = generator.integers(50, bright, size=(8, 64, 64))
        rows = [
            (f"p/{case.path}", case.label, ("train", "train", "validation", "test")[place // 6])
            for place, case in enumerate(save(folder / "p", pictures))
        ]
        with (folder / "m.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("path", "label", "split"), *rows])
        run = RunFolder(folder / "run")
        inspect(run, folder, manifest=folder / "m.csv")
        plan(run, Request(budget_minutes=60.0))
        made = read_plan(run.plan)
        found.append((made.mean.value, made.std.value, made.intensity_range.value))
        assert "training pictures alone" in made.mean.reason
    assert found[0] == found[1]
    assert (found[0][2] is None) == (dtype == np.uint8)
