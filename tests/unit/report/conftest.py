"""Run folders written by hand in the shapes that the other rooms write: no model, no torch."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from vitrail.runfolder import RunFolder, write_csv, write_json, write_text

CLASSES = ("clear", "nodule")
ESTIMATE = {"n": 40, "method": "bootstrap over patients, percentile, 2000"}
PREPROCESSING = {
    "image_size": [64, 64],
    "channels": 1,
    "fit": "pad",
    "mean": [0.5],
    "std": [0.25],
    "interpolation": "bicubic",
    "fill": 0.0,
    "intensity_range": None,
}


def write_run(
    root, *, classes=CLASSES, models=("vit", "cnn"), seeds=(0,), cases=60, noise=7, methods=()
):
    """Write a whole run folder of random pictures; returns its paths."""
    rng = np.random.default_rng(noise)
    run = RunFolder(root)
    rows = _cases(run, rng, classes, cases)
    _stages(run, classes, rows)
    for model in models:
        for seed in seeds:
            _training(run, rng, model, seed, classes)
    test = [row for row in rows if row["split"] == "test"]
    _predictions(run, rng, classes, models, seeds, test)
    _evaluation(run, classes, models)
    for row in test:
        _explanation(run, rng, row)
        for method in methods:
            _explanation(run, rng, row, method=method)
    if methods:
        _bench(run, ("rollout", *methods), test)
    (run.explanations / "attention").mkdir()
    for row in test[:4]:
        _close_up(run, rng, row["case_id"], classes)
    rest = [row["case_id"] for row in rows if row["split"] == "train"]
    near = [{"case_id": name, "distance": 0.1 * place} for place, name in enumerate(rest[:2], 1)]
    write_json(
        run.explanations / "similar.json",
        {
            "among": f"{len(rest)} of {len(rest)} training cases",
            "cases": {row["case_id"]: near for row in test},
        },
    )
    return run


def _cases(run, rng, classes, cases):
    run.pictures.mkdir(parents=True)
    rows = []
    for place in range(cases):
        label = classes[place % len(classes)]
        split = ("train", "train", "train", "validation", "test", "test")[place // len(classes) % 6]
        case_id = f"{label}/slice {place:03d}"
        rows.append(
            {
                "case_id": case_id,
                "path": f"{case_id}.png",
                "label": label,
                "patient_id": f"p{place // 2}",
                "split": split,
            }
        )
        _picture(run, rng, case_id, nodule=label == classes[-1])
    write_csv(run.cohort, [{**row, "split": ""} for row in rows], header=list(rows[0]))
    write_csv(
        run.split,
        [{"case_id": row["case_id"], "split": row["split"]} for row in rows],
        header=["case_id", "split"],
    )
    return rows


def _picture(run, rng, case_id, *, nodule):
    height, width = 96, 128
    y, x = np.mgrid[:height, :width]
    body = np.hypot((y - 48) / 44, (x - 64) / 60) < 1
    lungs = (np.hypot((y - 48) / 30, (x - 40) / 18) < 1) | (
        np.hypot((y - 48) / 30, (x - 88) / 18) < 1
    )
    picture = 150.0 * body - 110 * lungs + rng.normal(0, 9, (height, width))
    if nodule:
        spot = np.hypot(y - 40, x - 88) < 7
        picture += 120 * spot
        mask = Image.fromarray((spot * 255).astype(np.uint8))
        path = run.picture(case_id)
        mask.save(path.with_name(path.name.removesuffix(".png") + ".mask.png"))
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(run.picture(case_id))


def _stages(run, classes, rows):
    write_json(
        run.audit,
        {
            "cases": len(rows) + 1,
            "classes": {name: sum(row["label"] == name for row in rows) for name in classes},
            "unreadable": [{"case_id": "clear/broken", "reason": "image file is truncated"}],
            "duplicates": [
                {"first": rows[0]["case_id"], "second": rows[1]["case_id"], "kind": "near"}
            ],
            "leaks": [],
            "shortcuts": [
                {
                    "feature": "file_bytes",
                    "roc_auc_score": 0.58,
                    "low": 0.44,
                    "high": 0.71,
                    "finding": "file bytes alone: no better than guessing",
                },
                {
                    "feature": "mean intensity",
                    "roc_auc_score": 0.66,
                    "low": 0.52,
                    "high": 0.79,
                    "finding": "mean intensity alone tells something",
                },
            ],
        },
    )
    plan = {
        "data": {"value": "f" * 64, "reason": ""},
        "image_size": {"value": [64, 64], "reason": "the pictures are 96 x 128 px"},
        "batch_size": {"value": 16, "reason": "fits 2 cores"},
        "weights": {"value": None, "reason": "no local weights"},
        "class_weights": {"value": dict.fromkeys(classes, 1.0), "reason": "balanced"},
        "accept_leakage": {"value": "", "reason": ""},
        "expected_minutes": {"value": {"train": 2.5, "explain": 0.2}, "reason": "timed"},
    }
    write_text(run.plan, yaml.safe_dump(plan, sort_keys=False))
    write_json(
        run.environment,
        {
            "vitrail": "0.1.0",
            "command": "vitrail run tiles --out run1",
            "python": "3.11",
            "packages": {"torch": "2.15", "timm": "1.0.31"},
            "machine": {"cores": 2, "gpu": None},
            "stages": {
                "train": {"seconds": 131.0},
                "explain": {"seconds": 9.0},
                "report": {"seconds": 1.0},
            },
        },
    )


def _training(run, rng, model, seed, classes):
    folder = run.model(model, seed=seed)
    epochs = np.arange(1, 13)
    noise = rng.normal(0, 0.02, (2, 12))
    lines = [
        {
            "epoch": int(epoch),
            "train_loss": 0.7 * 0.8**epoch + abs(noise[0, place]),
            "validation_loss": 0.7 * 0.85**epoch + 0.1 + abs(noise[1, place]),
            "roc_auc_score": min(1.0, 0.55 + 0.035 * epoch + noise[1, place]),
            "learning_rate": 1e-3,
            "seconds": 3.0,
        }
        for place, epoch in enumerate(epochs)
    ]
    write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_json(
        folder / "model.json",
        {
            "classes": list(classes),
            "preprocessing": PREPROCESSING,
            "extra": {"training": {"best_epoch": 9}},
        },
    )
    (folder / "model.safetensors").write_bytes(f"{model}{seed}".encode())


def _predictions(run, rng, classes, models, seeds, test):
    rows = []
    for model in models:
        for seed in seeds:
            for row in test:
                scores = rng.normal(0, 1, len(classes))
                scores[classes.index(row["label"])] += 1.6
                shares = np.exp(scores) / np.exp(scores).sum()
                rows.append(
                    {
                        "model": model,
                        "seed": seed,
                        "fold": 0,
                        "case_id": row["case_id"],
                        "split": "test",
                        "y_true": row["label"],
                        **{
                            f"prob_{name}": share
                            for name, share in zip(classes, shares, strict=True)
                        },
                    }
                )
    write_csv(run.predictions, rows, header=list(rows[0]))


def _evaluation(run, classes, models):
    def metrics(shift):
        values = {
            "roc_auc_score": 0.91,
            "accuracy": 0.84,
            "sensitivity": 0.87,
            "specificity": 0.8,
            "brier_score_loss": 0.123456,
        }
        return {
            name: {
                "value": value - shift,
                "low": value - shift - 0.06,
                "high": min(1.0, value - shift + 0.05),
                **ESTIMATE,
            }
            for name, value in values.items()
        } | {"matthews_corrcoef": {"value": None, "low": None, "high": None, **ESTIMATE}}

    grid = np.linspace(0, 1, 21)
    shown = classes[-1:] if len(classes) == 2 else classes
    curves = {
        model: {
            "seed": 0,
            "roc": {
                name: {
                    "false_positive_rate": grid.tolist(),
                    "true_positive_rate": (grid ** (0.2 + 0.1 * place)).tolist(),
                }
                for name in shown
            },
            "precision_recall": {
                name: {
                    "recall": grid.tolist(),
                    "precision": (1 - 0.5 * grid ** (4 - place)).tolist(),
                }
                for name in shown
            },
            "calibration": [
                {
                    "probability": at,
                    "frequency": at**1.2 + 0.04 * place,
                    "low": max(0.0, at**1.2 - 0.13),
                    "high": min(1.0, at**1.2 + 0.15),
                    "n": 9,
                }
                for at in (0.05, 0.3, 0.5, 0.7, 0.95)
            ],
            "decision": {
                "threshold": grid[1:-1].tolist(),
                "model": (0.45 - 0.4 * grid[1:-1] ** 2 - 0.02 * place).tolist(),
                "treat_all": (0.5 - 0.5 * grid[1:-1] / (1 - grid[1:-1])).tolist(),
            },
        }
        for place, model in enumerate(models)
    }
    comparisons = (
        []
        if len(models) < 2
        else [
            {
                "a": "vit",
                "b": "cnn",
                "metric": "roc_auc_score",
                "difference": 0.02,
                "low": -0.03,
                "high": 0.07,
                "sentence": "vit against cnn, ROC AUC: no evidence of a difference: "
                "+0.020 [-0.030, +0.070].",
            }
        ]
    )
    write_json(
        run.evaluation,
        {
            "unit": "patient",
            "positive_class": classes[-1] if len(classes) == 2 else None,
            "sets": {"test": {model: metrics(0.02 * place) for place, model in enumerate(models)}},
            "comparisons": comparisons,
            "curves": {"test": curves},
            "operating_points": {
                model: [
                    {
                        "seed": 0,
                        "fold": 0,
                        "temperature": 1.2,
                        "threshold": 0.5 if len(classes) == 2 else None,
                        "rule": "Youden: most sensitivity + specificity, on validation",
                    }
                ]
                for model in models
            },
            "image_level": {
                "test": {model: metrics(0.02 * place + 0.03) for place, model in enumerate(models)}
            },
            "subgroups": {
                "site": {
                    model: {
                        "groups": {"north": metrics(0.0), "south": metrics(0.05)},
                        "gap": {
                            "metric": "balanced_accuracy",
                            "high": "north",
                            "low": "south",
                            "gap": 0.05,
                        },
                    }
                    for model in models
                }
            },
            "warnings": ["Only 40 patients: the intervals are wide."],
        },
    )


def _explanation(run, rng, row, *, method=None):
    y, x = np.mgrid[:8, :8]
    values = np.exp(-((y - 3) ** 2 + (x - 5) ** 2) / 4) * rng.uniform(0.3, 1) + rng.gamma(
        0.3, 0.1, (8, 8)
    )
    path = run.explanation(row["case_id"], method=method)
    if method:
        values -= values.mean()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.savez(
            stream,
            values=(values / np.abs(values).sum()).astype(np.float32),
            grid_size=np.array([8, 8]),
            image_size=np.array([64, 64]),
        )
    write_json(
        path.with_suffix(".json"),
        {
            "method": method or "rollout",
            "class_specific": method is not None,
            "signed": method is not None,
            "prefix_share": [0.41],
            "residual": None,
            "parameters": {"head_fusion": "mean"},
            "extra": {
                "model": "vit",
                "preprocessing": PREPROCESSING,
                "source_size": [96, 128],
            },
        },
    )


def _close_up(run, rng, case_id, classes, *, layers=4, heads=3, side=8):
    """Write what pipeline.closeup keeps of a case: a class token and a square grid."""
    tokens = side * side + 1
    rows = rng.gamma(0.4, size=(layers, heads, tokens, tokens)).astype(np.float32)
    rows /= rows.sum(axis=-1, keepdims=True)
    scales = rows.max(axis=-1)
    lens = rng.random((layers, len(classes))).astype(np.float32)
    np.savez_compressed(
        run.explanations / "attention" / run.explanation(case_id).name,
        attention=rows[:, :, 0, 1:].reshape(layers, heads, side, side).astype(np.float16),
        prefix=np.asarray(1),
        matrices=np.rint(rows / scales[..., None] * 255).astype(np.uint8),
        scales=scales,
        importance=rng.random((layers, heads)).astype(np.float32),
        lens=lens / lens.sum(axis=1, keepdims=True),
        values=rng.random((len(classes), side, side)).astype(np.float32),
        method=np.asarray("relevance"),
    )


def _bench(run, methods, test):
    """Write a faithfulness.json in the shape of faithfulness.record.Bench.to_json."""

    def cell(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1, **ESTIMATE}

    def strip(method):
        return {
            "class_specific": method != "rollout",
            "gain_over_random": 0.21,
            "gain_low": 0.12,
            "gain_high": 0.31,
            "stability": 0.83,
            "randomization_passed": method != "libra",
            "completeness_error": None if method == "rollout" else 0.013,
            "prefix_share": 0.41,
            "fails": ["it hardly changes when the weights are shuffled"]
            if method == "libra"
            else [],
        }

    write_json(
        run.root / "faithfulness.json",
        {
            "format": "faithfulness-1",
            "unit": "patient",
            "num_cases": len(test),
            "num_units": 6,
            "methods": list(methods),
            "controls": ["random", "center"],
            "refused": {"legrad": "this model has no class token"},
            "tables": {
                "removal_gain/tokens": {
                    name: cell(0.1 + 0.05 * place)
                    for place, name in enumerate((*methods, "random", "center"))
                },
                "stability_score": {name: cell(0.8) for name in methods},
            },
            "curves": {
                "fractions": [0.0, 0.5, 1.0],
                "tokens": {
                    name: {
                        "most": [[1.0, 1.0, 1.0], [0.3, 0.2, 0.4], [0.1, 0.0, 0.2]],
                        "least": [[1.0, 1.0, 1.0], [0.8, 0.7, 0.9], [0.1, 0.0, 0.2]],
                    }
                    for name in (*methods, "random", "center")
                },
            },
            "ranks": {name: {"mean": 1.5, "best": 1.0, "worst": 2.0} for name in methods},
            "costs": {
                name: {"passes": "one", "milliseconds": 12.0, "forwards": 1.2} for name in methods
            },
            "randomization_passed": {name: name != "libra" for name in methods},
            "class_specific": {name: name != "rollout" for name in methods},
            "strips": {
                row["case_id"]: {method: strip(method) for method in methods} for row in test
            },
            "recommendation": {
                "method": methods[-1],
                "reason": "It has the best mean rank.",
                "limits": ["Ranks over six patients are rough."],
            },
            "warnings": ["Only 6 patients."],
            "settings": {"imputers": ["tokens"], "seed": 0},
        },
    )


@pytest.fixture
def make_run(tmp_path):
    """Return the function that writes a run folder; each call makes a new one."""

    def make(name="run", **options):
        return write_run(tmp_path / name, **options)

    return make
