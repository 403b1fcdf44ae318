"""Where a model keeps its patches: prefix tokens, patch grid, and the rows it reads the answer from.

Found from the model's own attributes (no model library is imported), settled where attributes are
silent by a gradient through the head of one recorded image, and always checked against the number
of tokens that the trace saw. What cannot be determined raises; one argument overrides it.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import AnatomyError
from vitrail.explain.target import logits_of
from vitrail.explain.trace import AttentionLayer, AttentionTrace, capture

Readout = Literal["cls", "patch_mean", "token_mean", "cls_and_patch_mean", "distilled", "map"]
"""Which rows of the last layer the answer is read from.

``cls`` the class token (token 0) · ``patch_mean`` the mean of the patches · ``token_mean`` the mean of
all tokens · ``cls_and_patch_mean`` both, side by side (DINOv2's linear head) · ``distilled`` the mean of
class and distillation token · ``map`` attention pooling: a learned query over the tokens.
"""

_PREFIX_NAMES = frozenset(
    {
        "cls_token", "class_token", "class_embedding", "dist_token", "distillation_token",
        "reg_token", "register_tokens", "reg_tokens", "register_token",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A model's tokens as attention sees them.

    Attributes:
        num_prefix_tokens: Tokens before the patches (class, distillation, registers).
        grid_size: Rows and columns of the patch grid.
        readout: Which rows the answer is read from.
    """

    num_prefix_tokens: int
    grid_size: tuple[int, int]
    readout: Readout

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        needed = {"cls": 1, "cls_and_patch_mean": 1, "distilled": 2}.get(self.readout, 0)
        if self.readout not in get_args(Readout):
            rule = f"it must be one of {', '.join(get_args(Readout))}"
            raise AnatomyError("readout", repr(self.readout), rule, "pass one of these")
        if self.num_prefix_tokens < needed or min(self.grid_size) < 1:
            raise AnatomyError(
                "anatomy",
                f"{self.num_prefix_tokens} prefix tokens, grid {self.grid_size}",
                f"the read-out {self.readout!r} needs at least {needed} prefix tokens and one patch",
                "pass the model's real layout",
            )

    @property
    def num_patches(self) -> int:
        """Patches of the grid."""
        return self.grid_size[0] * self.grid_size[1]

    @property
    def num_tokens(self) -> int:
        """Prefix tokens and patches."""
        return self.num_prefix_tokens + self.num_patches

    def readout_row(self, like: Tensor) -> Float[Tensor, " token"]:
        """Return the weights, summing to one, with which the answer is read from the tokens.

        Args:
            like: Gives device and type.

        Raises:
            AnatomyError: For attention pooling, whose weights are the pool's own attention.
        """
        weights = like.new_zeros(self.num_tokens)
        prefix = self.num_prefix_tokens
        if self.readout == "map":
            raise AnatomyError(
                "readout", "'map'", "its weights are the pool's attention", "use Encoder.pool"
            )
        if self.readout in {"cls", "cls_and_patch_mean"}:
            weights[0] = 1.0
        elif self.readout == "distilled":
            weights[:2] = 0.5
        if self.readout == "token_mean":
            weights[:] = 1.0 / self.num_tokens
        elif self.readout in {"patch_mean", "cls_and_patch_mean"}:
            weights[prefix:] = 1.0 / self.num_patches
        return weights / weights.sum()


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoder:
    """A trace that fits its anatomy.

    Attributes:
        layers: Self-attention over all tokens, nearest the input first.
        pool: The attention pooling after them (read-out ``map``), else None. Its keys are the last
            tokens: all of them, or the patches alone.
    """

    layers: tuple[AttentionLayer, ...]
    pool: AttentionLayer | None


def fit_trace(trace: AttentionTrace, anatomy: Anatomy, *, batch: int) -> Encoder:
    """Check a trace against the anatomy and split off the attention pooling.

    Raises:
        AnatomyError: If any layer is not attention of all tokens to all tokens of ``batch`` images.
    """
    layers, pool = list(trace.layers), None
    if anatomy.readout == "map":
        pool = layers.pop()
        if pool.shape[3] not in {anatomy.num_tokens, anatomy.num_patches} or pool.shape[0] != batch:
            raise _misfit(trace, anatomy, batch)
    tokens = anatomy.num_tokens
    if not layers or any(
        (layer.shape[0], *layer.shape[2:]) != (batch, tokens, tokens) for layer in layers
    ):
        raise _misfit(trace, anatomy, batch)
    return Encoder(layers=tuple(layers), pool=pool)


def _misfit(trace: AttentionTrace, anatomy: Anatomy, batch: int) -> AnatomyError:
    """Say what was seen and what was expected."""
    rows, columns = anatomy.grid_size
    expected = (
        f"every layer must attend from {anatomy.num_tokens} tokens ({anatomy.num_prefix_tokens} "
        f"prefix + {rows}x{columns} patches) to as many, for {batch} images"
    )
    batches = {layer.shape[0] for layer in trace.layers}
    sizes = {layer.shape[2:] for layer in trace.layers}
    if batches - {batch} or len(sizes) > 2 or any(a != b for a, b in sizes):
        remedy = (
            "windowed, pooled or folded attention has no row form: use a gradient or black-box "
            "method (see vitrail.explain.methods())"
        )
    else:
        remedy = "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)"
    return AnatomyError("model", f"{trace.summary()} for {batch} images", expected, remedy)


def anatomy(model: nn.Module, images: Tensor | None = None) -> Anatomy:
    """Find a model's prefix tokens, patch grid and read-out.

    Args:
        model: Any Vision Transformer.
        images: [batch, channel, height, width]; one of them is run where the attributes do not say
            which rows are read. Without them the model's own image size is taken.

    Raises:
        AnatomyError: If something cannot be determined; the message names what was seen.
    """
    patch = patch_size(model)
    if patch is None:
        raise AnatomyError(
            "model",
            f"{type(model).__name__} shows no patch embedding",
            "a patch grid needs a patch_size attribute or a convolution whose stride is its kernel",
            "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)",
        )
    if images is None:
        images = _any_image(model)
    height, width = images.shape[-2:]
    grid = (height // patch[0], width // patch[1])
    prefix = _num_prefix_tokens(model)
    return Anatomy(
        num_prefix_tokens=prefix,
        grid_size=grid,
        readout=_declared_readout(model) or _probed_readout(model, images[:1], prefix, grid),
    )


def patch_size(model: nn.Module) -> tuple[int, int] | None:
    """Return rows and columns in pixels of one patch, or None if the model shows no patches."""
    for module in model.modules():
        size = getattr(module, "patch_size", None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            rows, columns = module.stride
            tiles = tuple(module.stride) == tuple(module.kernel_size) and rows > 1
            return (int(rows), int(columns)) if tiles else None
    return None


def _num_prefix_tokens(model: nn.Module) -> int:
    """Count the tokens before the patches."""
    for module in model.modules():
        declared = getattr(module, "num_prefix_tokens", None)
        if isinstance(declared, int):
            return declared
    return sum(
        parameter.shape[-2] if parameter.ndim > 1 else 1
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in _PREFIX_NAMES
    )


def _declared_readout(model: nn.Module) -> Readout | None:
    """Read the pooling from timm's attributes, if the model has them."""
    for module in model.modules():
        pool = getattr(module, "global_pool", None)
        if not isinstance(pool, str):
            continue
        if getattr(module, "attn_pool", None) is not None:
            return "map"
        if getattr(module, "dist_token", None) is not None and hasattr(module, "head_dist"):
            return "distilled"
        if pool == "token":
            return "cls"
        if pool == "avg":
            return "token_mean" if getattr(module, "pool_include_prefix", False) else "patch_mean"
        raise AnatomyError(
            "model",
            f"it pools by global_pool={pool!r}",
            "the rows must be read by class token, mean or attention pooling",
            "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)",
        )
    return None


def _probed_readout(
    model: nn.Module, image: Tensor, prefix: int, grid: tuple[int, int]
) -> Readout:
    """Find the read-out rows: those of the last layer's output that the logits depend on."""
    with torch.enable_grad(), capture(model) as trace:
        logits = logits_of(model(image.detach().clone().requires_grad_()))
    last = trace.layers[-1]
    queries = last.shape[2]
    if queries != prefix + grid[0] * grid[1]:
        raise AnatomyError(
            "model",
            trace.summary(),
            f"{prefix} prefix tokens and {grid[0]}x{grid[1]} patches were found from its attributes",
            "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)",
        )
    weights = torch.linspace(1.0, 2.0, logits.shape[1], device=logits.device, dtype=logits.dtype)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), [last.output])
    read = gradient.reshape(last.shape[1], queries, -1).abs().sum(dim=(0, 2)) > 0
    rows = read.nonzero().flatten().tolist()
    everything, patches = list(range(queries)), list(range(prefix, queries))
    if rows == [0] and prefix:
        return "cls"
    if rows == [0, 1] and prefix >= 2:
        return "distilled"
    if rows == patches:
        return "patch_mean"
    if rows == everything:
        return "cls_and_patch_mean" if _has_double_head(model, last) else "token_mean"
    raise AnatomyError(
        "model",
        f"its answer depends on the rows {rows} of the last layer",
        f"of {queries} tokens with {prefix} before the patches, the class token, a pair, the patches "
        "or all must be read",
        "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)",
    )


def _has_double_head(model: nn.Module, last: AttentionLayer) -> bool:
    """Tell whether a linear layer reads class token and patch mean side by side."""
    width = last.shape[1] * last.value.shape[-1]
    return any(
        isinstance(module, nn.Linear) and module.in_features == 2 * width
        and module.out_features not in {width, 2 * width}
        for module in list(model.modules())[-3:]
    )


def _any_image(model: nn.Module) -> Float[Tensor, "1 channel height width"]:
    """Make one image of the size that the model names as its own.

    Raises:
        AnatomyError: If it names none.
    """
    size = _image_size(model)
    convolution = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    channels = convolution.in_channels if convolution is not None else 3
    if size is None:
        raise AnatomyError(
            "images",
            f"None, and {type(model).__name__} names no image size",
            "the grid follows from the image size",
            "pass images, [batch, channel, height, width]",
        )
    parameter = next(model.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, channels, *size, generator=generator).to(parameter)


def _image_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the first ``img_size`` or ``image_size`` that a module names."""
    for module in model.modules():
        for name in ("img_size", "image_size"):
            size = getattr(module, name, None)
            if isinstance(size, int):
                return size, size
            if isinstance(size, (tuple, list)) and len(size) == 2:
                return int(size[0]), int(size[1])
    return None
