"""The file of MedMNIST's Evaluator: its rows, its columns, and the scores in its name."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from vitrail.errors import InputError
from vitrail.evaluation.medmnist import write_medmnist
from vitrail.records import Predictions


def predictions(classes, *, cases=30):
    """Simulate a test set whose names sort otherwise than their numbers."""
    generator = np.random.default_rng(len(classes))
    places = np.array(sorted(range(cases), key=str))
    truth = places % len(classes)
    scores = generator.random((cases, len(classes))) + 0.6 * np.eye(len(classes))[truth]
    names = tuple(f"test/{place}" for place in places)
    probabilities = scores / scores.sum(1, keepdims=True)
    return Predictions("vit", 1, 0, "test", tuple(classes), names, truth, probabilities)


def test_a_row_is_the_place_in_the_set_and_a_column_the_number_of_the_class(tmp_path):
    classes = tuple(sorted(map(str, range(11))))  # 0, 1, 10, 2, …
    block = predictions(classes)
    path = write_medmnist(tmp_path, block, flag="organamnist_64")
    table = np.loadtxt(path, delimiter=",")
    np.testing.assert_array_equal(table[:, 0], np.arange(30))
    row = block.case_ids.index("test/7")
    for number in range(11):
        column = classes.index(str(number))
        assert table[7, 1 + number] == pytest.approx(block.probabilities[row, column], rel=1e-8)


@pytest.mark.parametrize("count", [2, 3])
def test_the_name_holds_the_evaluators_scores(tmp_path, count):
    block = predictions(tuple(map(str, range(count))))
    path = write_medmnist(tmp_path, block, flag="breastmnist")
    score = block.probabilities[:, 1] if count == 2 else block.probabilities
    area = roc_auc_score(block.y_true, score, multi_class="ovr")
    right = accuracy_score(block.y_true, block.probabilities.argmax(1))
    assert path.name == f"breastmnist_test_[AUC]{area:.3f}_[ACC]{right:.3f}@vit-seed1-fold0.csv"


def test_several_labels_are_scored_label_by_label(tmp_path):
    block = predictions(tuple("012"))
    block = replace(block, y_true=np.random.default_rng(0).random((30, 3)) < 0.5)
    path = write_medmnist(tmp_path, block, flag="chestmnist")
    area = np.mean([roc_auc_score(block.y_true[:, k], block.probabilities[:, k]) for k in range(3)])
    assert f"[AUC]{area:.3f}" in path.name
    undecided = replace(block, probabilities=np.full((30, 3), 0.5))
    path = write_medmnist(tmp_path, undecided, flag="chestmnist")
    assert f"[ACC]{(~block.y_true).mean():.3f}" in path.name  # the Evaluator asks for more than .5


def test_what_is_not_numbered_or_no_flag_is_refused_by_name(tmp_path):
    block = predictions(("clear", "nodule"))
    with pytest.raises(InputError, match=r"classes: 'clear'; each has its own number"):
        write_medmnist(tmp_path, block, flag="breastmnist")
    with pytest.raises(InputError, match="write pathmnist"):
        write_medmnist(tmp_path, block, flag="../mnist")
