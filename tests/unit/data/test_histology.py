import json

import numpy as np
import pytest

from vitrail.data.histology import TISSUES, tissue_tiles
from vitrail.data.manifest import read_manifest
from vitrail.data.raster import read_stored
from vitrail.errors import InputError


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    tissue_tiles(folder, counts=(3, 1, 1), slides=4, seed=7, image_size=96)
    return folder


def test_the_form_is_that_of_the_course(tiles):
    cohort = read_manifest(tiles / "manifest.csv")
    assert cohort.classes == tuple(TISSUES)
    assert [case.split for case in cohort].count("train") == 18
    assert all(case.site in case.path for case in cohort)
    assert read_stored(tiles / cohort.cases[0].path).shape == (3, 96, 96)


def test_the_truth_stands_beside_the_tiles(tiles):
    truth = json.loads((tiles / "truth.json").read_text())
    assert truth["parameters"]["seed"] == 7
    assert len(truth["slides"]) == 4
    nuclei = {name: [] for name in TISSUES}
    for tile in truth["tiles"].values():
        nuclei[tile["tissue"]].append(tile["nuclei"])
    mean = {name: np.mean(counts) for name, counts in nuclei.items()}
    assert mean["lymphocytes"] > mean["tumor"] > mean["stroma"] > mean["adipose"] > mean["debris"]


def test_tissues_look_as_their_names_say(tiles):
    brightness = {
        name: np.mean([read_stored(path).mean() for path in (tiles / name).glob("*.png")])
        for name in TISSUES
    }
    assert max(brightness, key=brightness.__getitem__) == "adipose"
    assert min(brightness, key=brightness.__getitem__) in ("lymphocytes", "tumor", "stroma")


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_tiles(tiles, tmp_path):
    tissue_tiles(tmp_path, counts=(1, 1, 1), slides=4, seed=7, image_size=96)
    for path in tmp_path.glob("*/*.png"):
        assert (tiles / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()
    tissue_tiles(tmp_path / "other", counts=(1, 1, 1), slides=4, seed=8, image_size=96)
    first = next((tmp_path / "tumor").glob("*_0000.png")).read_bytes()
    assert next((tmp_path / "other" / "tumor").glob("*_0000.png")).read_bytes() != first


def test_numbers_that_make_no_set_are_refused(tmp_path):
    with pytest.raises(InputError, match="slides: 1; it is at least 2"):
        tissue_tiles(tmp_path, slides=1)
