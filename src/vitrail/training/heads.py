"""Heads on frozen features, trained in seconds: linear, one hidden layer, nearest neighbors.

What regularizes a head (the penalty of the linear one, the epoch of the hidden layer, the number of
neighbors) is chosen by the loss on validation cases. Features are standardized by the training
cases; the standardization is then folded into the head's own weights, so that it takes the
backbone's features as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from vitrail.errors import InputError
from vitrail.models.heads import NearestNeighbors, build_head
from vitrail.records import Case, Progress, no_progress
from vitrail.training.fit import FitSettings, fit
from vitrail.training.objective import loss_per_case, soft_targets
from vitrail.training.order import class_weights
from vitrail.training.validation import validation_scores

Kind = Literal["linear", "mlp", "knn"]

PENALTIES = tuple(10.0**power for power in np.arange(1.0, -4.1, -0.5))
"""Of the squared weights on standardized features, from the strongest."""

NEIGHBORS = (1, 3, 5, 10, 20, 50, 100)
HIDDEN = 256


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of some cases.

    Attributes:
        views: Of each view of each case: the picture as it is, then augmented ones.
        labels: Class indices, or a row of zeros and ones a case.
        cases: Whose they are, for names and patients; None where that is not known.
    """

    views: Float[np.ndarray, "view case dim"]
    labels: Int[np.ndarray, "case *label"]
    cases: Sequence[Case] | None = None

    @property
    def flat(self) -> tuple[Float[Tensor, "case dim"], Tensor]:
        """Return every view of every case as a case of its own, with its label."""
        values = torch.from_numpy(np.concatenate(list(self.views))).double()
        labels = torch.from_numpy(self.labels)
        return values, labels.repeat(len(self.views), *[1] * (labels.ndim - 1))


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """A head, how it is described, and how it came about.

    Attributes:
        head: Takes the backbone's features as they are.
        description: For ``ModelSpec.parameters["head"]``; empty for a linear layer.
        history: Rows for ``log.jsonl``: one a penalty, an epoch, or a number of neighbors.
        best: Place of the chosen row, from 1.
        metric: What it was chosen by.
        seconds: Time of the training.
        warnings: Sentences that belong beside the numbers.
    """

    head: nn.Module
    description: Mapping[str, Any]
    history: list[dict[str, Any]]
    best: int
    metric: str
    seconds: float
    warnings: tuple[str, ...] = ()


def train_head(
    kind: Kind,
    train: Features,
    *,
    validation: Features,
    num_classes: int,
    settings: FitSettings,
    folder: Path,
    progress: Progress = no_progress,
) -> TrainedHead:
    """Train a head on frozen features.

    Args:
        kind: ``linear`` (multinomial logistic regression), ``mlp`` (one hidden layer) or ``knn``.
        train: Of the training cases.
        validation: Chooses the regularization and nothing else; one view.
        num_classes: Length of the logits.
        settings: Its seed, batch size, balance and ``multi_label`` are used; for ``mlp`` also the
            learning rate and what else the loop takes.
        folder: Takes the checkpoints of an ``mlp``.
        progress: Told after each setting or step.

    Raises:
        InputError: If there are no validation cases.
        NumericalError: If features or losses are not finite.
    """
    if not len(validation.labels):
        raise InputError(
            "validation",
            "no cases",
            "validation cases choose how strongly a head is regularized",
            "take more cases, or fewer folds",
        )
    started = perf_counter()
    task = _Task(train, validation, num_classes, settings)
    if kind == "mlp":
        found = _mlp(task, folder, progress)
    elif kind == "knn":
        found = _knn(task, progress)
    else:
        found = _linear(task, progress)
    return replace(found, seconds=perf_counter() - started)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What a head is trained on."""

    train: Features
    validation: Features
    num_classes: int
    settings: FitSettings

    @property
    def scale(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
        """Mean and standard deviation of the training features; a constant one is left alone."""
        values, _ = self.train.flat
        std = values.std(dim=0)
        return values.mean(dim=0), torch.where(std > 1e-6, std, 1.0)

    def targets(self, labels: Tensor) -> Float[Tensor, "case class"]:
        """Return the probabilities to aim at."""
        return soft_targets(labels, self.num_classes, smoothing=0.0).double()

    def weights(self, labels: Tensor) -> Float[Tensor, " case"]:
        """Weigh the cases so that classes count alike, where the settings balance them."""
        if self.settings.multi_label or self.settings.balance == "none":
            return torch.ones(len(labels), dtype=torch.float64)
        return torch.from_numpy(class_weights(labels.numpy(), self.num_classes))[labels]

    def row(
        self, number: int, logits: Tensor, *, seconds: float, **known: float | int
    ) -> dict[str, Any]:
        """Score a setting on the validation cases, for the log."""
        several = self.settings.multi_label
        probabilities = logits.sigmoid() if several else logits.softmax(dim=1)
        scores = validation_scores(self.validation.labels, probabilities.double().numpy())
        return {"epoch": number, **known, **scores, "seconds": seconds}


def _best(history: list[dict[str, Any]]) -> int:
    """Return the place of the smallest validation loss."""
    return int(np.argmin([row["validation_loss"] for row in history]))


def _linear(task: _Task, progress: Progress) -> TrainedHead:
    """Fit multinomial logistic regression to its optimum, for each penalty in turn.

    Minimizes mean cross-entropy + penalty · |weights|² / 2 by L-BFGS, from the strongest penalty to
    the weakest, each from where the last one ended. It is convex: the seed does not matter.
    """
    (values, labels), (mean, std) = task.train.flat, task.scale
    held = (task.validation.flat[0] - mean) / std
    parameters = torch.zeros(
        values.shape[1] + 1, task.num_classes, dtype=torch.float64, requires_grad=True
    )
    history, found = [], []
    for number, penalty in enumerate(PENALTIES, start=1):
        started = perf_counter()
        loss = _fitted(task, parameters, (values - mean) / std, labels, penalty=penalty)
        kept = parameters.detach().clone()
        row = task.row(
            number,
            held @ kept[:-1] + kept[-1],
            seconds=perf_counter() - started,
            penalty=penalty,
            train_loss=loss,
        )
        history.append(row)
        found.append(kept)
        progress("linear head", done=number, total=len(PENALTIES))
    best = _best(history)
    weight, bias = found[best][:-1].T, found[best][-1]
    head = nn.Linear(values.shape[1], task.num_classes)
    _fold(head, weight, bias, scale=(mean, std))
    return TrainedHead(head, {}, history, best + 1, "loss", 0.0)


def _fitted(
    task: _Task, parameters: Tensor, values: Tensor, labels: Tensor, *, penalty: float
) -> float:
    """Move the parameters to the optimum of one penalty and return the mean cross-entropy."""
    targets, weights = task.targets(labels), task.weights(labels)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def cross_entropy() -> Tensor:
        logits = values @ parameters[:-1] + parameters[-1]
        losses = loss_per_case(logits, targets, multi_label=task.settings.multi_label)
        return (losses * weights).mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy() + penalty / 2 * parameters[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(cross_entropy())


def _fold(layer: nn.Linear, weight: Tensor, bias: Tensor, *, scale: tuple[Tensor, Tensor]) -> None:
    """Fill a layer so that it takes features as they are, where its weights took them scaled."""
    mean, std = scale
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - (weight / std) @ mean)


def _knn(task: _Task, progress: Progress) -> TrainedHead:
    """Keep the training pictures, and choose how many vote."""
    values, labels = task.train.flat
    votes = soft_targets(labels, task.num_classes, smoothing=0.0)
    held = task.validation.flat[0].float()
    history, heads = [], []
    choices = [count for count in NEIGHBORS if count <= len(values)]
    for number, count in enumerate(choices, start=1):
        started = perf_counter()
        description = {
            "kind": "knn",
            "cases": len(values),
            "neighbors": count,
            "multi_label": task.settings.multi_label,
        }
        head = build_head(description, dim=values.shape[1], num_classes=task.num_classes)
        if isinstance(head, NearestNeighbors):
            head.learn(values.float(), votes)
        with torch.inference_mode():
            logits = head(held)
        row = task.row(number, logits, seconds=perf_counter() - started, neighbors=count)
        history.append({**row, "train_loss": None})
        heads.append((head, description))
        progress("nearest neighbors", done=number, total=len(choices))
    best = _best(history)
    return TrainedHead(*heads[best], history, best + 1, "loss", 0.0)


def _mlp(task: _Task, folder: Path, progress: Progress) -> TrainedHead:
    """Train one hidden layer by the loop that trains whole models; each epoch sees one view."""
    mean, std = task.scale
    description = {"kind": "mlp", "hidden": HIDDEN}
    dim = task.train.views.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.settings.seed)
        head = build_head(description, dim=dim, num_classes=task.num_classes)
    result = fit(
        head,
        _Items(task.train, (mean, std)),
        _Items(task.validation, (mean, std)),
        task.settings,
        folder=folder,
        progress=progress,
    )
    head.cpu()
    first = head[0]  # type: ignore[index]
    _fold(first, first.weight.double(), first.bias.double(), scale=(mean, std))
    return TrainedHead(
        head,
        description,
        result.history,
        result.best_epoch,
        result.metric,
        0.0,
        warnings=result.warnings,
    )


class _Items(Dataset[tuple[Tensor, Any, int]]):
    """Standardized features as the items of the loop; the epoch chooses the view."""

    def __init__(self, features: Features, scale: tuple[Tensor, Tensor]) -> None:
        mean, std = scale
        self.values = ((torch.from_numpy(features.views).double() - mean) / std).float()
        self.labels, self.cases = features.labels, features.cases
        self.view = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes."""
        self.view = epoch % len(self.values)

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Any, int]:
        """Return (features, label, index) of one case."""
        return self.values[self.view, index], self.labels[index], index
