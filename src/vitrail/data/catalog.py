"""The catalog of public data sets: a card each, read off ``catalog.yaml`` in the package.

A card says what a set is, how to get it, and what is known to be wrong with it, so that a known
set is met with its known faults. What is not certain is left out of a card and called unknown.
"""

import difflib
import re
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from vitrail.errors import InputError
from vitrail.records import Cohort

_ALIKE = 0.02


class RemoteFile(BaseModel):
    """A file of a set.

    Attributes:
        url: Where it lies.
        name: What it is called on disk.
        bytes: Its size; None where it is unknown.
        checksum: ``sha256:…`` or ``md5:…`` as published; empty where none is known.
        variant: Name of the variant that it belongs to; empty where there is one only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    name: str
    bytes: int | None = None
    checksum: str = ""
    variant: str = ""


def _counted(classes: object) -> object:
    """Give classes without counts the count None."""
    return dict.fromkeys(classes) if isinstance(classes, list) else classes


class Card(BaseModel):
    """A public data set.

    Attributes:
        name: What ``vitrail fetch`` calls it; a variant is added as in ``pathmnist_64``.
        title: What it is.
        homepage: Where its makers speak.
        licence: As its makers state it, or that it is unknown.
        citation: Whom to cite.
        cases: Number of pictures.
        split: The given split, in words.
        classes: Cases of each class as read from its folders; None where the count is unknown.
        labels: Class names in the order of their numbers, where the file holds numbers.
        distinctive: Whether the class names alone tell the set.
        files: What is downloaded.
        account: How to get it where no file can be downloaded.
        run: Folder, inside the fetched one, that ``vitrail run`` is given.
        lists: Text files, inside the fetched folder, of the pictures of each part: ``class/name`` a
            line, relative to ``run``, without the ending.
        patient_from: For ``--patient-from``, where names tell what must stay together.
        faults: What is known to be wrong with it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    cases: int
    split: str = ""
    classes: Annotated[dict[str, int | None], BeforeValidator(_counted)] = {}
    labels: tuple[str, ...] = ()
    distinctive: bool = False
    files: tuple[RemoteFile, ...] = ()
    account: str = ""
    run: str = ""
    lists: dict[Literal["train", "validation", "test"], str] = {}
    patient_from: str = ""
    faults: tuple[str, ...]

    def variant(self, name: str) -> tuple[RemoteFile, ...]:
        """Return the files of a variant; without a name those of the first."""
        wanted = name or (self.files[0].variant if self.files else "")
        return tuple(file for file in self.files if file.variant == wanted)


@cache
def cards() -> tuple[Card, ...]:
    """Read the catalog, in its order."""
    text = files("vitrail.data").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return tuple(Card.model_validate(one) for one in yaml.safe_load(text))


def find(name: str) -> tuple[Card, str]:
    """Find a card by its name, and the variant that the name asks for.

    Raises:
        InputError: If there is none; the nearest name is told.
    """
    known = {card.name: card for card in cards()}
    base, _, variant = name.partition("_")
    if name in known:
        return known[name], ""
    if base in known and known[base].variant(variant):
        return known[base], variant
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise InputError(
        "name",
        repr(name),
        f"the nearest name in the catalog is {near!r}",
        "see `vitrail fetch list`",
    )


def named_like(stem: str) -> Card | None:
    """Find the card of a file by its name without the ending, such as ``pathmnist_64``."""
    try:
        return find(stem.lower())[0]
    except InputError:
        return None


def recognize(cohort: Cohort) -> Card | None:
    """Tell whether a cohort is a set of the catalog: by its class names and their counts.

    Names are compared without regard to case and signs; counts may differ by 2 % (a copy may lack
    some pictures). Of a set with distinctive names a part is recognized as well.
    """
    counts: dict[str, int] = {}
    for case in cohort:
        for label in case.labels:
            counts[_plain(label)] = counts.get(_plain(label), 0) + 1
    for card in cards():
        known = {_plain(name): count for name, count in card.classes.items()}
        if card.distinctive and len(counts) > 2 and set(counts) <= set(known):
            return card
        if known and set(known) == set(counts) and _counts_fit(counts, known, card.cases):
            return card
        labels = {_plain(name) for name in card.labels}
        if labels and labels == set(counts) and _near(len(cohort), card.cases):
            return card
    return None


def _counts_fit(counts: dict[str, int], known: dict[str, int | None], cases: int) -> bool:
    """Compare class by class where counts are known, else in all."""
    if any(count is None for count in known.values()):
        return _near(sum(counts.values()), cases)
    return all(_near(counts[name], count or 0) for name, count in known.items())


def _near(count: int, expected: int) -> bool:
    return abs(count - expected) <= _ALIKE * expected


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "", name.lower())
