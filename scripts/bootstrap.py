"""Make ``.venv`` and install vitrail in it, from the system's own python3 (for scripts/setup).

Standard library only. What pip or uv are told by their configuration (index, certificates, proxies)
holds here too. Run again, it does nothing unless ``pyproject.toml`` or ``constraints.txt`` changed.

Usage: ``python3 scripts/bootstrap.py [core|dev]``: ``core`` runs vitrail, ``dev`` also tests it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "vitrail-setup"
OLDEST = (3, 11)
NAMES = ("python3", "python3.13", "python3.12", "python3.11")
# What the browser tests need, and the program that shows that it is there.
BROWSER = {"chromium": "chromium", "nodejs": "node"}


def main(part: str) -> None:
    """Install what ``part`` needs, unless it was installed before."""
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text().split() in ([wanted, part], [wanted, "dev"]):
        return
    make_venv()
    install(part)
    if part == "dev":
        add_browser()
    STAMP.write_text(f"{wanted} {part}\n")
    say(f"done; everything is in {VENV}")


def fingerprint() -> str:
    """Return a digest of the files that say what to install, and of where the checkout lies."""
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + bytes(ROOT)).hexdigest()


def make_venv() -> None:
    """Make the virtual environment, unless a whole one is there."""
    if PYTHON.exists() and succeeds(PYTHON, "-c", "import pip"):
        return
    python, version = find_python()
    say(f"making .venv with {python} (Python {version})")
    if not succeeds(python, "-c", "import ensurepip, venv"):
        apt_install(f"python{version}-venv") or stop(
            f"{python} cannot make virtual environments",
            f"ask an administrator for: apt-get install python{version}-venv",
        )
    run(python, "-m", "venv", "--clear", "--prompt", "vitrail", VENV)


def find_python() -> "tuple[str, str]":
    """Return the first Python that is new enough, and its version as ``3.11``."""
    for python in (sys.executable, *filter(None, map(shutil.which, NAMES))):
        told = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        version = tuple(int(number) for number in told.stdout.split())
        if version >= OLDEST:
            return python, ".".join(map(str, version))
    return stop(
        "no Python 3.11 or newer was found on the PATH",
        "install one (on Debian 12 and later: apt-get install python3), then repeat",
    )


def install(part: str) -> None:
    """Install uv with pip, and the rest with uv, every version taken from ``constraints.txt``."""
    constraints = ("--constraint", ROOT / "constraints.txt")
    say("installing uv")
    run(PYTHON, "-m", "pip", "install", "--quiet", *constraints, "uv")
    say("installing vitrail and its libraries; PyTorch is large (with CUDA about 6 GB on disk),")
    say("so the first time takes minutes")
    run(
        *(PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON, *constraints),
        *("--build-constraint", ROOT / "constraints.txt", "--editable", ROOT),
        *(("--group", f"{ROOT / 'pyproject.toml'}:dev") if part == "dev" else ()),
        environment=uv_environment(),
    )


def uv_environment() -> "dict[str, str]":
    """Return the environment for uv: no Python downloads, and pip's own index and certificates."""
    environment = {"UV_HTTP_TIMEOUT": "300", **os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    listed = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    for line in reversed(listed.stdout.splitlines()):  # pip lists its environment first
        key, _, value = line.partition("=")
        if key.endswith(".index-url") and not {"UV_INDEX_URL", "UV_DEFAULT_INDEX"} & {*os.environ}:
            environment["UV_DEFAULT_INDEX"] = value.strip("'")
        elif key.endswith(".cert") and "SSL_CERT_FILE" not in os.environ:
            environment["SSL_CERT_FILE"] = value.strip("'")
    return environment


def add_browser() -> None:
    """Install Chromium and Node where the system allows it; only the browser tests need them."""
    missing = [package for package, program in BROWSER.items() if not shutil.which(program)]
    if missing and not apt_install(*missing):
        say(f"{' and '.join(missing)} cannot be installed here: the browser tests will be skipped")
        say(f"(to run them, ask an administrator for: apt-get install {' '.join(missing)})")


def apt_install(*packages: str) -> bool:
    """Install Debian packages if we are root on a Debian system; return whether it worked."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    say(f"installing {' and '.join(packages)} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (["update"], ["install", "--yes", "--no-install-recommends", *packages])
    return all(
        subprocess.run(
            ["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
        ).returncode
        == 0
        for command in commands
    )


def succeeds(*command: object) -> bool:
    """Return whether a command exits with status 0; its output is dropped."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def run(*command: object, environment: "dict[str, str] | None" = None) -> None:
    """Run a command with its output shown, or stop the setup."""
    words = [str(word) for word in command]
    if subprocess.run(words, env=environment, check=False).returncode != 0:
        stop(f"this command failed: {' '.join(words)}", "its own message stands above")


def say(message: str) -> None:
    """Tell the reader what happens."""
    print(f"setup: {message}", file=sys.stderr, flush=True)


def stop(problem: str, remedy: str) -> NoReturn:
    """End the setup with what went wrong and what to do about it."""
    say(f"{problem}; {remedy}")
    sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["core"], ["dev"]):
        stop(f"unknown arguments: {' '.join(sys.argv[1:])}", "say core, dev, or nothing (dev)")
    try:
        main((sys.argv[1:] or ["dev"])[0])
    except KeyboardInterrupt:
        stop("interrupted", "repeat it: what was downloaded is kept")
