"""How often a 95 % interval of the ROC area holds the truth, on simulated clustered cases.

Command: ``python benchmarks/coverage.py [rounds]``
"""

import sys

import numpy as np
from scipy.stats import norm

from vitrail.metrics.classification import roc_auc_score
from vitrail.metrics.interval import bias_corrected_accelerated, bootstrap, percentile


def covered(effect, patients, *, images=4, rounds=400, resamples=1000, seed=0):
    generator = np.random.default_rng([seed, patients, int(100 * effect)])
    truth = norm.cdf(effect / 2)
    clusters = np.repeat(np.arange(patients), images)
    y_true = clusters % 2 == 1
    hits = np.zeros(2)
    for _ in range(rounds):
        score = effect * y_true + generator.normal(size=patients)[clusters]
        score = score + generator.normal(size=len(clusters))
        draws = bootstrap(
            lambda w, s=score: {"auc": roc_auc_score(y_true, s, w)},
            clusters,
            resamples=resamples,
            seed=int(generator.integers(2**31)),
        )["auc"]
        ends = percentile(draws), bias_corrected_accelerated(draws) or (np.nan, np.nan)
        hits += [low <= truth <= high for low, high in ends]
    return truth, hits / rounds


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{rounds} rounds, 4 images a patient; percentile, BCa")
    for effect, patients in [(1.0, 100), (2.5, 100), (1.0, 200), (1.0, 40), (3.3, 100)]:
        truth, (plain, corrected) = covered(effect, patients, rounds=rounds)
        print(f"{patients} patients, AUC {truth:.2f}: {plain:.3f}  {corrected:.3f}", flush=True)
