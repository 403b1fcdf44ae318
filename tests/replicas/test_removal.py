"""Removal curves, SaCo and sensitivity-n once more: slowly, literally, in float64."""

import itertools

import numpy as np
import pytest
import timm
import torch

from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.magnitude import saco_scores, sensitivity_n_scores
from vitrail.faithfulness.removal import chefer_areas, removal_curves

GRID, PATCH = (2, 3), 8
TENTHS = [step / 10 for step in range(10)]


@pytest.fixture(scope="module", params=["token", "avg"])
def case(request):
    """Return a random model, two pictures, and maps of two methods."""
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=PATCH, embed_dim=16, depth=2, num_heads=2, num_classes=3,
        global_pool=request.param,
    ).double().eval()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 16, 24).double()
    return model, images, np.random.default_rng(0).normal(size=(2, 2, *GRID))


def without_tokens(model, image, hidden):
    """Run timm's parts one by one on a sequence that is shorter."""
    tokens = model._pos_embed(model.patch_embed(image[None]))
    prefix = model.num_prefix_tokens
    kept = [*range(prefix), *(prefix + patch for patch in range(6) if patch not in hidden)]
    tokens = model.blocks(tokens[:, kept])
    return model.forward_head(model.norm(tokens))[0]


def blackened(model, image, hidden):
    """Set patches to -1 pixel by pixel."""
    changed = image.clone()
    for patch in hidden:
        row, column = divmod(patch, GRID[1])
        for down in range(PATCH):
            for right in range(PATCH):
                changed[:, row * PATCH + down, column * PATCH + right] = -1.0
    return model(changed[None])[0]


def curve(answer, model, image, order, *, target, fractions=TENTHS):
    """Return the target's probability and whether it is the decision, step by step."""
    rows = []
    for fraction in fractions:
        hidden = set(order[: round(fraction * 6)])
        with torch.no_grad():
            logits = answer(model, image, hidden)
        probability = float(logits.exp()[target] / logits.exp().sum())
        rows.append((probability, float(logits[target]), float(logits.argmax() == target)))
    return np.array(rows).T


@pytest.mark.parametrize(("imputer", "answer"), [("token_drop", without_tokens),
                                                 ("black", blackened)])  # fmt: skip
@pytest.mark.parametrize("fractions", [[0, 0.1, 0.3, 0.5, 0.7, 0.9], TENTHS],
                         ids=["removal-2", "removal-1"])  # fmt: skip
def test_curves_equal_hiding_patches_one_by_one(case, imputer, answer, fractions):
    model, images, maps = case
    targets = np.array([2, 0])
    hiding = Hiding(imputer=imputer, black=(-1.0, -1.0, -1.0))
    asked = {} if len(fractions) == 6 else {"fractions": fractions}
    curves = removal_curves(model, images, maps=maps, targets=targets, hiding=hiding, **asked)
    for method, place in itertools.product(range(2), range(2)):
        order = sorted(range(6), key=lambda patch: -maps[method, place].ravel()[patch])
        for found, ranked in ((curves.most, order), (curves.least, order[::-1])):
            expected = curve(
                answer, model, images[place], ranked, target=targets[place], fractions=fractions
            )
            for key, row in zip(("probability", "logit", "accuracy"), expected, strict=True):
                np.testing.assert_allclose(found[key][method, place], row, atol=1e-9)
    area = 0.0
    gap = curves.least["probability"] - curves.most["probability"]
    for step in range(len(fractions) - 1):
        width = fractions[step + 1] - fractions[step]
        area = area + (gap[..., step] + gap[..., step + 1]) / 2 * width / 0.9
    np.testing.assert_allclose(curves.removal_gain(), area, atol=1e-12)


def test_chefers_areas_are_a_hundred_times_the_trapezoid_of_accuracy(case):
    model, images, maps = case
    targets = np.array([2, 0])
    hiding = Hiding(black=(-1.0, -1.0, -1.0))
    areas = chefer_areas(model, images, maps=maps, targets=targets, hiding=hiding)
    order = sorted(range(6), key=lambda patch: -maps[1, 0].ravel()[patch])
    for found, ranked in ((areas.positive, order), (areas.negative, order[::-1])):
        right = curve(blackened, model, images[0], ranked, target=targets[0])[2]
        area = sum((right[step] + right[step + 1]) / 2 * 0.1 for step in range(9))
        assert found[1, 0] == pytest.approx(100 * area)


def test_saco_equals_the_double_loop_over_groups(case):
    model, images, maps = case
    hiding = Hiding(imputer="black", black=(-1.0, -1.0, -1.0))
    found = saco_scores(model, images, maps=maps, targets=np.array([2, 0]), groups=3, hiding=hiding)
    values = maps[0, 0].ravel()
    order = sorted(range(6), key=lambda patch: -values[patch])
    groups = [order[0:2], order[2:4], order[4:6]]

    def probability(hidden):
        with torch.no_grad():
            return float(blackened(model, images[0], hidden).softmax(dim=0)[2])

    lost = [probability([]) - probability(group) for group in groups]
    total = weight = 0.0
    for i in range(3):
        for j in range(i + 1, 3):
            apart = values[groups[i]].sum() - values[groups[j]].sum()
            total += apart if lost[i] > lost[j] else -apart
            weight += abs(apart)
    assert found[0, 0] == pytest.approx(total / weight)


def test_sensitivity_n_of_the_linear_part_is_pearsons_correlation(case):
    """With all sets of one size drawn, the correlation is that of numpy over the same sets."""
    model, images, maps = case
    hiding = Hiding(imputer="black", black=(-1.0, -1.0, -1.0), seed=3)
    found = sensitivity_n_scores(
        model, images, maps=maps, targets=np.array([2, 0]), subsets=5, hiding=hiding
    )
    chance = np.random.default_rng((3, 0, 1)).random((3, 5, 6)).argsort(axis=2)
    with torch.no_grad():
        whole = float(model(images[:1])[0, 2])
        correlations = []
        for size, row in zip((1, 2, 3), chance, strict=True):
            sets = [np.flatnonzero(one < size) for one in row]
            lost = [whole - float(blackened(model, images[0], one)[2]) for one in sets]
            sums = [maps[0, 0].ravel()[one].sum() for one in sets]
            correlations.append(np.corrcoef(sums, lost)[0, 1])
    assert found[0, 0] == pytest.approx(np.mean(correlations))
