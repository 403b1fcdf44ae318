"""How long the bootstrap of every metric takes.

Command: ``python benchmarks/evaluation.py [cases] [resamples]``
"""

import sys
import time

import numpy as np

from vitrail.evaluation.measure import Sample, measure
from vitrail.metrics.interval import bootstrap


def sample(cases, images_a_patient=4):
    """Simulate one model's answers on a test set."""
    generator = np.random.default_rng(0)
    clusters = np.unique(
        generator.integers(cases // images_a_patient, size=cases), return_inverse=True
    )[1]
    y_true = generator.integers(2, size=cases)
    score = 1 / (1 + np.exp(-generator.normal(size=cases) - 3 * (y_true - 0.5)))
    probabilities = np.stack([1 - score, score], axis=1)
    return Sample(y_true, probabilities, (score >= 0.5).astype(int), 1), clusters


if __name__ == "__main__":
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    resamples = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    answers, clusters = sample(cases)
    print(f"{resamples} resamples of {cases} cases in {clusters.max() + 1} clusters\n")
    start, work = time.perf_counter(), time.process_time()
    names = list(measure(answers, np.ones((1, cases))))
    bootstrap(lambda weights: measure(answers, weights), clusters, resamples=resamples)
    seconds, work = time.perf_counter() - start, time.process_time() - work
    print(f"{len(names)} metrics: {seconds:.1f} s, {work:.1f} s of work over all threads")
