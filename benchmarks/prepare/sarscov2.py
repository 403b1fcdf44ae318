"""The split of the founding system on SARS-CoV-2 CT, as a manifest: random slices, 20 % tested.

    python benchmarks/prepare/sarscov2.py ../shared/data/sarscov2_ct /tmp/random --seed 0
    vitrail run /tmp/random --manifest /tmp/random/manifest.csv --out RUN --accept-leakage "…"

Slices of one patient stand on both sides of such a split; it serves to compare with published
numbers. Without a manifest `vitrail run` keeps near-duplicates together. Of the 80 % that were
trained on, 15 % are taken for validation, so that nothing is chosen on the tested slices.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from vitrail.data.cohort import read_folder


def main() -> None:
    """Deal the slices and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="gets manifest.csv and a link to the slices")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cases = list(read_folder(asked.folder))
    order = np.random.default_rng(asked.seed).permutation(len(cases))
    test = round(0.2 * len(cases))
    validation = test + round(0.12 * len(cases))
    asked.out.mkdir(parents=True, exist_ok=True)
    slices = asked.out / "slices"
    if not slices.exists():
        slices.symlink_to(asked.folder.resolve())
    with (asked.out / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for place, index in enumerate(order):
            part = "test" if place < test else "validation" if place < validation else "train"
            writer.writerow([f"slices/{cases[index].path}", cases[index].label, part])


if __name__ == "__main__":
    main()
