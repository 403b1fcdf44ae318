"""``vitrail doctor``: what this machine has, and what will be slow and why."""

import os
from pathlib import Path

import torch
from PIL import features

from vitrail import __version__
from vitrail.pipeline.environment import PACKAGES, machine, usable_cores, version
from vitrail.pipeline.ledger import Result

_CODECS = {"png": "zlib", "jpeg": "jpg", "tiff": "libtiff", "jpeg 2000": "jpg_2000"}


def doctor() -> Result:
    """Describe the machine.

    Returns:
        Versions, machine, codecs, local weights, and sentences on what will be slow.
    """
    found = {
        "vitrail": __version__,
        "packages": {name: version(name) for name in PACKAGES},
        "machine": machine(),
        "codecs": {name: bool(features.check(codec)) for name, codec in _CODECS.items()},
        "weights": local_weights(),
        "slow": slow(),
    }
    return {**found, "summary": _sentences(found)}


def local_weights() -> list[str]:
    """List weights that lie in the hub's cache; nothing is fetched."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return sorted(
        {file.parents[2].name for file in hub.glob("models--*/snapshots/*/*.safetensors")}
    )


def slow() -> list[str]:
    """Say what will be slow here, and why."""
    said = []
    cores, threads = usable_cores(), torch.get_num_threads()
    if not torch.cuda.is_available():
        said.append(
            f"no GPU: a small transformer trains in minutes on {cores} cores, "
            "a ViT-B takes hours; keep --budget small or use a machine with a GPU"
        )
    if threads < cores:
        said.append(f"torch uses {threads} of {cores} cores (OMP_NUM_THREADS?): training is slower")
    missing = [name for name, codec in _CODECS.items() if not features.check(codec)]
    if missing:
        said.append(f"Pillow cannot read {', '.join(missing)}: such pictures count as unreadable")
    if not local_weights():
        said.append(
            "no weights in the local cache: models start from scratch unless --weights names a file"
        )
    return said


def _sentences(found: Result) -> list[str]:
    """Write the findings for people."""
    here = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    codecs = ", ".join(name for name, there in found["codecs"].items() if there)
    return [
        f"vitrail {found['vitrail']} on {here['system']}",
        f"{here['cores']} cores, {here['memory_gib']} GiB, GPU: {here['gpu'] or 'none'}",
        f"packages: {versions}",
        f"reads: {codecs}",
        f"local weights: {', '.join(found['weights']) or 'none'}",
        *(f"slow: {sentence}" for sentence in found["slow"]),
    ]
