"""One case before its model, ready to be drawn: its input, its tokens, where they look."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from vitrail.data.cohort import load_cohort
from vitrail.errors import InputError
from vitrail.evaluation.table import read_predictions
from vitrail.explain import Anatomy, anatomy, attention_matrices
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.closeup import choose
from vitrail.pipeline.ledger import require_run
from vitrail.pipeline.train import dataset
from vitrail.records import Cohort
from vitrail.runfolder import RunFolder

RESIDUAL = 0.5
"""Share of the identity in rollout: the paper's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """A case and the model that did not train on it.

    Attributes:
        case_id: The case.
        label: Its class.
        loaded: The model.
        image: Its input, a batch of one.
        layout: Where the model keeps its patches.
    """

    case_id: str
    label: str
    loaded: bundle.Bundle
    image: Float[Tensor, "1 channel height width"]
    layout: Anatomy

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode."""
        return self.loaded.model

    @property
    def patch_px(self) -> int:
        """Side of a patch."""
        return self.image.shape[-1] // self.layout.grid_size[1]

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the input as a picture: what the model was shown, padding included."""
        preprocessing = self.loaded.preprocessing
        mean, std = (
            np.asarray(one)[:, None, None] for one in (preprocessing.mean, preprocessing.std)
        )
        values = np.clip(self.image[0].numpy() * std + mean, 0, 1)
        pixels = np.rint(np.moveaxis(values, 0, 2) * 255).astype(np.uint8)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()

    def probabilities(self) -> dict[str, float]:
        """Return what the model says, the likeliest class first."""
        with torch.no_grad():
            logits = self.model(self.image)[0].double()
        several = bool(self.loaded.extra.get("multi_label", False))
        said = logits.sigmoid() if several else logits.softmax(dim=-1)
        named = zip(self.loaded.classes, said.tolist(), strict=True)
        return dict(sorted(named, key=lambda pair: -pair[1]))

    def on_grid(self, tokens: Float[Tensor, "*any token"]) -> Float[np.ndarray, "*any row column"]:
        """Leave the prefix tokens out and lay the patches on their grid."""
        patches = tokens[..., self.layout.num_prefix_tokens :]
        return patches.reshape(*patches.shape[:-1], *self.layout.grid_size).numpy()


class Studio:
    """A trained run, opened once for many portraits."""

    def __init__(self, run: RunFolder) -> None:
        require_run(run)
        self.run = run
        self.plan: Plan = read_plan(run.require(run.plan, "plan"))
        self.cohort: Cohort = load_cohort(run.cohort)
        self._folds = crossvalidation.read(run, self.cohort, plan=self.plan)
        self._models: dict[int, bundle.Bundle] = {}

    def surest(self) -> list[str]:
        """List test cases worth a look: for each class the surest right and wrong ones."""
        path = self.run.require(self.run.predictions, "evaluate")
        said = [one for one in read_predictions(path) if (one.model, one.split) == ("vit", "test")]
        return choose(crossvalidation.together(said)[0])

    def portrait(self, case_id: str = "") -> Portrait:
        """Open a case; by default the first of :meth:`surest`.

        Raises:
            InputError: If there is no such case; the nearest is named.
            RunFolderError: If the run is not trained.
        """
        case_id = case_id or self.surest()[0]
        known = {case.case_id: case for case in self.cohort}
        if case_id not in known:
            near = get_close_matches(case_id, known, n=1, cutoff=0.0)[0]
            rule = "a case is named as in cohort.csv"
            raise InputError("--case", repr(case_id), rule, f"perhaps {near!r}")
        fold = next(
            number
            for number in range(self.plan.folds.value)
            if self._folds.explained(number, everything=True)[case_id] == "test"
        )
        loaded = self._model(fold)
        shown = dataset(
            self.cohort,
            {name: "test" if name == case_id else "" for name in known},
            plan=self.plan,
            part="test",
            cache=self.run.cache,
        )
        image = shown[0][0][None]
        return Portrait(
            case_id=case_id,
            label=known[case_id].label,
            loaded=loaded,
            image=image,
            layout=anatomy(loaded.model, image),
        )

    def _model(self, fold: int) -> bundle.Bundle:
        """Load the model of a fold, of the first seed, once."""
        if fold not in self._models:
            folder = self.run.model("vit", seed=self.plan.seed.value, fold=fold)
            self.run.require(folder / bundle.DESCRIPTION, "train")
            self._models[fold] = bundle.load(folder)
        return self._models[fold]


def rollouts(one: Portrait) -> Float[np.ndarray, "layer row column"]:
    """Return attention rollout read out after each layer: the last is the whole rollout.

    The read-out row goes down from layer l through ``½ I + ½ mean_h A`` of every layer below it.
    """
    fused = attention_matrices(one.model, one.image).mean(dim=1)
    maps = []
    for last in range(len(fused)):
        row = one.layout.readout_row(fused)
        for attention in reversed(fused[: last + 1]):
            row = RESIDUAL * row + (1 - RESIDUAL) * row @ attention
        maps.append(one.on_grid(row))
    return np.stack(maps)


def distances(one: Portrait) -> tuple[Float[np.ndarray, "layer head"], float]:
    """Return how far each head looks, in px of the input, and how far even attention would.

    The mean over all patches of ``Σ_k A[q, k] · |q - k|``; attention to prefix tokens is left out
    and the rest made to sum to one.

    Source: dosovitskiy2021image, appendix, attention distance.
    """
    prefix = one.layout.num_prefix_tokens
    attention = attention_matrices(one.model, one.image)[..., prefix:, prefix:]
    attention = attention / attention.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    rows, columns = one.layout.grid_size
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(attention.dtype)
    apart = torch.cdist(places, places) * one.patch_px
    return (attention * apart).sum(dim=-1).mean(dim=-1).numpy(), float(apart.mean())


def positions(one: Portrait) -> Float[np.ndarray, "row column other_row other_column"]:
    """Return the likeness (cosine) of each patch's position embedding to every other's.

    Raises:
        InputError: If the model has no learned embedding of its patches' positions.
    """
    embedding = getattr(one.model, "pos_embed", None)
    count = one.layout.num_patches
    if not isinstance(embedding, Tensor) or embedding.shape[-2] < count:
        raise InputError(
            "figure",
            "the model has no learned position embedding",
            "there is a vector a position to compare",
            "take a run of model vit, or of one of timm's vit_ or deit_ models",
        )
    patches = nn.functional.normalize(embedding.detach()[0, -count:].float(), dim=-1)
    grid = one.layout.grid_size
    return (patches @ patches.T).reshape(*grid, *grid).numpy()


def tokens(one: Portrait) -> Mapping[str, Float[Tensor, "token dim"]]:
    """Return the tokens of the patches after the embedding and after the last block.

    Raises:
        InputError: If the model does not name its parts ``patch_embed`` and ``blocks``.
    """
    embed, blocks = getattr(one.model, "patch_embed", None), getattr(one.model, "blocks", None)
    if not isinstance(embed, nn.Module) or not isinstance(blocks, nn.Module):
        rule = "its parts are called patch_embed and blocks"
        raise InputError("figure", type(one.model).__name__, rule, "take a ViT of timm, or vit")
    last = list(blocks.children())[-1]
    with _kept({"embedding": embed, "encoder": last}) as found, torch.no_grad():
        one.model(one.image)
    count = one.layout.num_patches
    return {name: value[0].reshape(-1, value.shape[-1])[-count:] for name, value in found.items()}


@contextmanager
def _kept(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keep what some modules answer within the block."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, answer, name=name: found.__setitem__(name, answer.detach())
        )
        for name, module in modules.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def in_color(
    values: Float[Tensor, "patch dim"], grid: tuple[int, int], *, cell_px: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Color patches by the three directions in which their tokens differ most."""
    centered = (values - values.mean(dim=0)).double()
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    scores = (centered @ directions[:3].T).numpy()
    scores = np.pad(scores, ((0, 0), (0, 3 - scores.shape[1])))
    low, high = np.percentile(scores, (2, 98), axis=0)
    shares = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    pixels = np.rint(shares.reshape(*grid, 3) * 255).astype(np.uint8)
    size = (grid[1] * cell_px, grid[0] * cell_px)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))
