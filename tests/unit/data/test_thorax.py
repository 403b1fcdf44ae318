import hashlib

import numpy as np
import pytest

from vitrail.data.scan import read_scan
from vitrail.data.thorax import chest_volumes, draw_chest
from vitrail.errors import InputError
from vitrail.runfolder import read_json

SMALL = {"shape": (16, 48, 48), "spacing_mm": (3.0, 4.0, 4.0)}


def test_the_series_on_disk_are_the_truth(tmp_path):
    chest_volumes(tmp_path, cases=4, seed=5, **SMALL)
    truth = read_json(tmp_path / "truth.json")["chests"]
    assert sorted(chest["phenotype"] for chest in truth) == ["smooth"] * 2 + ["spiculated"] * 2
    for chest in truth:
        scan = read_scan(tmp_path / "series" / chest["patient_id"])
        mask = read_scan(tmp_path / "masks" / f"{chest['patient_id']}.nii.gz")
        np.testing.assert_allclose(scan.spacing_mm, chest["spacing_mm"], rtol=1e-5)
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-3)
        center = scan.to_mm(np.array([chest["center_index"]]))[0]
        np.testing.assert_allclose(center, chest["center_mm"], atol=1e-3)
        middle = np.argwhere(mask.values > 0).mean(axis=0)
        np.testing.assert_allclose(middle, chest["center_index"], atol=0.6)
        assert scan.values[tuple(np.rint(chest["center_index"]).astype(int))] > -300
        assert scan.values[0, 0, 0] < -700


def test_the_same_seed_writes_the_same_bytes_and_another_other_ones(tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        chest_volumes(tmp_path / name, cases=2, seed=seed, **SMALL)
        digest = hashlib.sha256()
        for path in sorted((tmp_path / name / "series").rglob("*")):
            if path.is_file():
                digest.update(path.name.encode() + path.read_bytes())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("difficulty", [0.0, 0.9])
def test_phenotypes_differ_in_shape_where_it_is_easy_and_never_in_mean_density(difficulty):
    shares, means = {}, {}
    for phenotype in ("smooth", "spiculated"):
        shell, inside = [], []
        for seed in range(6):
            volume, _, chest = draw_chest(
                "P",
                phenotype=phenotype,
                seed=[seed],
                difficulty=difficulty,
                spacing_mm=(2.0, 2.0, 2.0),
            )
            index = np.argwhere(np.ones(volume.values.shape)) * 2.0
            far = np.linalg.norm(index - 2 * np.array(chest.center_index), axis=1)
            far = far.reshape(volume.values.shape) / chest.radius_mm
            shell.append((volume.values[(far > 1.3) & (far < 1.7)] > -300).mean())
            inside.append(volume.values[far < 0.8].mean())
        shares[phenotype], means[phenotype] = np.mean(shell), np.mean(inside)
    more = shares["spiculated"] - shares["smooth"]
    assert more > 0.05 if difficulty == 0 else more < 0.02
    assert abs(means["smooth"] - means["spiculated"]) < 25


def test_a_difficulty_beyond_its_range_is_refused(tmp_path):
    with pytest.raises(InputError, match="within 0 and 1"):
        chest_volumes(tmp_path, cases=2, seed=0, difficulty=2.0)
