"""What the cache of decoded pictures gains: pictures a second of an epoch, without it and with it.

    python benchmarks/loading.py [pictures] [longest side in px]

Every epoch is a new dataset with its memory switched off, as a new process would have it; "same
dataset" is a later epoch of one that has named its pictures already. Prints one table of one run.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data import loader
from vitrail.data.loader import PictureDataset
from vitrail.records import Case, Preprocessing

PREPROCESSING = Preprocessing(image_size=(224, 224), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)


def write_pictures(folder, count, side):
    generator = np.random.default_rng(0)
    cases = []
    for number in range(count):
        coarse = generator.integers(0, 256, size=(side // 16, side // 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.jpg", quality=90)
        cases.append(Case(case_id=str(number), path=f"{number}.jpg", label="ab"[number % 2]))
    return cases


def rate(dataset):
    started = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return len(dataset) / (time.perf_counter() - started)


def main(count=400, side=1024):
    loader.MEMORY_BYTES = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_pictures(folder, count, side)

        def dataset(cache):
            options = {"preprocessing": PREPROCESSING, "classes": "ab", "cache_dir": cache}
            return PictureDataset(cases, folder, **options)

        rows = {"no cache": rate(dataset(None)), "filling the cache": rate(dataset(folder / "c"))}
        again = dataset(folder / "c")
        rows["cached, new dataset"] = rate(again)
        rows["cached, same dataset"] = rate(again)
        kept = sum(path.stat().st_size for path in (folder / "c").glob("??/*"))
    print(f"{count} JPEGs of {side} x {side * 3 // 4} px to 224 x 224, one process")
    print("| epoch | pictures a second | ratio |\n|---|---|---|")
    for title, value in rows.items():
        print(f"| {title} | {value:.0f} | {value / rows['no cache']:.1f} |")
    print(f"on disk: {kept / count / 1024:.0f} KiB a picture")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
