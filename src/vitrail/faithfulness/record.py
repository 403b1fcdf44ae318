"""What the bench found: tables, ranks, costs, strips, a recommendation; and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitrail.faithfulness.interval import to_plain
from vitrail.records import Estimate

FORMAT = "faithfulness-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a method costs on this machine.

    Attributes:
        passes: In words.
        milliseconds: A picture.
        forwards: The same, in forward passes of this model.
    """

    passes: str
    milliseconds: float
    forwards: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A method's places over the tests: never one winner without its spread."""

    mean: float
    best: float
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One method to look at first, why, and what that does not mean.

    Attributes:
        method: Empty if none can be recommended.
        reason: A sentence.
        limits: Sentences.
    """

    method: str
    reason: str
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The trust strip of one picture's map.

    Attributes:
        class_specific: Whether the map depends on the class.
        gain_over_random: Removal gain of this map; a random one has 0 on average.
        gain_low: Lower end of the method's interval over all pictures.
        gain_high: Its upper end.
        stability: Mean rank correlation under shifts, a flip and noise; None where this picture was
            not among those that were changed.
        stability_of_method: Its mean over those that were.
        randomization_passed: Of the method; None if not tested.
        completeness_error: Relative; None where the method does not promise it.
        prefix_share: Share of the scores on prefix tokens.
        fails: Why the map should be greyed; empty if it should not.
    """

    class_specific: bool
    gain_over_random: float | None
    gain_low: float | None
    gain_high: float | None
    stability: float | None
    randomization_passed: bool | None
    completeness_error: float | None
    prefix_share: float | None
    stability_of_method: float | None = None
    fails: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {name: getattr(self, name) for name in self.__slots__} | {"fails": list(self.fails)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """All that the bench found on one model.

    Attributes:
        unit: What intervals are made over.
        num_cases: Pictures.
        num_units: Patients or pictures.
        methods: Tested, in the order of their mean rank.
        controls: Maps that know nothing of the model.
        refused: Methods and tests that this model cannot do, with the reason.
        tables: test → method → estimate; the test's name tells its direction (``_score`` and
            ``_gain`` up, ``_error`` down).
        curves: imputer → method → ``most`` and ``least``: [height, low, high] a step.
        fractions: Share of hidden patches at the steps of ``curves``.
        ranks: Places over the tests.
        costs: A method.
        randomization_passed: A method.
        class_specific: A method.
        strips: One mapping method → strip, a case.
        recommendation: One method to look at first.
        warnings: Sentences that belong beside the tables.
        settings: Everything that was chosen.
    """

    unit: str
    num_cases: int
    num_units: int
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    refused: Mapping[str, str]
    tables: Mapping[str, Mapping[str, Estimate]]
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[Sequence[float]]]]]
    fractions: tuple[float, ...]
    ranks: Mapping[str, Rank]
    costs: Mapping[str, Cost]
    randomization_passed: Mapping[str, bool]
    class_specific: Mapping[str, bool]
    strips: Sequence[Mapping[str, Strip]]
    recommendation: Recommendation
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def to_json(self, case_ids: Sequence[str] | None = None) -> dict[str, object]:
        """Return what ``faithfulness.json`` holds.

        Args:
            case_ids: Names of the pictures, for the strips; by default their places.
        """
        names = [str(i) for i in range(self.num_cases)] if case_ids is None else list(case_ids)
        return {
            "format": FORMAT,
            "unit": self.unit,
            "num_cases": self.num_cases,
            "num_units": self.num_units,
            "methods": list(self.methods),
            "controls": list(self.controls),
            "refused": dict(self.refused),
            "tables": {
                test: {name: to_plain(cell) for name, cell in row.items()}
                for test, row in self.tables.items()
            },
            "curves": {"fractions": list(self.fractions), **self.curves},
            "ranks": {
                name: {"mean": rank.mean, "best": rank.best, "worst": rank.worst}
                for name, rank in self.ranks.items()
            },
            "costs": {
                name: {
                    "passes": cost.passes,
                    "milliseconds": round(cost.milliseconds, 3),
                    "forwards": round(cost.forwards, 2),
                }
                for name, cost in self.costs.items()
            },
            "randomization_passed": dict(self.randomization_passed),
            "class_specific": dict(self.class_specific),
            "strips": {
                name: {method: strip.to_json() for method, strip in strips.items()}
                for name, strips in zip(names, self.strips, strict=True)
            },
            "recommendation": {
                "method": self.recommendation.method,
                "reason": self.recommendation.reason,
                "limits": list(self.recommendation.limits),
            },
            "warnings": list(self.warnings),
            "settings": dict(self.settings),
        }


def is_better_high(test: str) -> bool:
    """Tell whether a test's name says that higher is better."""
    return not test.partition("/")[0].endswith("_error")


def rank_methods(
    tables: Mapping[str, Mapping[str, Estimate]], methods: Sequence[str]
) -> dict[str, Rank]:
    """Rank methods in each test by their means (ties share), and give the mean, best and worst.

    Tests that not all methods have are left out.
    """
    places = []
    for test, row in tables.items():
        values = np.array([row[name].value if name in row else np.nan for name in methods])
        if not np.isfinite(values).all():
            continue
        order = -values if is_better_high(test) else values
        ahead = (order[None] < order[:, None]).sum(axis=1)
        tied = (order[None] == order[:, None]).sum(axis=1)
        places.append(1 + ahead + (tied - 1) / 2)
    if not places:
        return {name: Rank(mean=1.0, best=1.0, worst=1.0) for name in methods}
    table = np.array(places)
    return {
        name: Rank(
            mean=float(table[:, place].mean()),
            best=float(table[:, place].min()),
            worst=float(table[:, place].max()),
        )
        for place, name in enumerate(methods)
    }
