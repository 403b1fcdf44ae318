"""Removal curves against the pixel-flipping loop of the common toolkits, in one run.

``python benchmarks/faithfulness.py [--pictures N] [--rounds N] [--model NAME] [--fine]``, and
``python benchmarks/faithfulness.py --whole N`` for what the whole bench of ten methods takes, by N
pictures.

The loop is restated as the toolkits have it (Quantus' PixelFlipping, RISE's CausalMetric): the map
enlarged to pixels and sorted there, once an order; each step a fresh numpy copy, one picture and
one forward pass; the untouched picture asked again for each order. Only the steps are fewer than
their default, and equal to ours. Equal answers up to what stands in the place of a patch, same
model, same process. Rounds are taken in turn; the
smallest wall and processor times are kept, a picture. The floor is arithmetic: which share of the
multiplications of the loop is left where tokens are left out and the whole picture is asked once.
The last row makes the linear layers as the bench does: the loop's own stay as PyTorch makes them.
``--model small`` is a transformer as `vitrail train` builds from nothing on two cores (``SMALL``).
"""

import argparse
import time
from collections import defaultdict

import numpy as np
import timm
import torch

from vitrail.explain.intercept import entered
from vitrail.explain.kernels import WideLinear
from vitrail.faithfulness.bench import METHODS, bench
from vitrail.faithfulness.dropping import TokenDropper
from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.removal import TENTHS, removal_curves
from vitrail.faithfulness.suite import BenchSettings
from vitrail.models.zoo import ModelSpec, build

SMALL = ModelSpec(
    architecture="vit", num_classes=10, img_size=(112, 112),
    parameters={"patch_size": 16, "embed_dim": 128, "depth": 4, "num_heads": 4},
)  # fmt: skip


def model_of(name):
    torch.manual_seed(0)
    if name == "small":
        return build(SMALL).eval(), SMALL.img_size
    return timm.create_model(name, num_classes=10).eval(), (224, 224)


def pixel_flipping(model, images, *, maps, targets, steps):
    """Flip pixels as the toolkits do: nothing is shared between steps, orders or pictures."""
    scores = np.zeros((2, len(images), len(steps)))
    patch = images.shape[2] // maps.shape[1]
    for case, (image, values) in enumerate(zip(images.numpy(), maps, strict=True)):
        enlarged = np.kron(values, np.ones((patch, patch))).ravel()
        for side, sign in enumerate((-1, 1)):
            order = np.argsort(sign * enlarged, kind="stable")
            for step, fraction in enumerate(steps):
                flipped = image.copy()
                count = round(fraction * values.size) * patch**2
                flipped.reshape(len(flipped), -1)[:, order[:count]] = 0.0
                with torch.no_grad():
                    logits = model(torch.from_numpy(flipped[None]))
                scores[side, case, step] = logits.softmax(dim=1).numpy()[0, targets[case]]
    return scores


def timed(function):
    wall, own = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - own


def floor(model, steps, *, tokens):
    """Return the loop's multiplications over those that are needed: both curves, all steps."""
    width = model.embed_dim

    def cost(kept):
        return 12 * kept * width**2 + 2 * kept**2 * width

    needed = [cost(1 + tokens - round(tokens * fraction)) for fraction in steps]
    return 2 * len(steps) * cost(1 + tokens) / (2 * sum(needed) - needed[0])


FEW = {"removal, blur", "stability", "randomization"}


def whole(pictures, *, thorough):
    """Time every test of the bench on ten methods, and reckon what 50 pictures take."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=10).eval()
    images = torch.randn(pictures, 3, 224, 224)
    settings = BenchSettings(thorough=thorough)
    spent = defaultdict(lambda: np.zeros(2))
    at = {"test": "forecast and maps", "since": now()}

    def progress(stage, *, note="", **_):
        ended = at["test"] if stage == "faithfulness" else stage
        spent[ended] += now() - at["since"]
        if stage == "faithfulness":
            print(
                f"{ended:22} ended after {(now() - began)[1]:.0f} s of processor time", flush=True
            )
        at.update(since=now(), test=note if stage == "faithfulness" else at["test"])

    began = now()
    bench(
        model, images, targets=np.arange(pictures) % 10, methods=METHODS, settings=settings,
        progress=progress,
    )  # fmt: skip
    progress("faithfulness")
    total = np.zeros(2)
    for test, seconds in spent.items():
        asked, all_asked = (min(n, settings.few if test in FEW else n) for n in (pictures, 50))
        wall, own = seconds / asked
        total += seconds / asked * all_asked
        print(f"{test:22} {wall:8.1f} s wall {own:8.1f} s processor a picture")
    wall, own = (now() - began) / 60
    print(f"{pictures} pictures: {wall:.1f} minutes by the clock, {own:.1f} of processor time")
    wall, own = total / 60
    print(f"50 pictures: {wall:.1f} minutes by the clock, {own:.1f} of processor time")


def now():
    return np.array([time.perf_counter(), time.process_time()])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fine", action="store_true", help="a patch a step instead of ten steps")
    asked = parser.parse_args()
    if asked.whole:
        whole(asked.whole, thorough=asked.thorough)
        return
    model, size = model_of(asked.model)
    images = torch.randn(asked.pictures, 3, *size)
    dropper = TokenDropper(model, images)
    maps = np.random.default_rng(0).random((1, asked.pictures, *dropper.grid_size))
    targets = np.zeros(asked.pictures, dtype=int)
    tokens = maps[0, 0].size
    steps = tuple(np.arange(tokens) / tokens) if asked.fine else TENTHS
    print(f"tokens really left out: {dropper.is_shortened}")
    print(f"floor by multiplications: {floor(model, steps, tokens=tokens):.2f} x")

    def curves(name):
        return removal_curves(
            model, images, maps=maps, targets=targets, fractions=steps,
            hiding=Hiding(imputer=name, black=(0.0, 0.0, 0.0)),
        )  # fmt: skip

    def wide():
        with entered(model, WideLinear()):
            return curves("token_drop")

    candidates = {
        "pixel-flipping loop": lambda: pixel_flipping(
            model, images, maps=maps[0], targets=targets, steps=steps
        ),
        "black": lambda: curves("black"),
        "token_drop": lambda: curves("token_drop"),
        "token_drop, in oneDNN": wide,
    }
    best = dict.fromkeys(candidates, (np.inf, np.inf))
    answers = {}
    for _ in range(asked.rounds):
        for name, function in candidates.items():
            answers[name], *spent = timed(function)
            best[name] = tuple(min(pair) for pair in zip(best[name], spent, strict=True))
    batched = np.stack([answers["black"].most["probability"][0],
                        answers["black"].least["probability"][0]])  # fmt: skip
    print(
        f"largest difference, black: {np.abs(batched - answers['pixel-flipping loop']).max():.1e}"
    )
    loop = best["pixel-flipping loop"]
    for name, spent in best.items():
        ratios = [one / two for one, two in zip(loop, spent, strict=True)]
        print(
            f"{name:22} {1000 * spent[0] / asked.pictures:8.0f} ms wall"
            f" {1000 * spent[1] / asked.pictures:8.0f} ms processor a picture"
            f"   {ratios[0]:.1f} x, {ratios[1]:.1f} x"
        )


if __name__ == "__main__":
    main()
