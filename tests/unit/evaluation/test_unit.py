"""Images roll up to patients as the chosen rule says."""

import numpy as np
import pytest

from vitrail.errors import DataError
from vitrail.evaluation.unit import RollUp, cluster_of, has_mixed_labels, to_patients
from vitrail.records import Predictions

CLUSTERS = {"a": "p", "b": "p", "c": "p", "d": "q"}
POSITIVE = np.array([0.2, 0.6, 0.7, 0.4])


def predictions(probabilities, y_true=(1, 1, 1, 0)):
    names = ("clear", "nodule", "cyst")[: probabilities.shape[1]]
    return Predictions("vit", 0, 0, "test", names, tuple("abcd"), np.array(y_true), probabilities)


@pytest.mark.parametrize(
    ("roll_up", "expected"),
    [
        (RollUp(), 0.5),
        (RollUp(how="max"), 0.7),
        (RollUp(how="top_k", k=2), 0.65),
        (RollUp(how="top_k", k=9), 0.5),
        (RollUp(how="vote"), 2 / 3),
    ],
)
def test_a_patients_probability_follows_the_rule(roll_up, expected):
    said = predictions(np.stack([1 - POSITIVE, POSITIVE], axis=1))
    found = to_patients(said, CLUSTERS, roll_up=roll_up, positive=1)
    assert found.case_ids == ("p", "q")
    assert found.y_true.tolist() == [1, 0]
    assert found.probabilities[0, 1] == pytest.approx(expected)
    np.testing.assert_allclose(found.probabilities.sum(1), 1.0)
    assert "over a patient's images" in str(roll_up)


def test_the_maximum_over_more_than_two_classes_is_scaled_to_sum_to_one():
    said = predictions(
        np.array([[0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8], [0.2, 0.4, 0.4]])
    )
    found = to_patients(said, CLUSTERS, roll_up=RollUp(how="max"), positive=None)
    np.testing.assert_allclose(found.probabilities[0], np.array([0.8, 0.4, 0.8]) / 2.0)


def test_a_patient_with_images_of_two_classes_is_noticed():
    even = np.full((4, 2), 0.5)
    assert not has_mixed_labels(predictions(even), CLUSTERS)
    assert has_mixed_labels(predictions(even, y_true=(1, 0, 1, 0)), CLUSTERS)


def test_a_case_outside_the_split_is_named():
    with pytest.raises(DataError, match="the case 'z'; predictions are for the cases of the split"):
        cluster_of("z", CLUSTERS)
