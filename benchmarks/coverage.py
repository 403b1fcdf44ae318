"""How often a 95 % interval holds the truth, on simulated patients.

Every patient has one class and ``images`` pictures; a picture's score is the class effect plus a
patient's noise plus its own, in equal parts. ``default`` is what ``evaluate`` states: BCa where it
is defined, else the percentile interval; with one picture a patient DeLong's on the logit scale.
Wilson's interval is that of the sensitivity at a fixed threshold, one picture a patient.

A second table does the same for the expected calibration error: of each method's interval, and how
far off the plug-in value and the stated one are on average.

Command: ``python benchmarks/coverage.py [rounds] [area|calibration]`` (1000 rounds take about ten
minutes each)
"""

import sys

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from vitrail.metrics.calibration import calibration_deviations
from vitrail.metrics.classification import roc_auc_score
from vitrail.metrics.interval import (
    bias_corrected_accelerated,
    bootstrap,
    bootstrap_interval,
    delong,
    folded_interval,
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


TILTS, CASES = ((1.0, 0.0), (0.7, 0.0), (0.5, 0.3)), (60, 200, 1000)
FOLDED = ("percentile", "BCa", "default", "plug-in", "stated")


def simulated(tilt, shift, clusters, *, generator):
    """Draw stated probabilities and outcomes; within a patient the outcomes resemble each other."""
    probability = generator.beta(1.2, 1.2, size=len(clusters))
    noise = (
        generator.normal(size=clusters.max() + 1)[clusters],
        generator.normal(size=len(clusters)),
    )
    alone = clusters.max() + 1 == len(clusters)
    place = norm.cdf(noise[1] if alone else sum(noise) / np.sqrt(2))
    return place < expit(logit(probability) * tilt + shift), probability


def calibration(tilt, shift, clusters, *, rounds):
    """Count how often each interval holds the true calibration error, and average the values."""
    generator = np.random.default_rng([int(10 * tilt), len(clusters), clusters.max()])
    _, many = simulated(tilt, shift, np.arange(2_000_000), generator=np.random.default_rng(0))
    risk = expit(logit(many) * tilt + shift)
    truth = np.abs(calibration_deviations(risk, many)).sum()
    total = dict.fromkeys(FOLDED, 0.0)
    for _ in range(rounds):
        outcome, probability = simulated(tilt, shift, clusters, generator=generator)
        draws = bootstrap(
            lambda w, y=outcome, p=probability: {"error": calibration_deviations(y, p, weights=w)},
            clusters,
            resamples=1000,
            seed=int(generator.integers(2**31)),
        )["error"]
        value, *ends = folded_interval(draws)
        found = {
            "percentile": percentile(draws),
            "BCa": bias_corrected_accelerated(draws) or (np.nan, np.nan),
            "default": ends,
        }
        for name, (low, high) in found.items():
            total[name] += low <= truth <= high
        total["plug-in"] += draws.value
        total["stated"] += value
    return truth, {name: value / rounds for name, value in total.items()}


def area_table(rounds):
    """Print the coverage of the ROC area's and the sensitivity's intervals."""
    print("| pictures a patient | patients | ROC AUC | " + " | ".join(METHODS) + " |")
    print("|" + "---|" * (3 + len(METHODS)))
    for images in IMAGES:
        for patients in PATIENTS:
            for area in AREAS:
                found = coverage(area, patients, images, rounds=rounds)
                cells = [f"{share:.3f}" if share else "" for share in found.values()]
                row = [str(images), str(patients), str(area), *cells]
                print("| " + " | ".join(row) + " |", flush=True)


def calibration_table(rounds):
    """Print the coverage of the calibration error's interval."""
    print("| pictures a patient | pictures | true error | " + " | ".join(FOLDED) + " |")
    print("|" + "---|" * (3 + len(FOLDED)))
    for images in IMAGES:
        for tilt, shift in TILTS:
            for cases in CASES:
                clusters = np.arange(cases) // images
                truth, found = calibration(tilt, shift, clusters, rounds=rounds)
                row = [str(images), str(cases), f"{truth:.3f}"]
                row += [f"{value:.3f}" for value in found.values()]
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{rounds} rounds a row, 1000 resamples; share of intervals that hold the truth\n")
    tables = {"area": area_table, "calibration": calibration_table}
    for name in sys.argv[2:] or tables:
        tables[name](rounds)
        print()
