"""The learning rate rises in a line and falls in half a cosine."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.schedule import learning_rate, set_learning_rate

SHARE = st.floats(0, 1)


@given(st.integers(1, 300), SHARE, SHARE)
def test_it_rises_to_its_peak_then_falls_to_its_last_share(steps, warmup, final_share):
    rates = [
        learning_rate(step, steps, peak=2.0, warmup=warmup, final_share=final_share)
        for step in range(steps)
    ]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates[top:]))
    assert max(rates) == pytest.approx(2)
    if steps > 2 and warmup < 0.5:
        assert rates[-1] == pytest.approx(2 * final_share)


def test_each_group_takes_its_share_of_the_rate():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": parameters[:1], "lr_scale": 0.25}, {"params": parameters[1:]}]
    optimizer = torch.optim.SGD(groups, lr=1)
    set_learning_rate(optimizer, 0.8)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.8]
