"""What is tried: parameters with their values or ranges, as written on the command line.

``patch=8,16,32`` is a list of values, ``learning_rate=1e-4..1e-2`` a range (on a logarithmic scale
where its end is ten times its beginning or more).
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from vitrail.errors import InputError

_LOGARITHMIC = 10.0
Value = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One parameter.

    Attributes:
        name: As the user wrote it.
        values: To choose from; empty for a range.
        low: Beginning of a range.
        high: End of a range, inclusive.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0

    @property
    def is_range(self) -> bool:
        """Whether any number between two ends may be chosen."""
        return not self.values

    @property
    def is_logarithmic(self) -> bool:
        """Whether a range is searched by factors rather than by steps."""
        return self.low > 0 and self.high >= _LOGARITHMIC * self.low

    @property
    def is_whole(self) -> bool:
        """Whether a range holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def read_space(words: Sequence[str], *, known: Sequence[str]) -> tuple[Axis, ...]:
    """Read ``name=value,value`` and ``name=low..high``.

    Args:
        words: As on the command line.
        known: Names that may be tuned.

    Raises:
        InputError: If a word cannot be read or a name is unknown; the nearest one is named.

    Example:
        >>> read_space(["patch=8,16"], known=["patch"])[0].values
        (8, 16)
    """
    if not words:
        rule, remedy = "at least one parameter is tuned", "pass learning_rate=3e-4,1e-3,3e-3"
        raise InputError("parameters", "none", rule, remedy)
    axes = [_axis(word, known) for word in words]
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(twice, "given twice", "a parameter has one list", "join its values")
    return tuple(axes)


def _axis(word: str, known: Sequence[str]) -> Axis:
    """Read one parameter."""
    name, _, text = word.partition("=")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        rule = f"the nearest parameter that can be tuned is {near!r}"
        raise InputError("parameters", f"unknown {name!r}", rule, f"write {near}=…")
    low, dots, high = text.partition("..")
    if dots:
        ends = _number(low), _number(high)
        if isinstance(ends[0], str) or isinstance(ends[1], str) or not ends[0] < ends[1]:
            rule = "a range is low..high, two numbers"
            raise InputError(name, repr(text), rule, f"write {name}=1e-4..1e-2")
        return Axis(name=name, low=ends[0], high=ends[1])
    values = tuple(_number(value) for value in text.split(",") if value)
    if not values:
        rule = "a parameter has values"
        raise InputError(name, repr(word), rule, f"write {name}=value,value")
    return Axis(name=name, values=tuple(dict.fromkeys(values)))


def _number(text: str) -> Value:
    """Read a whole number, else a number, else a word."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def grid(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield every combination, the last parameter's values changing fastest.

    Raises:
        InputError: If one of the parameters is a range.
    """
    for axis in axes:
        if axis.is_range:
            came, rule = f"{axis.low}..{axis.high}", "a grid is made of lists of values"
            raise InputError(axis.name, came, rule, "name values, or pass --trials 40")
    for values in product(*(axis.values for axis in axes)):
        yield dict(zip((axis.name for axis in axes), values, strict=True))
