"""Where a model keeps its patches: prefix tokens, patch grid, and the rows the answer is read from.

Found from the model's own attributes (no model library is imported), settled where attributes are
silent by a gradient through the head of one recorded image, and always checked against the number
of tokens that the trace saw. What cannot be determined raises; one argument overrides it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitrail.errors import AnatomyError
from vitrail.explain.target import logits_of
from vitrail.explain.trace import AttentionLayer, AttentionTrace, capture

_REMEDY = "pass anatomy=Anatomy(num_prefix_tokens=…, grid_size=…, readout=…)"
_WINDOWED = (
    "windowed, pooled or folded attention has no row form: use a gradient or black-box method (see "
    "vitrail.explain.methods())"
)
_WEIGHTINGS = frozenset({"mul", "__mul__", "__rmul__", "multiply"})
_MEANS = frozenset({"mean", "sum", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d"})

Readout = Literal["cls", "patch_mean", "token_mean", "cls_and_patch_mean", "distilled", "map"]
"""Which rows of the last layer the answer is read from.

``cls`` the class token (token 0) · ``patch_mean`` the mean of the patches · ``token_mean`` the mean
of all tokens · ``cls_and_patch_mean`` both, side by side (DINOv2's linear head) · ``distilled`` the
mean of class and distillation token · ``map`` attention pooling: a learned query over the tokens.
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
                f"the read-out {self.readout!r} needs {needed} or more prefix tokens, and a patch",
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
    if trace.side_by_side:
        raise AnatomyError(
            "model",
            f"{trace.summary()}, of which some work side by side on the same tokens",
            "a row is pushed down through one layer after another",
            "use a gradient or black-box method (see vitrail.explain.methods())",
        )
    layers, pool = list(trace.layers), None
    if anatomy.readout == "map":
        pool = layers.pop()
        if pool.shape[3] not in {anatomy.num_tokens, anatomy.num_patches} or pool.shape[0] != batch:
            raise _misfit(trace, anatomy, batch=batch)
    tokens = anatomy.num_tokens
    if not layers or any(
        (layer.shape[0], *layer.shape[2:]) != (batch, tokens, tokens) for layer in layers
    ):
        raise _misfit(trace, anatomy, batch=batch)
    return Encoder(layers=tuple(layers), pool=pool)


def _misfit(trace: AttentionTrace, anatomy: Anatomy, *, batch: int) -> AnatomyError:
    """Say what was seen and what was expected."""
    rows, columns = anatomy.grid_size
    expected = (
        f"every layer must attend from {anatomy.num_tokens} tokens ({anatomy.num_prefix_tokens} "
        f"prefix + {rows}x{columns} patches) to as many, for {batch} images"
    )
    remedy = _WINDOWED if _is_windowed(trace, batch) else _REMEDY
    return AnatomyError("model", f"{trace.summary()} for {batch} images", expected, remedy)


def _is_windowed(trace: AttentionTrace, batch: int) -> bool:
    """Tell whether attention is cut into windows, pooled, or folded with the batch."""
    sizes = {layer.shape[2:] for layer in trace.layers}
    return (
        any(layer.shape[0] != batch for layer in trace.layers)
        or len(sizes) > 2
        or any(queries != keys for queries, keys in sizes)
    )


def _no_patches(model: nn.Module, image: Tensor) -> AnatomyError:
    """Say that no patch embedding was found, and what the attention looks like.

    Raises:
        CaptureError: If there is no attention either.
    """
    with torch.no_grad(), capture(model, keep_output=False) as trace:
        model(image)
    return AnatomyError(
        "model",
        f"{type(model).__name__} shows no patch embedding; {trace.summary()}",
        "the grid needs a patch_size attribute or a first convolution whose stride is its kernel",
        _WINDOWED if _is_windowed(trace, 1) else _REMEDY,
    )


def anatomy(model: nn.Module, images: Tensor | None = None) -> Anatomy:
    """Find a model's prefix tokens, patch grid and read-out.

    Args:
        model: Any Vision Transformer.
        images: [batch, channel, height, width]; one of them is run where the attributes do not say
            which rows are read. Without them the model's own image size is taken.

    Raises:
        AnatomyError: If something cannot be determined; the message names what was seen.
    """
    if images is None:
        images = _any_image(model)
    patch = patch_size(model)
    if patch is None:
        raise _no_patches(model, images[:1])
    height, width = images.shape[-2:]
    grid = (height // patch[0], width // patch[1])
    prefix = _num_prefix_tokens(model)
    return Anatomy(
        num_prefix_tokens=prefix,
        grid_size=grid,
        readout=_declared_readout(model)
        or _probed_readout(model, images[:1], prefix=prefix, grid=grid, patch=patch),
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
    """Read the pooling from timm's attributes of the model itself (a part's could be overruled)."""
    model = getattr(model, "_orig_mod", model)
    pool = getattr(model, "global_pool", None)
    if not isinstance(pool, str):
        return None
    if getattr(model, "attn_pool", None) is not None:
        return "map"
    if getattr(model, "dist_token", None) is not None and hasattr(model, "head_dist"):
        return "distilled"
    if pool == "token":
        return "cls"
    if pool == "avg":
        return "token_mean" if getattr(model, "pool_include_prefix", False) else "patch_mean"
    raise AnatomyError(
        "model",
        f"it pools by global_pool={pool!r}",
        "the answer must be read by class token, mean or attention pooling",
        _REMEDY,
    )


@torch.inference_mode(mode=False)
def _probed_readout(
    model: nn.Module,
    image: Tensor,
    *,
    prefix: int,
    grid: tuple[int, int],
    patch: tuple[int, int],
) -> Readout:
    """Find the read-out rows: those of the last layer's output that the logits depend on.

    After the last attention no token sees another, so the gradient is zero at every other row.
    """
    with torch.enable_grad(), _MeanWatch() as means, capture(model) as trace:
        logits = logits_of(model(image.clone().requires_grad_()))
    tokens = prefix + grid[0] * grid[1]
    pooled = trace.layers[-1].shape[2] != tokens and len(trace) > 1
    guess = Anatomy(
        num_prefix_tokens=prefix, grid_size=grid, readout="map" if pooled else "token_mean"
    )
    fit_trace(trace, guess, batch=1)
    rows = _rows_read(logits, trace)
    _check_order(model, image, prefix=prefix, grid=grid, patch=patch)
    if pooled:
        return "map"
    patches = list(range(prefix, tokens))
    if rows == [0] and prefix:
        return "cls"
    if rows == [0, 1] and prefix >= 2:
        return "distilled"
    if means.ratios & {tokens, tokens - prefix}:
        if rows == patches:
            return "patch_mean"
        if rows == [0, *patches] and tokens - prefix in means.ratios and prefix:
            return "cls_and_patch_mean"
        if rows == list(range(tokens)) and tokens in means.ratios:
            return "token_mean"
    span = f"rows {rows[0]} to {rows[-1]} ({len(rows)} of {tokens})" if rows else "no row (zeros?)"
    raise AnatomyError(
        "model",
        f"its answer depends on {span} of the last layer, and the means seen average "
        f"{sorted(means.ratios) or 'nothing'}",
        f"with {prefix} tokens before the patches, the class token, a pair, a mean of patches or "
        "tokens, or attention pooling must be read",
        _REMEDY,
    )


def _rows_read(logits: Float[Tensor, "batch class"], trace: AttentionTrace) -> list[int]:
    """Return the rows of the last layer's output that the logits depend on.

    Raises:
        AnatomyError: If no gradient reaches them, or not every layer reaches the last one.
    """
    outputs = [layer.kept_output for layer in trace.layers]
    if not all(part.requires_grad for part in (logits, *outputs)):
        raise AnatomyError(
            "model",
            "its answer or its attention carries no gradient (torch.no_grad inside?)",
            "the tokens that are read are told by their gradient",
            _REMEDY,
        )
    reached = torch.autograd.grad(outputs[-1].sum(), outputs, retain_graph=True, allow_unused=True)
    if any(part is None for part in reached):
        raise AnatomyError(
            "model",
            f"{trace.summary()}, of which some do not reach the last one",
            "a row is pushed down through one layer after another",
            "explain each of the models that are put together here by itself",
        )
    weights = torch.linspace(1.0, 2.0, logits.shape[1]).to(logits)
    (gradient,) = torch.autograd.grad(
        (logits * weights).sum(), outputs[-1:], materialize_grads=True
    )
    _, heads, queries, _ = trace.layers[-1].shape
    read = gradient.reshape(heads, queries, -1).abs().sum(dim=(0, 2)) > 0
    found: list[int] = read.nonzero().flatten().tolist()
    return found


def _check_order(
    model: nn.Module,
    image: Tensor,
    *,
    prefix: int,
    grid: tuple[int, int],
    patch: tuple[int, int],
) -> None:
    """Check, by changing the picture at two corners, that tokens lie row by row after the prefix.

    Raises:
        AnatomyError: If another token than the patch's own changes most before the first attention.
    """
    corners = [(0, grid[1] - 1), (grid[0] - 1, 0)]
    pictures = image.repeat(3, 1, 1, 1)
    for picture, (row, column) in zip(pictures[1:], corners, strict=True):
        part = picture[:, row * patch[0] :, column * patch[1] :][:, : patch[0], : patch[1]]
        noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(0))
        part.copy_(noise.to(part))
    with torch.no_grad(), capture(model, keep_output=False) as trace:
        model(pictures)
    values = trace.layers[0].value.to(torch.float32)
    changes = (values[1:] - values[:1]).abs().sum(dim=(1, 3))
    for change, (row, column) in zip(changes, corners, strict=True):
        expected, found = prefix + row * grid[1] + column, int(change.argmax())
        if found != expected:
            raise AnatomyError(
                "model",
                f"the patch in row {row}, column {column} of {grid} is token {found}",
                f"with {prefix} tokens before the patches, row by row, it must be {expected}",
                "put the patches in this order (use a method on pixels until then)",
            )


class _MeanWatch(TorchFunctionMode):
    """Notes how many numbers each mean in the block averages, each with the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.ratios: set[int] = set()
        self._weighted: Tensor | None = None

    def __torch_function__(  # noqa: PLR0917 (torch's signature)
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func``; note it if it is a mean of what was not just weighted token by token."""
        result, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        if name in _MEANS and args and result.numel() and args[0] is not self._weighted:
            self.ratios.add(args[0].numel() // result.numel())
        elif name in _WEIGHTINGS and any(_varies_by_token(part) for part in args[:2]):
            self._weighted = result
        return result


def _varies_by_token(factor: object) -> bool:
    """Tell whether a factor is one number a token, [..., token, 1]."""
    return isinstance(factor, Tensor) and factor.shape[-1:] == (1,) and factor.shape[-2:-1] > (1,)


def _any_image(model: nn.Module) -> Float[Tensor, "1 channel height width"]:
    """Make one image of the size that the model names as its own.

    Raises:
        AnatomyError: If it names none.
    """
    size = image_size(model)
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


def image_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the first ``img_size`` or ``image_size`` that a module names."""
    for module in model.modules():
        for name in ("img_size", "image_size"):
            size = getattr(module, name, None)
            if isinstance(size, int):
                return size, size
            if isinstance(size, (tuple, list)) and len(size) == 2:
                return int(size[0]), int(size[1])
    return None
