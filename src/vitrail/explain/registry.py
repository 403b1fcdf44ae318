"""The methods: how one is written, found, and called.

A method is a function from a :class:`~vitrail.explain.request.Request` and its own keyword
parameters to :class:`Scores`::

    @register("relevance", needs="gradient", class_specific=True, signed=False,
              passes="1 forward, 1 backward", source="chefer2021generic")
    def relevance(request: Request, *, start_layer: int = 0) -> Scores:
        recording = request.record(gradients=True)             # one forward, attention recorded
        row = recording.first_row()                             # [batch, token], the read-out
        for layer, gradient in zip(reversed(recording.layers),
                                   reversed(recording.output_gradients())): ...
        return Scores(tokens=row)                               # [target, batch, token]

What comes back has a leading target axis (1 unless ``target="all"``). Exactly one of ``tokens``
(prefix tokens first), ``pixels`` or ``grid`` is given. ``explain`` does the rest: target selection,
refusals, batching under memory pressure, the patch grid, the record of parameters. Parameters
are the keyword-only arguments with their defaults; an unknown one is refused by name before
anything runs.

A method that only needs gradients of pixels runs ``request.scores(images)`` under its own graph and
:func:`~vitrail.explain.request.gradients`; a black box runs ``request.scores`` under ``no_grad``.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError

Needs = Literal["attention", "gradient", "black_box"]
"""What of the model a method uses: ``attention`` the recorded rows without a graph, ``gradient`` a
graph (with or without recorded attention), ``black_box`` its outputs alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """What a method found; raw values.

    Attributes:
        tokens: A score a token, prefix tokens first.
        pixels: A score a pixel and channel.
        grid: A score a cell of any grid (black boxes; a CNN's feature map).
        residual: Of complete methods, score minus the sum of what was handed out (completeness).
    """

    tokens: Float[Tensor, "target batch token"] | None = None
    pixels: Float[Tensor, "target batch channel height width"] | None = None
    grid: Float[Tensor, "target batch row column"] | None = None
    residual: Float[Tensor, "target batch"] | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the methods table.

    Attributes:
        name: What ``explain(method=…)`` is given.
        function: The method itself.
        needs: What of the model it uses.
        class_specific: Whether the map depends on the target.
        signed: Whether negative values mean evidence against.
        passes: Forward and backward passes it takes, for the table.
        source: Key in docs/references.bib.
        row_form: Whether it pushes one row through square attention layers, and so needs an
            encoder that attends from all tokens to all tokens.
        parameters: Its keyword parameters with their defaults.
    """

    name: str
    function: Callable[..., Scores]
    needs: Needs
    class_specific: bool
    signed: bool
    passes: str
    source: str
    row_form: bool
    parameters: Mapping[str, object] = field(default_factory=dict)

    def settle(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return all parameters, the given ones over the defaults.

        Raises:
            MethodError: If one is unknown; the nearest known name is told.
        """
        for name in given:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                near = difflib.get_close_matches(name, self.parameters, n=1)
                raise MethodError(
                    name,
                    f"method {self.name!r} has no such parameter",
                    f"its parameters are: {known}",
                    f"did you mean {near[0]!r}?" if near else "leave it out",
                )
        return {**self.parameters, **given}


_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    needs: Needs,
    class_specific: bool,
    signed: bool,
    passes: str,
    source: str,
    row_form: bool = False,
) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Put a function into the methods table; its keyword-only arguments become its parameters."""

    def put(function: Callable[..., Scores]) -> Callable[..., Scores]:
        parameters = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        _METHODS[name] = Method(
            name=name,
            function=function,
            needs=needs,
            class_specific=class_specific,
            signed=signed,
            passes=passes,
            source=source,
            row_form=row_form,
            parameters=parameters,
        )
        return function

    return put


def methods() -> dict[str, Method]:
    """Return the methods table, by name."""
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        MethodError: If there is none; the nearest known name is told.
    """
    if name in _METHODS:
        return _METHODS[name]
    near = difflib.get_close_matches(name, _METHODS, n=1)
    raise MethodError(
        "method",
        repr(name),
        f"it must be one of {', '.join(sorted(_METHODS))}",
        f"did you mean {near[0]!r}?" if near else "see vitrail.explain.methods()",
    )
