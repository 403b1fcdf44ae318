"""The learning rate of each step: a linear rise, then half a cosine down."""

from math import ceil, cos, pi

from torch.optim import Optimizer


def learning_rate(
    step: int, steps: int, *, peak: float, warmup: float, final_share: float
) -> float:
    """Return the learning rate of one step.

    Args:
        step: From 0.
        steps: Of the whole training.
        peak: Largest value, reached at the end of the warm-up.
        warmup: Share of ``steps`` in which it rises linearly.
        final_share: Share of ``peak`` at the last step.

    Returns:
        A value in (0, peak].

    Source:
        loshchilov2017, equation 5, one period; the warm-up is that of goyal2017.

    Example:
        >>> steps = range(5)
        >>> rates = [learning_rate(s, 5, peak=1.0, warmup=0.4, final_share=0.0) for s in steps]
        >>> [round(rate, 2) for rate in rates]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = ceil(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    passed = (step - rising) / max(1, steps - 1 - rising)
    floor = peak * final_share
    return floor + (peak - floor) * (1 + cos(pi * min(1.0, passed))) / 2


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group its share of the rate (``lr_scale``, of layer-wise decay)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
