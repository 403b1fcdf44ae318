"""What a run was made with: versions, machine, command; kept in ``environment.json``."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from vitrail import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "jaxtyping",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "pydantic",
    "accelerate",
    "matplotlib",
    "jinja2",
    "typer",
    "rich",
    "SimpleITK",
    "pydicom",
)
"""The libraries whose versions can change a number or a picture."""


def capture(command: str) -> dict[str, object]:
    """Describe the software, the machine and the command.

    Args:
        command: The exact command line.

    Returns:
        The content of ``environment.json`` (without its stages).
    """
    return {
        "vitrail": __version__,
        "command": command,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": machine(),
    }


def version(package: str) -> str:
    """Return a package's installed version, or ``not installed``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, object]:
    """Describe the machine: system, processor, cores, memory in GiB, threads, GPU."""
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory_gib(), 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def usable_cores() -> int:
    """Count the cores that this process may use (containers and schedulers give fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> float:
    """Return the machine's memory, or the container's limit where that is smaller, in GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total / 2**30
