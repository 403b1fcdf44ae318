"""The split of the founding system on SARS-CoV-2 CT, as a manifest: random slices, 20 % tested.

    python benchmarks/prepare/sarscov2.py ../shared/data/sarscov2_ct /tmp/random --seed 0
    vitrail run /tmp/random --manifest /tmp/random/manifest.csv --out RUN --accept-leakage "…"

Slices of one patient stand on both sides of such a split; it serves to compare with published
numbers. Without a manifest `vitrail run` keeps near-duplicates together. Of the 80 % that were
trained on, 15 % are taken for validation, so that nothing is chosen on the tested slices.
"""

import argparse
from pathlib import Path

from vitrail.data.cohort import read_folder
from vitrail.data.deal import deal, write_list


def main() -> None:
    """Deal the slices and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="gets manifest.csv and a link to the slices")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cohort = read_folder(asked.folder)
    parts = deal(list(cohort), test=0.2, validation=0.12, seed=asked.seed)
    write_list(asked.out / "manifest.csv", cohort, parts=parts)


if __name__ == "__main__":
    main()
