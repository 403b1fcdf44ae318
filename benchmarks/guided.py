"""Does the map help? The guided classifier's ablation on generated chests, and how it was set up.

python benchmarks/guided.py tune             the CNN alone, on chests of other seeds
python benchmarks/guided.py study FOLDER     the ablation; the same command goes on after a stop
                                             (a further number is another difficulty)
python benchmarks/guided.py table FOLDER     the study's numbers, as they stand in docs/guided.md
python benchmarks/guided.py cost FOLDER      what map and second-stage input add, on its chests

Chests, models and epochs are small, so that one core is enough. The phantom's difficulty was
chosen with `tune`, on generator seeds that the study does not use, before the study was run.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from vitrail.cli import app
from vitrail.data.augment import preset
from vitrail.data.folds import make_folds
from vitrail.data.manifest import read_manifest
from vitrail.data.stacks import VolumeDataset
from vitrail.data.thorax import chest_volumes
from vitrail.guided.dataset import GuidedDataset, MapScale
from vitrail.guided.maps import explained
from vitrail.models.zoo import CNN_LADDER, SMALL_VIT, ModelSpec, build
from vitrail.records import Preprocessing, VolumeView
from vitrail.runfolder import read_json
from vitrail.training.fit import FitSettings, fit, predict

CASES, STUDY_SEED = 60, 0
TUNING_SEEDS, DIFFICULTIES = (101, 102), (0.15, 0.3)
SHAPE, SPACING_MM, DIFFICULTY = (28, 112, 112), (2.0, 1.6, 1.6), 0.2
VIEW = VolumeView(tile_px=32, window="mediastinum_wide", crop="mask")
SIZE = (VIEW.picture_px, VIEW.picture_px)
PREPROCESSING = Preprocessing(image_size=SIZE, channels=1, mean=(0.4,), std=(0.3,), volume=VIEW)
CNN = ModelSpec(
    architecture=CNN_LADDER[0][0],
    num_classes=2,
    img_size=SIZE,
    in_chans=1,
    parameters=dict(CNN_LADDER[0][1]),
)
VIT = replace(
    CNN,
    architecture="vit",
    parameters={**SMALL_VIT, "patch_size": 8, "embed_dim": 64, "depth": 3},
)
EPOCHS, BASELINE_EPOCHS, BASELINE_RATE, BATCH = 50, 30, 3e-3, 16
PLAN = {
    "image_size": "[96, 96]",
    "volume": "{mode: montage, window: mediastinum_wide, tile_px: 32, crop: mask}",
    "model_parameters": "{patch_size: 8, embed_dim: 64, depth: 3}",
    "epochs": EPOCHS,
    "baseline": CNN_LADDER[0][0],
    "baseline_parameters": "{channels: [16, 32, 64, 128], stem_width: 8}",
    "baseline_epochs": BASELINE_EPOCHS,
    "baseline_learning_rate": BASELINE_RATE,
    "batch_size": BATCH,
}


def draw(folder, *, seed, difficulty):
    """Draw a cohort, unless it is there."""
    if not (folder / "truth.json").exists():
        chest_volumes(
            folder,
            cases=CASES,
            seed=seed,
            shape=SHAPE,
            spacing_mm=SPACING_MM,
            difficulty=difficulty,
        )
    return folder / "manifest.csv"


def parts_of(cohort, split, *, cache):
    """Return the datasets of one fold; training cases are augmented."""
    return {
        part: VolumeDataset(
            [case for case in cohort if split[case.case_id] == part],
            cohort.root,
            preprocessing=PREPROCESSING,
            classes=cohort.classes,
            augment=preset("ct") if part == "train" else None,
            cache_dir=cache,
        )
        for part in ("train", "validation", "test")
    }


def folds_of(manifest):
    """Return the cohort, and the part of each case in each of five folds."""
    cohort = read_manifest(manifest)
    groups = {case.case_id: case.patient_id for case in cohort}
    return cohort, make_folds(cohort, groups=groups, folds=5, seed=0)


def train(spec, parts, *, epochs, rate):
    """Train a model and return it."""
    model = build(spec, seed=0)
    settings = FitSettings(epochs=epochs, batch_size=BATCH, learning_rate=rate)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, parts["train"], parts["validation"], settings, folder=Path(folder))
    return model


def alone(manifest):
    """Cross-validate the CNN alone, and return the ROC AUC over all cases."""
    truth, scores = [], []
    cohort, folds = folds_of(manifest)
    for split in folds:
        parts = parts_of(cohort, split, cache=manifest.parent / "cache")
        model = train(CNN, parts, epochs=BASELINE_EPOCHS, rate=BASELINE_RATE)
        votes = [predict(model, shown)[:, 1] for shown in parts["test"].votes()]
        scores.extend(np.mean(votes, axis=0))
        truth.extend(parts["test"].labels)
    return roc_auc_score(truth, scores)


def tune():
    """Measure the CNN alone at each difficulty, on every tuning seed."""
    for difficulty in DIFFICULTIES:
        for seed in TUNING_SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                found = alone(draw(Path(folder), seed=seed, difficulty=difficulty))
            print(f"difficulty {difficulty}, seed {seed}: ROC AUC of the CNN alone {found:.3f}")


def study(folder, difficulty=DIFFICULTY):
    """Draw the chests, train the run and then every arm, through the command line."""
    manifest = draw(folder / "cohort", seed=STUDY_SEED, difficulty=float(difficulty))
    run = str(folder / "run")
    given = [f"--set={name}={value}" for name, value in PLAN.items()]
    for command in (
        ["inspect", str(manifest.parent), "--manifest", str(manifest), "--out", run],
        ["plan", run, "--folds", "5", "--budget", "600m", *given],
        ["train", run],
        ["evaluate", run],
        ["guided", run, "--ablate", "--classifier", "plan", "--seeds", "3", "--end-to-end"],
    ):
        app(command, standalone_mode=False)


def table(folder):
    """Print the study's arms, and guided's difference from each."""
    content = read_json(folder / "run" / "guided" / "evaluation.json")
    against = {}
    for pair in content["comparisons"]:
        if pair["metric"] == "roc_auc_score" and "guided" in (pair["a"], pair["b"]):
            sign = 1 if pair["a"] == "guided" else -1
            ends = sorted(sign * pair[name] for name in ("low", "high"))
            other = pair["b"] if sign == 1 else pair["a"]
            against[other] = f"{sign * pair['difference']:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    print("| arm | ROC AUC (95 % interval) | guided minus it |\n|---|---|---|")
    for name, metrics in content["sets"]["test"].items():
        one = metrics["roc_auc_score"]
        span = f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        print(f"| {name} | {span} | {against.get(name, '')} |")
    told = read_json(folder / "run" / "guided" / "study.json")
    print(told["evidence"], told["seconds"], sep="\n")


def cost(folder):
    """Time both models alone, then with the map between them, in processor seconds."""
    cohort, (split, *_) = folds_of(folder / "cohort" / "manifest.csv")
    parts = parts_of(cohort, split, cache=folder / "run" / "cache")
    for cases in parts.values():
        for index in range(len(cases)):
            cases.stack(index)
    started = time.process_time()
    vit = train(VIT, parts, epochs=EPOCHS, rate=1e-3)
    first_s = time.process_time() - started
    started = time.process_time()
    train(CNN, parts, epochs=BASELINE_EPOCHS, rate=BASELINE_RATE)
    second_s = time.process_time() - started
    started = time.process_time()
    windows = {part: cases.votes() for part, cases in parts.items()}
    with tempfile.TemporaryDirectory() as kept:
        maps = {
            part: explained(vit, shown, method="rollout", cache=Path(kept))
            for part, shown in windows.items()
        }
    maps_s = time.process_time() - started
    scale = MapScale.learn(maps["train"])
    guided = {
        part: GuidedDataset(
            shown,
            maps[part],
            scale=scale,
            augment=preset("ct") if part == "train" else None,
        )
        for part, shown in windows.items()
    }
    started = time.process_time()
    train(replace(CNN, in_chans=2), guided, epochs=BASELINE_EPOCHS, rate=BASELINE_RATE)
    guided_s = time.process_time() - started
    added = (maps_s + guided_s - second_s) / (first_s + second_s)
    print(
        f"alone: ViT {first_s:.1f} s, CNN {second_s:.1f} s; maps {maps_s:.1f} s, CNN on picture "
        f"and map {guided_s:.1f} s (processor): {added:+.1%} over training the two models alone"
    )


if __name__ == "__main__":
    what, *where = sys.argv[1:]
    if what == "tune":
        tune()
    else:
        folder, *further = where
        {"study": study, "table": table, "cost": cost}[what](Path(folder), *further)
