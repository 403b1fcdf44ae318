"""A browser on a page that was made from a run folder; skipped visibly where there is none."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from vitrail.report.page import build
from vitrail.runfolder import RunFolder, write_text
from vitrail.web.session import Session

WIDE = {"width": 1280, "height": 900}
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser():
    """Start Debian's Chromium."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    expect.set_options(timeout=30_000)  # an answer is waited for, also on a loaded machine
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def from_unit(room):
    """Load the conftest of a room's unit tests."""
    path = Path(__file__).parents[1] / "unit" / room / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"{room}_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run():
    """Return the report's own writer of run folders."""
    return from_unit("report").write_run


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Serve a small run with a real, untrained transformer; returns its session and address."""
    unit = from_unit("web")
    session = Session(unit.write_served_run(tmp_path_factory.mktemp("served")))
    with unit.serving(session) as (address, allowed):
        yield session, address, allowed.token


@pytest.fixture
def served_copy(served, tmp_path):
    """Serve a copy of that run, for a test that changes it."""
    session = Session(RunFolder(shutil.copytree(served[0].run.root, tmp_path / "run")))
    with from_unit("web").serving(session) as (address, allowed):
        yield session, address, allowed.token


@pytest.fixture(scope="session")
def served_scans(tmp_path_factory):
    """Serve a small run of volumes, as `served` does, with addresses allowed."""
    unit = from_unit("web")
    session = Session(unit.write_volume_run(tmp_path_factory.mktemp("scans")))
    with unit.serving(session, allow_url=True) as (address, allowed):
        yield session, address, allowed.token


@pytest.fixture(scope="session")
def dicom_slice():
    """Return the writer of a DICOM slice."""
    return from_unit("web").write_slice


@pytest.fixture(scope="session")
def run(write_run, tmp_path_factory):
    """Write one run and its report for all tests."""
    run = write_run(tmp_path_factory.mktemp("browser") / "run", cases=36, methods=("libra",))
    write_text(run.report, build(run, checklist="claim-2024"))
    return run


@pytest.fixture
def open_report(browser, run):
    """Return a function that opens the report; what it asked for and complained of is checked."""
    contexts, asked, complaints = [], [], []

    def opened(path=None, *, viewport=WIDE, fragment="", **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((path or run.report).as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    outside = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert outside == []
    assert complaints == []
