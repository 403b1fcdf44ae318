"""How sure the demo's number is: fresh phantoms, several training seeds.

    python benchmarks/demo.py --out /tmp/demo --phantoms 0 1 2 --seeds 0 1 2

Prints one line a training: test ROC AUC of the demo's transformer, and the best trivial feature.
"""

import argparse
from pathlib import Path

from sklearn.metrics import roc_auc_score

from vitrail.data.audit import audit
from vitrail.data.augment import preset
from vitrail.data.loader import PictureDataset
from vitrail.data.manifest import read_manifest
from vitrail.data.phantom import chest_slices
from vitrail.data.split import clusters, make_split
from vitrail.models.zoo import SMALL_VIT, ModelSpec, build
from vitrail.pipeline.demo import FULL
from vitrail.records import Preprocessing
from vitrail.training.fit import FitSettings, fit, predict


def main() -> None:
    """Draw, train and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phantoms", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    size = (FULL.image_size, FULL.image_size)
    for phantom in asked.phantoms:
        folder = asked.out / f"phantom{phantom}"
        if not (folder / "manifest.csv").exists():
            chest_slices(
                folder,
                cases=FULL.cases,
                seed=phantom,
                image_size=FULL.image_size,
                slices_a_patient=2,
            )
        cohort = read_manifest(folder / "manifest.csv")
        best = audit(cohort).shortcuts[0]
        print(
            f"phantom {phantom}: best shortcut {best.feature} {best.roc_auc_score:.3f} "
            f"({best.low:.3f} to {best.high:.3f})",
            flush=True,
        )
        split = make_split(cohort, groups=clusters(cohort, []), seed=0)
        preprocessing = Preprocessing(image_size=size, channels=1, mean=(0.35,), std=(0.28,))
        for seed in asked.seeds:
            parts = {
                part: PictureDataset(
                    [case for case in cohort if split[case.case_id] == part],
                    cohort.root,
                    preprocessing=preprocessing,
                    classes=cohort.classes,
                    augment=preset("ct") if part == "train" else None,
                    seed=seed,
                )
                for part in ("train", "validation", "test")
            }
            spec = ModelSpec(
                architecture="vit",
                num_classes=2,
                img_size=size,
                in_chans=1,
                parameters={**SMALL_VIT, "patch_size": 8, **FULL.model_parameters},
            )
            model = build(spec, seed=seed)
            settings = FitSettings(epochs=FULL.epochs, batch_size=FULL.batch_size, seed=seed)
            result = fit(
                model,
                parts["train"],
                validation=parts["validation"],
                settings=settings,
                folder=asked.out / f"phantom{phantom}-seed{seed}",
            )
            probabilities = predict(model, parts["test"], batch_size=64)
            score = roc_auc_score(parts["test"].labels, probabilities[:, 1])
            print(
                f"phantom {phantom} seed {seed}: test ROC AUC {score:.4f} "
                f"(best epoch {result.best_epoch}, {result.seconds:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
