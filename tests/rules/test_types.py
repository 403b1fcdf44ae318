"""The viewer's types hold, and the one tool that tells so is pinned."""

import json
import shutil
import subprocess

import pytest


def test_the_types_hold(checkout):
    tsc = checkout / "node_modules" / ".bin" / "tsc"
    if not tsc.exists():
        pytest.skip("TypeScript is not installed (npm ci)")
    assert shutil.which("node")
    command = [str(tsc), "-p", str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_typescript_is_pinned_without_an_address(checkout):
    lock = json.loads((checkout / "package-lock.json").read_text(encoding="utf-8"))
    assert "resolved" not in json.dumps(lock)
