import numpy as np
import pytest

from vitrail.errors import InputError
from vitrail.guided.arms import CONTROLS, NO_MAP, choose_arms, control_maps, shuffled

SHAPE = (3, 2, 6, 6)
ARMS = {arm.name: arm for arm in CONTROLS}


def maps_of(name, *, seed=0, names=("a", "b", "c")):
    return control_maps(ARMS[name], SHAPE, tiles=3, names=names, seed=seed)


def test_without_ablation_guided_stands_beside_no_map():
    assert [arm.name for arm in choose_arms("legrad", ablate=False)] == ["guided", "no map"]
    assert choose_arms("legrad", ablate=True)[0].method == "legrad"


def test_no_map_is_zero_everywhere():
    assert not maps_of(NO_MAP.name).any()


def test_a_random_map_belongs_to_its_case_and_seed():
    whole = maps_of("random map")
    part = control_maps(ARMS["random map"], (1, 2, 6, 6), tiles=3, names=["b"], seed=0)
    np.testing.assert_array_equal(part[0], whole[1])
    assert (maps_of("random map", seed=1) != whole).any()
    assert (whole[0] != whole[1]).any()


def test_a_center_map_peaks_in_the_middle_of_each_tile():
    bumps = control_maps(ARMS["center map"], (1, 1, 9, 9), tiles=3, names=["a"], seed=0)[0, 0]
    peaks = np.argwhere(bumps == bumps.max()).tolist()
    assert peaks == [[row, column] for row in (1, 4, 7) for column in (1, 4, 7)]


def test_shuffled_maps_come_from_other_patients():
    maps = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)
    groups = ["p", "p", "q", "q", "r", "s"]
    for seed in range(5):
        taken = shuffled(maps, groups=groups, seed=seed)[:, 0, 0, 0].astype(int)
        assert all(groups[other] != own for other, own in zip(taken, groups, strict=True))


def test_maps_of_one_patient_cannot_be_exchanged():
    with pytest.raises(InputError, match="one patient"):
        shuffled(np.zeros((2, 1, 1, 1), dtype=np.float32), groups=["p", "p"], seed=0)


def test_an_arm_that_needs_a_model_is_no_control():
    with pytest.raises(InputError, match="its maps come from elsewhere"):
        maps_of("true mask")
