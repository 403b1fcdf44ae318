"""How many pictures a second `vitrail inspect` reads, compares and audits, and in how much memory.

Command: ``python benchmarks/inspecting.py [pictures]`` (10 000 by default; a script named
``inspect`` would hide the standard library's)

Generates tissue-like JPEGs of 224 x 224 px in two classes, every tenth of them a turned, zoomed
and mirrored copy of the one before, and runs the whole audit on them, every stage in one run.
"""

import io
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from vitrail.data.audit import audit
from vitrail.data.cohort import read_folder

SIDE_PX = 224


def tissue(generator):
    """Draw blobs of three sizes in two stains, on a large canvas."""
    side = SIDE_PX * 3 // 2
    layers = []
    for coarse in (1, 3, 8):
        noise = generator.normal(size=(side // coarse + 1,) * 2).astype(np.float32)
        blurred = Image.fromarray(gaussian_filter(noise, 2) * 7)
        layers.append(np.asarray(blurred.resize((side, side), Image.Resampling.BICUBIC)))
    nuclei = 1 / (1 + np.exp(-6 * (layers[0] + 0.6 * layers[1] - 1.2)))
    ground = 0.5 + 0.12 * layers[1] + 0.1 * layers[2]
    stains = np.array([[0.55, 0.75, 0.25], [0.12, 0.3, 0.1]])
    density = nuclei[..., None] * stains[0] + ground[..., None] * stains[1]
    return Image.fromarray((255 * np.exp(-density)).clip(0, 255).astype(np.uint8))


def crop(canvas, generator, *, moved):
    """Cut the middle, or a turned, zoomed and mirrored middle."""
    if moved:
        canvas = canvas.rotate(generator.uniform(0, 360), Image.Resampling.BICUBIC)
        if generator.random() < 0.5:
            canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = SIDE_PX / (generator.uniform(1.0, 1.4) if moved else 1.0)
    start = (canvas.width - side) / 2
    box = (start, start, start + side, start + side)
    return canvas.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box=box)


def generate(folder, count, *, seed=0):
    """Write the pictures; return the pairs that are copies."""
    generator = np.random.default_rng(seed)
    pairs = set()
    for index in range(count):
        moved = index % 10 == 9
        if not moved:
            canvas = tissue(generator)
        stream = io.BytesIO()
        crop(canvas, generator, moved=moved).save(stream, format="JPEG", quality=85)
        path = folder / "ab"[index // 10 % 2] / f"{index:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stream.getvalue())
        if moved:
            pairs.add((f"{path.parent.name}/{index - 1:06}", f"{path.parent.name}/{index:06}"))
    return pairs


class Clock:
    """Remembers when each stage was first and last heard of."""

    def __init__(self):
        self.begun, self.ended = {}, {}

    def __call__(self, stage, *, done, total, note=""):  # noqa: ARG002
        """Hear of a stage."""
        self.ended[stage] = time.perf_counter()
        self.begun.setdefault(stage, self.ended[stage])


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        pairs = generate(Path(name), count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        clock, start, work = Clock(), time.perf_counter(), time.process_time()
        found = audit(read_folder(Path(name)), progress=clock)
        seconds, work = time.perf_counter() - start, time.process_time() - work
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for stage, begun in clock.begun.items():
        took = clock.ended[stage] - begun
        print(f"{stage}: {took:.1f} s, {count / max(took, 1e-9):.0f} pictures/s")
    print(f"all: {seconds:.1f} s, {count / seconds:.0f} pictures/s, {work:.1f} s of work")
    print(f"memory: {peak:.0f} MiB at most, {before:.0f} MiB before")
    listed = set(found.duplicate_pairs())
    print(f"copies: {len(listed & pairs)} of {len(pairs)} found, {len(listed - pairs)} false")
