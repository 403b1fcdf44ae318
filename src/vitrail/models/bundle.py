"""The model folder: weights and everything needed to use them, in two files that any tool can read.

``model.safetensors`` holds the tensors, ``model.json`` the architecture, the class names, the
preprocessing and what else the caller records (thresholds, the training's fingerprint). The JSON
names the hash of the weights, so that the two cannot be mixed up. Nothing is ever unpickled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from vitrail.errors import InputError, RunFolderError
from vitrail.models.zoo import ModelSpec, build
from vitrail.records import Preprocessing
from vitrail.runfolder import read_json, write_bytes, write_json

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1
_PREPROCESSING = TypeAdapter(Preprocessing)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model that is ready to predict.

    Attributes:
        model: In eval mode, on the CPU.
        spec: What it was built from.
        classes: Name of each logit.
        preprocessing: How a picture becomes its input.
        extra: What else was recorded with it.
    """

    model: nn.Module
    spec: ModelSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extra: Mapping[str, Any]


def save(
    folder: Path,
    *,
    model: nn.Module,
    spec: ModelSpec,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    extra: Mapping[str, Any],
) -> None:
    """Write a model folder; each file whole or not at all, the description last.

    Args:
        folder: Where; it is made if need be.
        model: The trained model.
        spec: What it was built from.
        classes: Name of each logit.
        preprocessing: How a picture becomes its input.
        extra: JSON values to keep with it, e.g. ``thresholds`` and ``training``.

    Raises:
        InputError: If the description does not fit itself.
    """
    _check_classes(spec, classes)
    _check_preprocessing(spec, preprocessing)
    tensors = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    weights = tensors_to_bytes({name: value.contiguous() for name, value in tensors.items()})
    description = {
        "format": FORMAT,
        "architecture": spec.to_json(),
        "classes": list(classes),
        "preprocessing": asdict(preprocessing),
        "weights_sha256": sha256(weights).hexdigest(),
        "extra": dict(extra),
    }
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / DESCRIPTION, description)


def load(folder: Path) -> Bundle:
    """Read a model folder.

    Raises:
        RunFolderError: If a file is missing, damaged, or does not belong to the other.
        InputError: If the description fits no model, or not itself.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise RunFolderError(
                str(folder),
                f"it holds no {name}",
                f"a model folder holds {WEIGHTS} and {DESCRIPTION}",
                "name the folder of a trained model",
            )
    description = _read_description(folder / DESCRIPTION)
    weights = (folder / WEIGHTS).read_bytes()
    if sha256(weights).hexdigest() != description["weights_sha256"]:
        raise RunFolderError(
            str(folder / WEIGHTS),
            "its content is not what model.json was written for",
            "both files are written together",
            "copy both again, or train again",
        )
    spec = ModelSpec.from_json(description["architecture"])
    _check_classes(spec, description["classes"])
    preprocessing = _read_preprocessing(folder, description["preprocessing"])
    _check_preprocessing(spec, preprocessing)
    model = build(replace(spec, weights=None))
    try:
        model.load_state_dict(tensors_from_bytes(weights))
    except (RuntimeError, SafetensorError) as error:
        raise RunFolderError(
            str(folder / WEIGHTS),
            f"its tensors are not those of the model that {DESCRIPTION} describes",
            "both files are written together",
            "copy both again, or train again",
        ) from error
    return Bundle(
        model=model.eval(),
        spec=spec,
        classes=tuple(description["classes"]),
        preprocessing=preprocessing,
        extra=description["extra"],
    )


def _read_description(path: Path) -> dict[str, Any]:
    """Read ``model.json`` and check that it is one that this version understands.

    Raises:
        RunFolderError: If it is not.
    """
    description = read_json(path)
    fields = {"format", "architecture", "classes", "preprocessing", "weights_sha256", "extra"}
    if not isinstance(description, dict) or not fields <= description.keys():
        raise RunFolderError(
            str(path),
            "not the description of a model",
            f"it must have the fields {', '.join(sorted(fields))}",
            "name the folder of a model that vitrail trained",
        )
    if description["format"] != FORMAT:
        raise RunFolderError(
            str(path),
            f"format {description['format']}",
            f"this version reads format {FORMAT}",
            "use the version of vitrail that wrote it",
        )
    return description


def _read_preprocessing(folder: Path, content: object) -> Preprocessing:
    """Read the preprocessing.

    Raises:
        RunFolderError: If a field is missing or of the wrong kind.
    """
    try:
        return _PREPROCESSING.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RunFolderError(
            str(folder / DESCRIPTION),
            f"preprocessing.{'.'.join(map(str, first['loc']))} is {first['input']!r}",
            first["msg"],
            "restore the file as it was written",
        ) from error


def _check_classes(spec: ModelSpec, classes: object) -> None:
    """Refuse class names that do not fit the logits.

    Raises:
        InputError: If they do not.
    """
    names = classes if isinstance(classes, list | tuple) else ()
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        rule = "each class has a name of its own"
        raise InputError("classes", f"{classes!r:.80}", rule, "name each class once")
    if len(names) != spec.num_classes:
        raise InputError(
            "classes",
            f"{len(names)} names",
            f"the model has {spec.num_classes} logits",
            "name each class once",
        )


def _check_preprocessing(spec: ModelSpec, preprocessing: Preprocessing) -> None:
    """Refuse a preprocessing whose pictures the model cannot take.

    Raises:
        InputError: If it is one.
    """
    if spec.img_size != preprocessing.image_size or spec.in_chans != preprocessing.channels:
        raise InputError(
            "preprocessing",
            f"{preprocessing.image_size} px, {preprocessing.channels} channels",
            f"the model takes {spec.img_size} px, {spec.in_chans} channels",
            "take the preprocessing that the model was trained with",
        )
    lengths = {len(preprocessing.mean), len(preprocessing.std)}
    if lengths != {preprocessing.channels} or not min(preprocessing.std) > 0:
        raise InputError(
            "preprocessing",
            f"mean {preprocessing.mean}, std {preprocessing.std}",
            f"each has {preprocessing.channels} numbers, and those of std are above 0",
            "take the preprocessing that the model was trained with",
        )
