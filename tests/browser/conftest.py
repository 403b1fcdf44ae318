"""A browser on a page that was made from a run folder; skipped visibly where there is none."""

import importlib.util
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from vitrail.report.page import build
from vitrail.runfolder import write_text
from vitrail.web.app import application
from vitrail.web.security import access
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
    run = from_unit("web").write_served_run(tmp_path_factory.mktemp("served"))
    bound = socket.create_server(("127.0.0.1", 0))  # held, so that nobody else gets it
    port = bound.getsockname()[1]
    allowed = access("127.0.0.1", port)
    session = Session(run)
    settings = uvicorn.Config(application(session, allowed), log_level="critical", access_log=False)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield session, f"http://127.0.0.1:{port}/", allowed.token
    server.should_exit = True
    thread.join(timeout=10)


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
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
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
