from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import loader as module
from vitrail.data.augment import apply, preset
from vitrail.data.cohort import read_folder
from vitrail.data.loader import PictureDataset, loader, resize, to_input
from vitrail.data.raster import read_raster
from vitrail.errors import InputError, UnreadableFileError
from vitrail.records import Preprocessing

GREY = Preprocessing(image_size=(24, 32), channels=1, mean=(0.5,), std=(0.25,))


@pytest.fixture
def cohort(folder):
    return read_folder(folder)


def dataset(cohort, **options):
    options = {"preprocessing": GREY, "classes": cohort.classes} | options
    return PictureDataset(cohort.cases, cohort.root, **options)


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (24, 32), (7, 90)])
def test_a_planted_corner_lies_where_source_box_says(fit, size):
    preprocessing = Preprocessing(
        image_size=(48, 64), channels=1, fit=fit, mean=(0.0,), std=(1.0,), interpolation="bilinear"
    )
    height, width = size
    rows, columns = np.linspace(0, height, 5).round().astype(int), np.linspace(0, width, 5)
    columns = columns.round().astype(int)
    picture = np.full((1, height, width), 0.5, dtype=np.float32)
    picture[0, : rows[1], : columns[1]] = 1
    image = to_input(picture, preprocessing)[0].numpy()
    top, left, bottom, right = preprocessing.source_box(height, width)
    inside = image[top:bottom, left:right]
    assert (inside > 0.4).all()
    outside = np.ones_like(image, dtype=bool)
    outside[top:bottom, left:right] = False
    assert (image[outside] == 0).all()
    # Back again: the box stretched to the source's size lights up the planted corner.
    back = Image.fromarray(inside).resize((width, height), Image.Resampling.NEAREST)
    wrong = (np.asarray(back) > 0.75) != (picture[0] > 0.75)
    assert wrong.mean() < 0.06


def test_a_channel_too_many_is_refused():
    with pytest.raises(InputError, match="3 channels"):
        resize(np.zeros((3, 4, 4), dtype=np.float32), GREY)


def test_the_dataset_gives_what_predict_gives(cohort):
    image, label, index = dataset(cohort)[7]
    case = cohort.cases[7]
    expected = to_input(read_raster(cohort.root / case.path, channels=1), GREY)
    assert torch.equal(image, expected)
    assert (label, index) == (cohort.label_index(case), 7)
    assert image.shape == (1, 24, 32)


def test_several_labels_are_a_row_of_zeros_and_ones(cohort):
    marks = ["benign|", "benign|tumor", "|"] * 4
    cases = [replace(case, label=mark) for case, mark in zip(cohort, marks, strict=True)]
    data = PictureDataset(cases, cohort.root, preprocessing=GREY, classes=cohort.classes)
    _, labels, _ = next(iter(loader(data, batch_size=3, shuffle=False)))
    assert data.multi_label
    assert labels.tolist() == [[1, 0], [1, 1], [0, 0]]


def test_augmentation_depends_on_seed_epoch_and_case_alone(cohort):
    one = dataset(cohort, augment=preset("ct"), seed=3)
    two = dataset(cohort, augment=preset("ct"), seed=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(one[5][0], one[5][0])
    two[1], two[2]
    assert torch.equal(one[5][0], two[5][0])
    assert torch.equal(torch.get_rng_state(), state)
    two.set_epoch(1)
    assert not torch.equal(one[5][0], two[5][0])
    assert not torch.equal(one[5][0], dataset(cohort, augment=preset("ct"), seed=4)[5][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_hear_of_a_new_epoch(cohort, workers):
    data = dataset(cohort, augment=preset("ct"))
    batches = loader(data, batch_size=5, shuffle=True, num_workers=workers)
    seen = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        seen.append([torch.cat(part) for part in zip(*batches, strict=True)])
    assert torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(seen[0][2], seen[1][2])
    assert sorted(seen[1][2].tolist()) == list(range(12))
    where = [order.tolist().index(3) for order in (seen[0][2], seen[1][2])]
    assert not torch.equal(seen[0][0][where[0]], seen[1][0][where[1]])


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_the_second_epoch_decodes_nothing(cohort, tmp_path, monkeypatch, memory):
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    first = dataset(cohort, cache_dir=tmp_path / "cache")
    images = [image for image, _, _ in first]

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(module, "read_raster", refuse)
    again = dataset(cohort, cache_dir=tmp_path / "cache")
    for data in (first, again):
        assert all(torch.equal(data[index][0], image) for index, image in enumerate(images))


def test_the_cache_notices_another_content_and_another_preprocessing(cohort, tmp_path, picture):
    cache = tmp_path / "cache"
    before = dataset(cohort, cache_dir=cache)[0][0]
    picture(cohort.root / cohort.cases[0].path, 99)
    assert not torch.equal(dataset(cohort, cache_dir=cache)[0][0], before)
    small = Preprocessing(image_size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))
    assert dataset(cohort, cache_dir=cache, preprocessing=small)[0][0].shape == (1, 8, 8)


def test_a_damaged_cache_file_is_made_again(cohort, tmp_path):
    before = dataset(cohort, cache_dir=tmp_path / "cache")[0][0]
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file():
            file.write_bytes(b"x")
    assert torch.equal(dataset(cohort, cache_dir=tmp_path / "cache")[0][0], before)


def test_a_file_that_went_away_is_named(cohort, tmp_path):
    (cohort.root / cohort.cases[0].path).unlink()
    with pytest.raises(UnreadableFileError, match=r"benign/0\.png"):
        dataset(cohort, cache_dir=tmp_path / "cache")[0]


@pytest.mark.parametrize("kind", ["ct", "histology", "xray", "photo", "none"])
def test_presets_keep_size_and_range_and_tell_why(kind):
    augmentation = preset(kind)
    assert len(augmentation.reason) > 20
    image = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    generator = np.random.default_rng(0)
    changed = [apply(image, augmentation.draw(generator)) for _ in range(5)]
    for result in changed:
        assert result.shape == image.shape
        assert 0 <= result.min() <= result.max() <= 1
    assert all(torch.equal(result, image) for result in changed) == (kind == "none")


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="histology"):
        preset("mri")
