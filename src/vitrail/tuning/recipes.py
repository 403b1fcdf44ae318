"""The founding systems as recipes: data, read off ``recipes.yaml`` in the package.

A recipe is a card (what was built, on which data, what was published and what is wrong with it) and
a list of commands. Its commands hold names in braces; what they stand for on real data, on a
generated stand-in and in a check of the path is stated beside them.
"""

import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from vitrail.errors import InputError

Size = Literal["real", "phantom", "smoke"]
_SMALLER: tuple[Size, ...] = ("real", "phantom", "smoke")


def _by_size(value: object) -> object:
    """Let a plain value serve every size."""
    return value if isinstance(value, Mapping) else {"real": value}


class Step(BaseModel):
    """One command.

    Attributes:
        about: What it is for.
        run: The command, with names in braces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    run: str


class Listing(BaseModel):
    """A list of cases that is dealt before the first step; see :mod:`vitrail.data.deal`.

    Attributes:
        classes: Those that are kept, where the data have all of them.
        site: A regular expression whose first group is a path's source.
        test: Share that is tested; 0 deals nothing.
        validation: Share that chooses.
        by_class: Whether each class is dealt by itself.
        accept: Why what belongs together may stand on both sides; empty where nothing is dealt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] = ()
    site: str = ""
    test: float = 0.0
    validation: float = 0.0
    by_class: bool = False
    accept: str = ""

    @property
    def options(self) -> str:
        """What a command says of the list."""
        return f" --accept-leakage {shlex.quote(self.accept)}" if self.accept else ""


class Phantom(BaseModel):
    """The generated stand-in.

    Attributes:
        draws: What is drawn: ``slices`` (chest CT), ``tiles`` (tissue), ``volumes`` (chests).
        real: How large it is.
        smoke: How large it is in a check of the path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: Literal["slices", "tiles", "volumes"]
    real: dict[str, Any]
    smoke: dict[str, Any]


class Recipe(BaseModel):
    """A founding system, and how it is repeated.

    Attributes:
        name: What ``vitrail recipe`` calls it.
        title: What it is about.
        system: What was built.
        data: Card of its data in the catalog; empty where they are not public.
        get: How to get the data, where there is no card.
        phantom: What stands in for the data.
        stand_in_weights: A timm model whose random weights stand in for published ones.
        lists: Lists of cases by their names.
        values: What the names in braces stand for.
        cost: Of the whole on real data.
        published: Numbers of the founding system.
        fault: What is wrong with them.
        ours: Our numbers and where they stand; empty where it was not run.
        steps: The commands.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    system: str
    data: str
    get: str = ""
    phantom: Phantom
    stand_in_weights: str = ""
    lists: dict[str, Listing] = {}
    values: dict[str, Annotated[dict[Size, str | int], BeforeValidator(_by_size)]]
    cost: str
    published: tuple[str, ...]
    fault: str
    ours: tuple[str, ...]
    steps: tuple[Step, ...]

    def value(self, name: str, *, size: Size) -> str:
        """Return what a name stands for; what a smaller size does not state is the larger one's."""
        stated = self.values[name]
        larger = _SMALLER[: _SMALLER.index(size) + 1]
        return str(next(stated[one] for one in reversed(larger) if one in stated))

    def commands(self, known: Mapping[str, str], *, size: Size) -> list[Step]:
        """Fill every name in.

        Args:
            known: What ``out``, ``cohort``, ``picture``, ``left_out`` and the lists stand for; it
                wins over the recipe's own values.
            size: Of the data.
        """
        own = {name: self.value(name, size=size) for name in self.values}
        filled = {name: value.format_map(known) for name, value in own.items()} | dict(known)
        return [
            Step(
                about=step.about.format_map(filled),
                run=" ".join(step.run.format_map(filled).split()),
            )
            for step in self.steps
        ]


@cache
def recipes() -> tuple[Recipe, ...]:
    """Return all recipes."""
    text = files("vitrail.tuning").joinpath("recipes.yaml").read_text(encoding="utf-8")
    return tuple(Recipe.model_validate(one) for one in yaml.safe_load(text))


def find_recipe(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        InputError: If there is none of that name; the nearest is named.
    """
    known = {one.name: one for one in recipes()}
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        rule = f"the nearest recipe is {near!r}"
        raise InputError("recipe", f"unknown {name!r}", rule, "see `vitrail recipe list`")
    return known[name]
