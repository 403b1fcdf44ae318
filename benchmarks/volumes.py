"""A CT series of 300 slices of 512 x 512: read, windowed, montaged. The bar: less than 2 s.

python benchmarks/volumes.py

The first pass also pays for the memory that it touches for the first time; later ones are what a
cohort pays for each scan. Processor seconds are printed beside the wall clock's, for machines that
do other work as well.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from vitrail.data.montage import make_stack
from vitrail.data.scan import read_scan
from vitrail.data.thorax import _write_series
from vitrail.data.volume import Volume
from vitrail.records import VolumeView

SLICES, SIDE, PASSES = 300, 512, 3


def timed(work):
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def main():
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        affine = np.eye(4)[[2, 1, 0, 3]] * 0.8
        affine[3, 3] = 1.0
        values = generator.integers(-1000, 400, size=(SLICES, SIDE, SIDE)).astype(np.float32)
        _write_series(Path(folder), Volume(values, affine), patient_id="BENCH", seed=0)
        del values
        for number in range(1, PASSES + 1):
            volume, read_s, read_cpu_s = timed(lambda: read_scan(Path(folder)))
            stack, tile_s, tile_cpu_s = timed(lambda: make_stack(volume, VolumeView(window="lung")))  # noqa: B023
            _, montage_s, _ = timed(lambda: stack.picture(stack.evaluation_starts()[0]))  # noqa: B023
            print(
                f"pass {number}: read {read_s:.2f} s ({read_cpu_s:.2f} s of processor), window and "
                f"tiles {tile_s:.2f} s ({tile_cpu_s:.2f}), montage {1000 * montage_s:.1f} ms, "
                f"together {read_s + tile_s + montage_s:.2f} s ({read_cpu_s + tile_cpu_s:.2f})"
            )


if __name__ == "__main__":
    main()
