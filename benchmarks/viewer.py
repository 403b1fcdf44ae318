"""The viewer: hover redraw, first view, size of a report, and load on the server.

scripts/bench viewer; `python benchmarks/viewer.py 60` ends the load after 60 s, not 300, and 0
leaves it out. Needs Debian's Chromium. Runs are written by the tests' own writers; the served model
is untrained. The server is a process of its own, started as `vitrail serve` does.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import numpy as np
from playwright.sync_api import expect, sync_playwright

from vitrail.report.contents import read
from vitrail.report.gallery import choose
from vitrail.report.page import build
from vitrail.runfolder import write_text

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
    expect(page.locator("#v-panes")).to_have_attribute("aria-busy", "false", timeout=60_000)
    page.wait_for_timeout(1000)  # the wall is drawn
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
    while not page.evaluate("document.querySelector('#v-says-a')?.textContent"):
        time.sleep(0.005)
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


@contextmanager
def serving(run):
    """Serve a run by `vitrail serve`; yields its address with the token, and its process."""
    command = [sys.executable, "-m", "vitrail", "serve", str(run.root), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield json.loads(server.stdout.readline())["address"], server
        finally:
            server.terminate()


def memory_mb(process, field="VmRSS"):
    """Return a process's resident memory, or its peak (VmHWM)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def load(address, *, cases, seconds):
    """Let clients ask for cases, pictures and close looks; returns answers and latencies."""
    ends = time.perf_counter() + seconds
    paths = ("cases/{}", "cases/{}/picture", "cases/{}/close", "cases/{}", "run")
    root = address.partition("?")[0]

    def client(number):
        opener = build_opener(HTTPCookieProcessor(CookieJar()))
        opener.open(address, timeout=60).read()
        rng, answers, spent = np.random.default_rng(number), [], []
        while time.perf_counter() < ends:
            path = paths[rng.integers(len(paths))].format(rng.integers(cases))
            started = time.perf_counter()
            try:
                with opener.open(root + path, timeout=60) as answer:
                    answer.read()
                    answers.append(answer.status)
            except HTTPError as error:
                answers.append(error.code)
            except OSError as error:
                answers.append(type(error).__name__)
            spent.append(time.perf_counter() - started)
        return answers, spent

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(client, range(CLIENTS)))
    answers = Counter(code for codes, _ in found for code in codes)
    return answers, np.array([one for _, times in found for one in times])


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
        print(f"hover redraw, ViT-B at 224 px: {frames}", flush=True)
        large, small = thousand_cases(folder)
        with serving(large) as (address, _):
            times = [first_view(browser, address) for _ in range(5)]
        each = ", ".join(f"{one:.2f}" for one in times)
        print(f"first view, 1 000 cases, served: {each} s (the first of a new server first)")
        browser.close()
        if seconds:
            under_load(small, seconds)


def under_load(run, seconds):
    """Print what the clients were answered, and the server's memory."""
    with serving(run) as (address, server):
        load(address, cases=6, seconds=min(10, seconds))  # to be warm
        before = memory_mb(server)
        answers, spent = load(address, cases=6, seconds=seconds)
        after, peak = memory_mb(server), memory_mb(server, "VmHWM")
    said = ", ".join(f"{count} x {code}" for code, count in answers.most_common())
    middle, high = np.percentile(spent, [50, 99])
    print(f"load: {CLIENTS} clients, {seconds:.0f} s: {said}; p50 {middle:.2f} s, p99 {high:.2f} s")
    print(f"the server's memory: {before:.0f} to {after:.0f} MB, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
