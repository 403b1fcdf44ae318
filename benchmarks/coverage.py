"""How often a 95 % interval holds the truth, on simulated patients.

Every patient has one class and ``images`` pictures; a picture's score is the class effect plus a
patient's noise plus its own, in equal parts. ``default`` is what ``evaluate`` states: BCa where it
is defined, else the percentile interval; with one picture a patient DeLong's on the logit scale.
Wilson's interval is that of the sensitivity at a fixed threshold, one picture a patient.

Command: ``python benchmarks/coverage.py [rounds]`` (1000 rounds take about ten minutes)
"""

import sys

import numpy as np
from scipy.stats import norm

from vitrail.metrics.classification import roc_auc_score
from vitrail.metrics.interval import (
    bias_corrected_accelerated,
    bootstrap,
    bootstrap_interval,
    delong,
    percentile,
    wilson,
)

AREAS, PATIENTS, IMAGES = (0.7, 0.89, 0.99), (40, 100, 200), (1, 4)
METHODS = ("percentile", "BCa", "DeLong", "default", "Wilson")


def intervals(y_true, score, clusters, *, seed):
    """Give each method's interval of one simulated study."""
    draws = bootstrap(
        lambda w: {"area": roc_auc_score(y_true, score, weights=w)},
        clusters,
        resamples=1000,
        seed=seed,
    )["area"]
    alone = len(np.unique(clusters)) == len(clusters)
    missing = (np.nan, np.nan)
    called = score[y_true] >= 0.5
    closed = delong(y_true, score) if alone else missing
    return {
        "percentile": percentile(draws),
        "BCa": bias_corrected_accelerated(draws) or missing,
        "DeLong": closed,
        "default": closed if alone else bootstrap_interval(draws)[:2],
        "Wilson": wilson(float(called.sum()), float(len(called))) if alone else missing,
    }


def coverage(area, patients, images, *, rounds):
    """Count how often each interval holds the truth; the seed is the setting itself."""
    generator = np.random.default_rng([int(100 * area), patients, images])
    effect = norm.ppf(area) * np.sqrt(2)
    sensitivity = norm.sf(0.5 - effect)
    clusters = np.repeat(np.arange(patients), images)
    y_true = clusters % 2 == 1
    held = dict.fromkeys(METHODS, 0)
    for _ in range(rounds):
        noise = generator.normal(size=patients)[clusters] + generator.normal(size=len(clusters))
        score = effect * y_true + noise / np.sqrt(2)
        seed = int(generator.integers(2**31))
        for name, (low, high) in intervals(y_true, score, clusters, seed=seed).items():
            held[name] += low <= (sensitivity if name == "Wilson" else area) <= high
    return {name: count / rounds for name, count in held.items()}


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{rounds} rounds a row, 1000 resamples; share of intervals that hold the truth\n")
    print("| pictures a patient | patients | ROC AUC | " + " | ".join(METHODS) + " |")
    print("|" + "---|" * (3 + len(METHODS)))
    for images in IMAGES:
        for patients in PATIENTS:
            for area in AREAS:
                found = coverage(area, patients, images, rounds=rounds)
                cells = [f"{share:.3f}" if share else "" for share in found.values()]
                row = [str(images), str(patients), str(area), *cells]
                print("| " + " | ".join(row) + " |", flush=True)
