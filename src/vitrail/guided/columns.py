"""Clinical columns beside the picture, joined to the classifier's last layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import InputError
from vitrail.records import Case, Cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column becomes numbers, as learned on training cases.

    Attributes:
        name: Of the cases' attribute.
        categories: Of a column of words; empty for one of numbers.
        mean: Of a column of numbers.
        std: Of a column of numbers; 1 where all are alike.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """Numbers that it becomes: one a category, or the value and whether it is missing."""
        return len(self.categories) or 2

    def numbers(self, value: str) -> list[float]:
        """Encode one value; a missing or unknown category is all zeros, a missing number the mean.

        Example:
            >>> Column(name="sex", categories=("f", "m")).numbers("m")
            [0.0, 1.0]
            >>> Column(name="age", mean=60.0, std=10.0).numbers("")
            [0.0, 1.0]
        """
        if self.categories:
            return [float(value == one) for one in self.categories]
        return [(float(value) - self.mean) / self.std, 0.0] if value else [0.0, 1.0]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a study, encoded alike in all its parts."""

    each: tuple[Column, ...] = ()

    @classmethod
    def learn(cls, names: Sequence[str], cohort: Cohort, *, training: Sequence[Case]) -> "Columns":
        """Measure the columns on training cases.

        Args:
            names: Of the columns; one whose values are all numbers is standardized, any other is
                one-hot.
            cohort: All cases, whose values tell which of the two a column is.
            training: The cases whose mean, deviation or categories are taken.
        """
        return cls(tuple(_learn(name, cohort, training=training) for name in names))

    @property
    def width(self) -> int:
        """Numbers a case."""
        return sum(column.width for column in self.each)

    def encode(self, cases: Sequence[Case]) -> Float[np.ndarray, "case number"]:
        """Turn the cases' columns into numbers."""
        rows = [
            [
                number
                for column in self.each
                for number in column.numbers(case.attributes.get(column.name, ""))
            ]
            for case in cases
        ]
        return np.array(rows, dtype=np.float32).reshape(len(cases), self.width)


def _learn(name: str, cohort: Cohort, *, training: Sequence[Case]) -> Column:
    """Measure one column."""
    known = [case.attributes[name] for case in training if case.attributes.get(name)]
    if not all(_is_number(case.attributes.get(name) or "0") for case in cohort):
        return Column(name=name, categories=tuple(sorted(set(known))))
    values = np.array(known, dtype=float) if known else np.zeros(1)
    return Column(name=name, mean=float(values.mean()), std=float(values.std()) or 1.0)


def _is_number(value: str) -> bool:
    """Tell whether a text is a finite number."""
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False


def count_missing(cohort: Cohort, names: Sequence[str]) -> dict[str, list[str]]:
    """List the cases that lack each column.

    Raises:
        InputError: If no case has a column.
    """
    missing = {
        name: [case.case_id for case in cohort if not case.attributes.get(name)] for name in names
    }
    for name, without in missing.items():
        if len(without) == len(cohort.cases):
            known = sorted({key for case in cohort for key in case.attributes})
            raise InputError(
                "--columns",
                f"{name!r}, which no case has",
                f"the cohort's columns are {', '.join(known) or 'none'}",
                "name columns of the manifest that has `path` and `label`",
            )
    return missing


class WithColumns(nn.Module):
    """A network and a linear layer on columns, whose logits are added.

    That is one last layer on the network's features joined with the columns: a product with joined
    vectors is the sum of the products. The columns come as channels of one value each behind the
    picture's, so that they travel through loader and training like any input.

    Args:
        network: Takes the channels before the columns'.
        width: Numbers a case.
        classes: Logits.
    """

    def __init__(self, network: nn.Module, *, width: int, classes: int) -> None:
        super().__init__()
        self.network, self.width = network, width
        self.columns = nn.Linear(width, classes, bias=False)
        nn.init.zeros_(self.columns.weight)

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch class"]:
        """Return the logits; the network comes last, so that its own head is the last layer."""
        said = self.columns(images[:, -self.width :, 0, 0])
        logits: Float[Tensor, "batch class"] = self.network(images[:, : -self.width]) + said
        return logits


def with_planes(image: Float[Tensor, "channel height width"], numbers: Any) -> Tensor:
    """Lay one constant channel a number behind an image's own."""
    planes = torch.as_tensor(numbers).view(-1, 1, 1).expand(-1, *image.shape[1:])
    return torch.cat([image, planes])
