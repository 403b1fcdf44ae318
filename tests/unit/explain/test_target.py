"""One number an image is chosen from a model's output."""

from types import SimpleNamespace

import pytest
import torch

from vitrail.errors import InputError
from vitrail.explain.target import Selection, logits_of

LOGITS = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])


@pytest.mark.parametrize("output", [LOGITS, SimpleNamespace(logits=LOGITS), {"logits": LOGITS}])
def test_logits_are_found_in_every_kind_of_output(output):
    torch.testing.assert_close(logits_of(output), LOGITS)


@pytest.mark.parametrize("output", [torch.zeros(3), LOGITS.long(), "logits", {}, (LOGITS, LOGITS)])
def test_what_holds_no_logits_is_refused(output):
    with pytest.raises(InputError, match=r"a class target needs logits \[batch, class\]"):
        logits_of(output)


@pytest.mark.parametrize(
    ("target", "versus", "scores"),
    [
        ("predicted", None, [[5, 7]]),
        ("all", None, [[1, 7], [5, 0], [2, 3]]),
        (2, None, [[2, 3]]),
        ([2, 0], None, [[2, 7]]),
        (2, 0, [[1, -4]]),
        (lambda output: output.sum(1), None, [[8, 10]]),
    ],
)
def test_scores_are_those_of_the_target(target, versus, scores):
    assert Selection(target, versus).scores(LOGITS).tolist() == scores


def test_the_predicted_class_is_settled_by_the_first_output():
    selection = Selection()
    selection.scores(LOGITS)
    assert selection.scores(-LOGITS).tolist() == [[-5, -7]]


def test_a_part_keeps_the_classes_of_its_images():
    assert Selection([0, 1, 2, 1]).part(1, 3).target == [1, 2]
    assert Selection("all", 1).part(0, 2).target == "all"
