"""Heads that a frozen backbone can be given in place of its linear classifier.

=========  ============================================================================
``kind``   the head
=========  ============================================================================
``mlp``    one hidden layer: linear, GELU, dropout, linear
``knn``    the nearest training pictures vote, by the cosine of their features
=========  ============================================================================

A head takes what the backbone's own classifier takes (its *features*), so that the whole is one
model: it is stored, predicts and is explained like any other.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from vitrail.errors import InputError

DROPOUT = 0.2
TEMPERATURE = 0.07
_LEAST = 1e-4


class NearestNeighbors(nn.Module):
    """The nearest training pictures vote, each by the softmax of its cosine similarity.

    Differentiable but where the neighbors change, so that gradient methods explain it.

    Args:
        dim: Length of the features.
        num_classes: Length of the logits.
        cases: Number of training pictures that are kept.
        neighbors: How many of them vote.
        multi_label: Whether a picture can have several labels; logits are then for a sigmoid.

    Source:
        wu2018, section 3.4; the temperature is that of caron2021.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        cases: int,
        neighbors: int = 20,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.neighbors, self.multi_label = min(neighbors, cases), multi_label
        self.register_buffer("known", torch.zeros(cases, dim))
        self.register_buffer("votes", torch.zeros(cases, num_classes))

    def learn(
        self, features: Float[Tensor, "case dim"], votes: Float[Tensor, "case class"]
    ) -> "NearestNeighbors":
        """Keep the training pictures' features and labels (rows of zeros and ones)."""
        self.known, self.votes = normalize(features, dim=1), votes
        return self

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class"]:
        """Return the logarithm of each class's share of the votes (log odds of each label)."""
        cosine = normalize(features, dim=1) @ self.known.T
        nearest, which = cosine.topk(self.neighbors, dim=1)
        weights = (nearest / TEMPERATURE).softmax(dim=1)
        share = torch.einsum("bn,bnc->bc", weights, self.votes[which])
        share = share.clamp(_LEAST, 1 - _LEAST)
        return share.logit() if self.multi_label else share.log()


def build_head(description: Mapping[str, Any], *, dim: int, num_classes: int) -> nn.Module:
    """Build a head from its description in ``ModelSpec.parameters["head"]``.

    Args:
        description: ``kind`` and its parameters: ``hidden`` of an ``mlp``; ``cases``,
            ``neighbors`` and ``multi_label`` of a ``knn``.
        dim: Length of the features.
        num_classes: Length of the logits.

    Raises:
        InputError: If there is no such head.
    """
    rest = {name: value for name, value in description.items() if name != "kind"}
    try:
        if description.get("kind") == "mlp":
            return _mlp(dim, num_classes, **rest)
        if description.get("kind") == "knn":
            return NearestNeighbors(dim, num_classes, **rest)
    except TypeError as error:
        raise InputError(
            "parameters.head", str(rest), f"its parameters must fit ({error})", "correct them"
        ) from error
    raise InputError(
        "parameters.head", str(dict(description)), "its kind is mlp or knn", "correct the kind"
    )


def _mlp(dim: int, num_classes: int, *, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(hidden, num_classes)
    )


def classifier(model: nn.Module) -> tuple[str, nn.Linear]:
    """Find a model's linear classifier and its name.

    Raises:
        InputError: If it has none, or several.
    """
    get = getattr(model, "get_classifier", None)
    found = get() if callable(get) else getattr(model, "head", None)
    if not isinstance(found, nn.Linear):
        raise InputError(
            "model",
            f"{type(model).__name__} ends in {type(found).__name__}",
            "a head can be trained alone where the model ends in one linear layer",
            "choose mode: finetune, or another model",
        )
    return next(name for name, module in model.named_modules() if module is found), found


def put_head(model: nn.Module, head: nn.Module) -> None:
    """Put a head in the place of a model's linear classifier."""
    model.set_submodule(classifier(model)[0], head)


@contextmanager
def features_seen(model: nn.Module) -> Iterator[list[Tensor]]:
    """Record what comes into a model's classifier, one tensor [batch dim] a forward pass.

    Nothing is left behind when the block ends.
    """
    seen: list[Tensor] = []
    listening = classifier(model)[1].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    try:
        yield seen
    finally:
        listening.remove()
