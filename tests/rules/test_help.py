"""The command line answers at once."""

import subprocess
import sys

HELP = """
import sys, time
sys.argv = ["vitrail", "--help"]
from vitrail.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, time.process_time(), file=sys.stderr)
"""
ALLOWED_S = 0.4


def run_help():
    """Return what `vitrail --help` printed, whether it imported torch, and its processor time."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    torch, seconds = done.stderr.split()[-2:]
    return done.stdout, torch == "True", float(seconds)


def test_help_imports_no_torch():
    printed, torch, _ = run_help()
    assert "Usage" in printed
    assert not torch


def test_help_answers_within_its_time(capsys):
    """Best of five, in the process's own processor time: a busy machine does not count."""
    seconds = min(run_help()[2] for _ in range(5))
    with capsys.disabled():
        sys.stdout.write(f"vitrail --help: {seconds:.2f} s of processor time\n")
    assert seconds < ALLOWED_S
