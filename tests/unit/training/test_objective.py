"""The loss is PyTorch's own; mixing keeps pixels and targets in step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from vitrail.training.objective import loss_per_case, mix, soft_targets

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_cross_entropy_with_label_smoothing(smoothing):
    targets = soft_targets(LABELS, 3, smoothing=smoothing)
    ours = loss_per_case(LOGITS, targets, multi_label=False)
    expected = cross_entropy(LOGITS, LABELS, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, expected)


def test_several_labels_have_a_binary_cross_entropy_each():
    rows = torch.eye(3)[LABELS] + torch.eye(3)[LABELS.flip(0)] > 0
    ours = loss_per_case(LOGITS, soft_targets(rows, 3, smoothing=0.0), multi_label=True)
    torch.testing.assert_close(ours.mean(), binary_cross_entropy_with_logits(LOGITS, rows.float()))


@given(st.floats(0, 4), st.floats(0, 4), st.integers(0, 2**40))
def test_mixed_targets_tell_the_true_share_of_each_picture(mixup, cutmix, seed):
    images = torch.eye(4).view(4, 4, 1, 1).expand(4, 4, 10, 14)
    mixed, targets = mix(images, torch.eye(4), mixup=mixup, cutmix=cutmix, seed=seed)
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), targets)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    again = mix(images, torch.eye(4), mixup=mixup, cutmix=cutmix, seed=seed)
    assert torch.equal(mixed, again[0])


def test_without_mixing_nothing_is_changed():
    images = torch.randn(2, 1, 4, 4)
    assert mix(images, torch.eye(2), mixup=0.0, cutmix=0.0, seed=0)[0] is images
