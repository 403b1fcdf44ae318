"""How long `read_folder` takes for 100 000 pictures in one folder of a class.

Command: ``python benchmarks/listing.py [files]``

The files are empty: a cohort is made of their names alone, and nothing is opened.
"""

import sys
import tempfile
import time
from pathlib import Path

from vitrail.data.cohort import read_folder

if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        for label, files in (("a", count), ("b", 2)):
            (Path(name) / label).mkdir()
            for number in range(files):
                (Path(name) / label / f"{number:06}.png").touch()
        start, work = time.perf_counter(), time.process_time()
        cohort = read_folder(Path(name))
        seconds, work = time.perf_counter() - start, time.process_time() - work
    print(f"{len(cohort)} cases: {seconds:.1f} s, {work:.1f} s of work")
