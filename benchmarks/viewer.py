"""The viewer: hover redraw, first view, size of a report, and load on the server.

scripts/bench viewer; `python benchmarks/viewer.py 60` ends the load after 60 s instead of 300.
Needs Debian's Chromium. Runs are written by the tests' own writers; the served model is untrained.
"""

import importlib.util
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from playwright.sync_api import sync_playwright

from vitrail.report.contents import read
from vitrail.report.gallery import choose
from vitrail.report.page import build
from vitrail.runfolder import RunFolder, write_text

CLIENTS = 20
MOVES = 600
TIMED = """
const frame = requestAnimationFrame;
window.spent = [];
requestAnimationFrame = draw => frame(now => {
  const start = performance.now();
  draw(now);
  window.spent.push(performance.now() - start);
});
"""


def from_tests(room):
    path = Path(__file__).parents[1] / "tests" / "unit" / room / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"{room}_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report_of_vit_b(folder):
    """Write a report of 200 test cases, some with the whole attention of a ViT-B at 224 px."""
    writer = from_tests("report")
    run = writer.write_run(folder / "report", cases=600, methods=("libra",))
    shown = choose(read(run))
    rng = np.random.default_rng(0)
    for case_id in shown[:2]:
        writer._close_up(run, rng, case_id, writer.CLASSES, layers=12, heads=12, side=14)  # noqa: SLF001
    write_text(run.report, build(run))
    return run, shown[0]


def hover(browser, run, case_id):
    """Return the milliseconds of every redraw while the pointer moves over the picture."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(TIMED)
    page.goto(f"{run.report.as_uri()}#case={case_id}")
    page.wait_for_timeout(4000)
    box = page.locator("#v-pane-a").bounding_box()
    page.evaluate("window.spent = []")
    rng = np.random.default_rng(0)
    for _ in range(MOVES):
        x = box["x"] + box["width"] * rng.uniform(0.25, 0.75)
        page.mouse.move(x, box["y"] + box["height"] * rng.uniform(0.05, 0.95))
    page.wait_for_timeout(100)
    spent = page.evaluate("window.spent")
    page.close()
    return np.array(spent)


def first_view(browser, address):
    """Return the seconds from asking for the page to the first drawn map."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(address)
    page.locator("#v-list button").first.wait_for()
    while not page.evaluate("document.querySelector('#v-says-a').textContent"):
        page.wait_for_timeout(5)
    seconds = time.perf_counter() - started
    context.close()
    return seconds


def thousand_cases(folder):
    """Write the report's kind of run with 1 000 test cases, and a model to serve."""
    writer, web = from_tests("report"), from_tests("web")
    run = writer.write_run(folder / "thousand", cases=3000)
    served = web.write_served_run(folder / "small")
    for name in ("plan.yaml",):
        (run.root / name).write_bytes((served.root / name).read_bytes())
    for path in (served.root / "models" / "vit").rglob("*"):
        if path.is_file():
            target = run.root / path.relative_to(served.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return run, served


def memory_mb():
    """Return this process's resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def load(address, allowed, *, cases, seconds):
    """Let clients ask for cases, pictures and close looks; returns counts, latencies, memory."""
    cookie = {"Cookie": f"{allowed.cookie}={allowed.token}"}
    ends = time.perf_counter() + seconds
    paths = ("cases/{}", "cases/{}/picture", "cases/{}/close", "cases/{}", "run")

    def client(number):
        rng, answers, spent = np.random.default_rng(number), [], []
        while time.perf_counter() < ends:
            path = paths[rng.integers(len(paths))].format(rng.integers(cases))
            started = time.perf_counter()
            try:
                with urlopen(Request(address + path, headers=cookie), timeout=60) as answer:
                    answer.read()
                    answers.append(answer.status)
            except HTTPError as error:
                answers.append(error.code)
            except OSError:
                answers.append(0)
            spent.append(time.perf_counter() - started)
        return answers, spent

    before = memory_mb()
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(client, range(CLIENTS)))
    codes = [code for answers, _ in found for code in answers]
    spent = np.array([one for _, times in found for one in times])
    return codes, spent, before, memory_mb()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        folder = Path(name)
        browser = started.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        run, case_id = report_of_vit_b(folder)
        print(f"report of 200 cases, two methods: {run.report.stat().st_size / 2**20:.1f} MB")
        spent = hover(browser, run, case_id)
        middle, high = np.percentile(spent, [50, 99])
        frames = f"{len(spent)} frames, p50 {middle:.1f} ms, p99 {high:.1f} ms"
        print(f"hover redraw, ViT-B at 224 px: {frames}")
        large, small = thousand_cases(folder)
        address, allowed = serving(large)
        times = [first_view(browser, f"{address}?token={allowed.token}") for _ in range(5)]
        print(f"first view, 1 000 cases, served: median {np.median(times):.2f} s of 5")
        browser.close()
        address, allowed = serving(RunFolder(small.root))
        codes, spent, before, after = load(address, allowed, cases=6, seconds=seconds)
        errors = sum(code not in (200, 429) for code in codes)
        print(
            f"load: {CLIENTS} clients, {seconds:.0f} s: {len(codes)} answers, {errors} errors, "
            f"{codes.count(429)} told to come back, p99 {np.percentile(spent, 99):.2f} s, "
            f"memory {before:.0f} to {after:.0f} MB (clients in the same process)"
        )


if __name__ == "__main__":
    main()
