"""Where propagated relevance gets lost: one method ended at the pixels and at the tokens.

``python benchmarks/lrp_stem.py RUN [--cases N]``. ``cp_lrp`` ends at the pixels; libra's variant
``input_x_gradient`` is the same rules ended at the tokens that the first block gets. For both: the
sum of the map (beside the logit it explains), the rank correlation between the two, and the removal
gain with half of its 95 % interval. Test cases, drawn as ``vitrail bench`` draws them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from vitrail.data.cohort import load_cohort
from vitrail.explain import explain
from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.removal import removal_curves
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.train import dataset
from vitrail.runfolder import RunFolder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--cases", type=int, default=64)
    asked = parser.parse_args()
    run = RunFolder(asked.run)
    plan, cohort = read_plan(run.plan), load_cohort(run.cohort)
    fold = crossvalidation.read(run, cohort, plan=plan).each[0]
    tested = dataset(cohort, fold, plan=plan, part="test", cache=run.cache)
    model = bundle.load(run.model("vit", seed=plan.seed.value)).model
    drawn = np.random.default_rng(0).permutation(len(tested))[: asked.cases]
    images = torch.stack([tested[place][0] for place in drawn.tolist()])
    with torch.no_grad():
        best, targets = model(images).max(dim=1)
    ways = {
        "pixels": explain(model, images, method="cp_lrp"),
        "tokens": explain(model, images, method="libra", variant="input_x_gradient"),
    }
    maps = np.stack([way.values.double().numpy() for way in ways.values()])
    print(f"{len(images)} pictures; mean logit {best.mean():.2f}")
    for name, of_way in zip(ways, maps, strict=True):
        print(f"{name}: mean sum of the map {of_way.sum(axis=(1, 2)).mean():.2f}")
    pairs = zip(*maps.reshape(2, len(images), -1), strict=True)
    print(f"rank correlation {np.mean([spearmanr(*pair)[0] for pair in pairs]):.3f}")
    for imputer in ("token_drop", "blur", "mean"):
        curves = removal_curves(
            model, images, maps=maps, targets=targets.numpy(), hiding=Hiding(imputer=imputer)
        )
        for name, gains in zip(ways, curves.removal_gain(), strict=True):
            half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
            print(f"{imputer:10} {name}: gain {gains.mean():+.3f} ± {half:.3f}")


if __name__ == "__main__":
    main()
