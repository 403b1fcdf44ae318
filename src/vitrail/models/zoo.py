"""Which models there are, and how one is built from its description.

==========================  =====================================================================
``architecture``            the model
==========================  =====================================================================
``vit``                     timm's ``VisionTransformer`` from scratch, by its parameters
``attention_classifier``    patches, self-attention, mean, linear layer: `attention_classifier`
any name that timm knows    e.g. ``vit_small_patch16_224``, ``resnet18``, ``efficientnet_b0``
==========================  =====================================================================

Nothing is downloaded unless ``pretrained=True`` is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import TypeAdapter, ValidationError
from timm.models import VisionTransformer
from torch import Tensor, nn

from vitrail.errors import InputError
from vitrail.models.attention_classifier import AttentionClassifier
from vitrail.models.heads import build_head, classifier, put_head
from vitrail.models.weights import blank_head, load_weights

_OVER_A_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

SMALL_VIT: Mapping[str, Any] = {
    "patch_size": 16,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "global_pool": "avg",
    "class_token": False,
}
"""Parameters of the ``vit`` that is trained from scratch on small data."""

CNN_LADDER: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("resnet10t", {"channels": (16, 32, 64, 128), "stem_width": 8}),
    ("resnet10t", {"channels": (32, 64, 128, 256), "stem_width": 16}),
    ("resnet10t", {}),
    ("resnet18", {}),
    ("resnet34", {}),
    ("resnet50", {}),
    ("resnet101", {}),
)
"""CNN baselines from the cheapest to the dearest: plain residual networks, one family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything that a model is built from, except its weights' values.

    Attributes:
        architecture: ``vit``, ``attention_classifier`` or a name that timm knows.
        num_classes: Length of the logits.
        img_size: (rows, columns) of the input in pixels.
        in_chans: 1 (grey) or 3 (color).
        parameters: Arguments of the architecture, such as ``patch_size`` or ``drop_path_rate``.
            For ``vit`` those of timm's ``VisionTransformer`` and ``conv_stem``. ``head`` describes
            another head than a linear one, see `vitrail.models.heads`.
        weights: Local file to start from; None starts untrained.
    """

    architecture: str
    num_classes: int
    img_size: tuple[int, int]
    in_chans: int = 3
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` takes back."""
        content: dict[str, Any] = _SPEC.dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: object) -> "ModelSpec":
        """Read what `to_json` wrote.

        Raises:
            InputError: If a field is missing, unknown or of the wrong kind; the message names it.
        """
        known = {"architecture", "num_classes", "img_size", "in_chans", "parameters", "weights"}
        unknown = sorted(content.keys() - known) if isinstance(content, dict) else []
        if unknown:
            raise InputError(
                f"model.{unknown[0]}", "an unknown field", f"known are {sorted(known)}", "remove it"
            )
        try:
            return _SPEC.validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"model.{'.'.join(map(str, first['loc']))}",
                repr(first["input"])[:80],
                first["msg"],
                "correct this field of the model's description",
            ) from error


_SPEC = TypeAdapter(ModelSpec)


class ConvStem(nn.Module):
    """Embed patches by a stack of 3 x 3 convolutions of stride 2 instead of one large one.

    Trains faster and more stably from scratch, at the cost of one transformer block.
    Stands in for timm's ``PatchEmbed``: the same arguments and attributes.

    Source:
        xiao2021, section 4.

    Differs:
        GELU in place of the paper's ReLU. In training a picture's tokens depend on its batch.
    """

    def __init__(
        self,
        *,
        img_size: int | tuple[int, int],
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        bias: bool = True,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        if patch_size != 2**halvings or halvings < 1 or dynamic_img_pad:
            raise InputError(
                "patch_size",
                str(patch_size),
                "a convolutional stem halves the picture again and again: 2, 4, 8, 16, …",
                "choose one of these, or leave conv_stem out",
            )
        rows, columns = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (rows, columns)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (rows // patch_size, columns // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers: list[nn.Module] = []
        width = in_chans
        for halving in range(halvings, 0, -1):
            wider = max(8, embed_dim >> (halving - 1))
            layers += [
                nn.Conv2d(width, wider, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.GELU(),
            ]
            width = wider
        self.layers = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, embed_dim, 1, bias=bias)
        self.to(device=device, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Return one token a patch, row by row: [batch, patch, dim]."""
        patches: Tensor = self.proj(self.layers(images))
        return patches.flatten(2).transpose(1, 2)


def build(
    spec: ModelSpec, *, seed: int = 0, pretrained: bool = False, offline: bool = False
) -> nn.Module:
    """Build a model and fill it.

    Args:
        spec: What to build; with ``spec.weights`` it starts from that file.
        seed: Of the untrained weights. The caller's random state is left as it is.
        pretrained: Start from the weights of the hub; needs the network.
        offline: Refuse ``pretrained``, whatever asks for it.

    Returns:
        The model, in training mode.

    Raises:
        InputError: If the description fits no model.
        DataError: If the weights' file cannot be read.
    """
    if pretrained and (offline or spec.weights is not None):
        came = "--offline" if offline else f"the weights {spec.weights}"
        raise InputError(
            "pretrained", f"asked for together with {came}", "only one can hold", "drop one of them"
        )
    parameters = dict(spec.parameters)
    head = parameters.pop("head", None)
    body = replace(spec, parameters=parameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS.get(spec.architecture, _timm_model)(body, pretrained=pretrained)
        if spec.weights is not None:
            load_weights(model, spec.weights)
        if (
            pretrained
            and getattr(model, "pretrained_cfg", {}).get("num_classes") != spec.num_classes
        ):
            blank_head(model)
        if head is not None:
            dim = classifier(model)[1].in_features
            put_head(model, build_head(head, dim=dim, num_classes=spec.num_classes))
    return model


def normalizes_over_batch(spec: ModelSpec) -> bool:
    """Tell whether a model has batch normalization, as most convolutional networks have.

    Raises:
        InputError: If the description fits no model.
    """
    model = build(replace(spec, weights=None))
    return any(isinstance(part, _OVER_A_BATCH) for part in model.modules())


def _vision_transformer(spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    """Build timm's Vision Transformer from its parameters."""
    _refuse_pretrained(spec, pretrained=pretrained)
    parameters = dict(spec.parameters)
    if parameters.pop("conv_stem", False):
        parameters["embed_layer"] = ConvStem
    patch = parameters.get("patch_size", 16)
    _check_parameters(spec, VisionTransformer.__init__, extra=("conv_stem",))
    if spec.img_size[0] % patch or spec.img_size[1] % patch:
        raise InputError(
            "img_size",
            f"{spec.img_size[0]} x {spec.img_size[1]} px",
            f"its sides must be multiples of patch_size ({patch})",
            "change one of the two",
        )
    return _constructed(
        spec,
        lambda: VisionTransformer(
            img_size=spec.img_size,
            in_chans=spec.in_chans,
            num_classes=spec.num_classes,
            **parameters,
        ),
    )


def _attention_classifier(spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    """Build the plain attention classifier."""
    _refuse_pretrained(spec, pretrained=pretrained)
    _check_parameters(spec, AttentionClassifier.__init__)
    return AttentionClassifier(
        img_size=spec.img_size,
        in_chans=spec.in_chans,
        num_classes=spec.num_classes,
        **spec.parameters,
    )


_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "vit": _vision_transformer,
    "attention_classifier": _attention_classifier,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedInput:
    """What an architecture's published weights were trained on.

    Attributes:
        size_px: Rows and columns of a picture.
        mean: Of each of three channels in [0, 1].
        std: Of each of three channels.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def trained_input(architecture: str) -> TrainedInput:
    """Return what timm knows of the input of an architecture's weights.

    Returns:
        224 px and .5 for everything where timm knows nothing.
    """
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    known = config.to_dict() if config is not None else {}
    return TrainedInput(
        size_px=known.get("input_size", (3, 224, 224))[-1],
        mean=tuple(known.get("mean", (0.5,) * 3)),
        std=tuple(known.get("std", (0.5,) * 3)),
    )


def _timm_model(spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    """Build a model that timm knows by name."""
    name = spec.architecture
    hub = name.startswith(("hf-hub:", "hf_hub:"))
    if not hub and not timm.is_model(name.partition(".")[0]):
        near = get_close_matches(name, [*_BUILDERS, *timm.list_models()], n=3, cutoff=0.4)
        raise InputError(
            "architecture",
            repr(name),
            "it must be 'vit', 'attention_classifier' or a name that timm knows",
            f"perhaps {', '.join(near)}" if near else "see timm.list_models()",
        )
    if hub and not pretrained:
        raise InputError(
            "architecture",
            repr(name),
            "a model of the hub is fetched only if that is asked for",
            "allow it (pretrained=True), or name a timm model and a local weights file",
        )
    arguments = dict(spec.parameters)
    if not hub and getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        arguments["img_size"] = spec.img_size
    return _constructed(
        spec,
        lambda: timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=spec.num_classes,
            in_chans=spec.in_chans,
            **arguments,
        ),
    )


def _constructed(spec: ModelSpec, make: Callable[[], nn.Module]) -> nn.Module:
    """Call a constructor of timm's, and say in our words what it could not use."""
    try:
        return make()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model {spec.architecture}",
            f"{dict(spec.parameters)} gave {type(error).__name__}: {error}",
            "timm must be able to build it (and to fetch it, where the hub was asked for)",
            "correct the parameters, or give a local weights file",
        ) from error


def _check_parameters(
    spec: ModelSpec, constructor: Callable[..., object], *, extra: tuple[str, ...] = ()
) -> None:
    """Refuse a parameter that the constructor does not have, naming the nearest.

    Raises:
        InputError: If there is one.
    """
    given_by_spec = {"self", "img_size", "in_chans", "num_classes", "device", "dtype"}
    known = [*(set(signature(constructor).parameters) - given_by_spec), *extra]
    for name in spec.parameters:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            raise InputError(
                f"parameters.{name}",
                "an unknown parameter",
                f"{spec.architecture} has {', '.join(sorted(known))}",
                f"perhaps {near[0]}",
            )


def _refuse_pretrained(spec: ModelSpec, *, pretrained: bool) -> None:
    """Refuse weights that cannot exist.

    Raises:
        InputError: If the hub is asked for a model that is built from its parameters.
    """
    if pretrained:
        raise InputError(
            "pretrained",
            f"asked for {spec.architecture}",
            "the hub has weights of named timm models only",
            "name a timm model, or train from scratch",
        )


def like_cost_cnn(vit: ModelSpec, cost: Callable[[ModelSpec], float]) -> ModelSpec:
    """Choose the CNN baseline whose training costs most nearly what the transformer's does.

    Args:
        vit: The transformer; the baseline gets its input and classes.
        cost: Seconds a training step of a model, e.g. a timing of the built model.

    Returns:
        The rung of `CNN_LADDER` with the nearest cost as a ratio.
    """
    target = cost(vit)
    best = vit
    smallest = float("inf")
    for architecture, parameters in CNN_LADDER:
        rung = replace(vit, architecture=architecture, parameters=parameters, weights=None)
        seconds = cost(rung)
        distance = max(seconds / target, target / seconds)
        if distance > smallest:
            break
        best, smallest = rung, distance
    return best
