"""The frozen backbone's features: computed once a picture, kept on disk.

A *feature* vector is what comes into the model's classifier. It depends on the backbone's weights,
on the preprocessing and the picture, so the hash of those is its address: training a head for
another fold, seed or setting computes nothing again, and a changed picture or weight is never
taken for the old one. Pictures are cached in chunks; each file is written whole or not at all, so a
stopped run goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from vitrail.data.cache import cache_key
from vitrail.data.loader import PictureDataset
from vitrail.models.heads import classifier, features_seen
from vitrail.records import Progress, no_progress
from vitrail.runfolder import write_bytes
from vitrail.training.predict import device_of

CHUNK = 64
"""Pictures a file of the cache."""


def extract(
    model: nn.Module,
    pictures: PictureDataset,
    *,
    folder: Path,
    batch_size: int = 32,
    share: slice = slice(None),
    meet: Callable[[], None] = lambda: None,
    progress: Progress = no_progress,
) -> Float[np.ndarray, "case dim"]:
    """Run the backbone over pictures, or read what it said of them before.

    Args:
        model: Ends in one linear classifier, whose weights do not matter. It is run in eval mode
            and left as it was.
        pictures: With augmentation, the features of the current epoch's views.
        folder: Of the cache, made if need be.
        batch_size: Pictures at a time.
        share: Which of the missing chunks this process computes, of several that share a folder.
        meet: Waits until all of them have.
        progress: Told after each chunk.

    Returns:
        Float32, one row a case.

    Raises:
        InputError: If the model does not end in a linear classifier.
        UnreadableFileError: If a picture cannot be decoded.
    """
    backbone = _backbone_key(model)
    chunks = [
        range(start, min(start + CHUNK, len(pictures))) for start in range(0, len(pictures), CHUNK)
    ]
    paths = [folder / backbone / f"{_chunk_key(pictures, chunk)}.npy" for chunk in chunks]
    own = list(zip(chunks, paths, strict=True))[share]
    for done, (chunk, path) in enumerate(own, start=1):
        if not path.exists():
            content = BytesIO()
            np.save(content, _computed(model, pictures, chunk, batch_size), allow_pickle=False)
            write_bytes(path, content.getvalue())
        progress("features", done=done, total=len(own))
    meet()
    return np.concatenate([np.load(path, allow_pickle=False) for path in paths])


def _computed(
    model: nn.Module, pictures: PictureDataset, chunk: Sequence[int], batch_size: int
) -> Float[np.ndarray, "case dim"]:
    """Run the backbone over some pictures."""
    was_training = model.training
    model.eval()
    try:
        with features_seen(model) as seen, torch.inference_mode():
            for start in range(0, len(chunk), batch_size):
                images = [pictures[index][0] for index in chunk[start : start + batch_size]]
                model(torch.stack(images).to(device_of(model)))
    finally:
        model.train(was_training)
    return torch.cat(seen).float().cpu().numpy()


def _backbone_key(model: nn.Module) -> str:
    """Hash a model's structure and its weights, those of the classifier left out."""
    head = classifier(model)[0]
    digest = sha256(str(type(model)).encode())
    for name, value in model.state_dict().items():
        if not name.startswith(f"{head}."):
            digest.update(f"{name}{list(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _chunk_key(pictures: PictureDataset, chunk: Sequence[int]) -> str:
    """Hash what some pictures look like to the model."""
    preprocessing = pictures.preprocessing
    digest = sha256(repr((preprocessing.mean, preprocessing.std)).encode())
    if pictures.augment is not None:
        digest.update(repr((pictures.augment, pictures.seed, pictures.epoch)).encode())
    for index in chunk:
        case = pictures.cases[index]
        path = pictures.root / case.path
        content = path.read_bytes() if path.is_file() else pictures.pixels(index).tobytes()
        digest.update(f"{case.case_id} {cache_key(content, preprocessing)}".encode())
    return digest.hexdigest()[:32]
