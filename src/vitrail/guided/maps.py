"""Stage one's maps of every window of every case, kept on disk by model and case.

A map is a few hundred numbers, and every arm, seed and fold that asks for the same model's map of
the same case gets the stored one. A name holds a hash of all that the map follows from: the
weights, the preprocessing, the method, and the state of the case's files.
"""

from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from vitrail.data.stacks import VolumeDataset, stack_key
from vitrail.explain import explain
from vitrail.runfolder import write_bytes

_BATCH = 16
Maps = Float[np.ndarray, "case window row column"]


def explained(
    model: nn.Module, windows: Sequence[VolumeDataset], *, method: str, cache: Path | None
) -> Maps:
    """Explain every window of every case by one model.

    Args:
        model: In eval mode.
        windows: The same cases through each of their windows.
        method: A method of the engine.
        cache: Folder of maps; None keeps none.

    Returns:
        Raw maps on the method's grid.
    """
    if cache is None:
        return _made(model, windows, method=method, cases=range(len(windows[0])))
    folder = cache / "maps" / f"{method}-{_identity(model, windows[0])}"
    first = windows[0]
    paths = [folder / f"{stack_key(case, first.root, view=first.view)}.npy" for case in first.cases]
    due = [place for place, path in enumerate(paths) if not path.exists()]
    if due:
        for place, one in zip(due, _made(model, windows, method=method, cases=due), strict=True):
            content = BytesIO()
            np.save(content, one, allow_pickle=False)
            write_bytes(paths[place], content.getvalue(), durable=False)
    return np.stack([np.load(path, allow_pickle=False) for path in paths])


def _made(
    model: nn.Module, windows: Sequence[VolumeDataset], *, method: str, cases: Sequence[int]
) -> Maps:
    """Explain some cases."""
    found = []
    for one in windows:
        images = torch.stack([one[index][0] for index in cases])
        parts = [explain(model, part, method=method).values for part in torch.split(images, _BATCH)]
        found.append(torch.cat(parts).float().cpu().numpy())
    return np.stack(found, axis=1)


def _identity(model: nn.Module, cases: VolumeDataset) -> str:
    """Hash a model's weights and what it is shown."""
    digest = sha256(repr(cases.preprocessing).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
