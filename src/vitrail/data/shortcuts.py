"""What tells the classes apart without any medicine: trivial features, and how far each gets.

For each family of features a logistic regression is fitted out of fold (five folds, clusters
whole) and its ROC AUC is set beside chance, with an interval by bootstrap over clusters. A family
far above chance means that a model may score well for a reason that has nothing to do with the
disease; it is named in plain words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitrail.data.raster import RasterInfo

FAMILIES = {
    "intensity": "the overall brightness and contrast",
    "color": "the mean color",
    "histogram": "the histogram of grey values",
    "size": "the picture's width, height and aspect",
    "file_bytes": "the size of the file",
    "file_kind": "the file's format and pixel mode",
    "jpeg_quality": "the JPEG quality",
    "border": "the picture's border and corners",
}
"""What each family of features looks at, in words."""

_FOLDS = 5
_RESAMPLES = 500
_NOTEWORTHY = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """How well one family of trivial features tells the classes apart.

    Attributes:
        feature: A key of `FAMILIES`.
        roc_auc_score: Out of fold; the mean over classes (each against the rest) for three or more.
        low: Lower end of the 95 % interval.
        high: Upper end.
        finding: A sentence where it is above chance and at least 0.6, else empty.
    """

    feature: str
    roc_auc_score: float
    low: float
    high: float
    finding: str


def features(
    info: RasterInfo, picture: Float[np.ndarray, "channel height width"]
) -> dict[str, list[float]]:
    """Measure one picture.

    Args:
        info: Its header.
        picture: Values in [0, 1], three channels.

    Returns:
        Numbers of each family.
    """
    grey = picture.mean(axis=0)
    ring = max(1, round(0.04 * min(grey.shape)))
    corner = max(1, round(0.1 * min(grey.shape)))
    edges = [grey[:ring], grey[-ring:], grey[:, :ring], grey[:, -ring:]]
    corners = [grey[:corner, :corner], grey[:corner, -corner:]]
    corners += [grey[-corner:, :corner], grey[-corner:, -corner:]]
    counts = np.histogram(grey, bins=16, range=(0.0, 1.0))[0]
    height, width = info.height, info.width
    kinds = [info.format == name for name in ("PNG", "JPEG", "TIFF", "BMP")]
    modes = [info.mode == name for name in ("L", "RGB", "RGBA", "P", "LA", "1")]
    return {
        "intensity": [float(grey.mean()), float(grey.std())],
        "color": [float(value) for value in picture.mean(axis=(1, 2))],
        "histogram": [float(value) for value in counts / grey.size],
        "size": [np.log(height), np.log(width), np.log(width / height)],
        "file_bytes": [np.log(info.file_bytes), np.log(info.file_bytes / (height * width))],
        "file_kind": [float(value) for value in (*kinds, *modes)],
        "jpeg_quality": [np.log1p(info.jpeg_quantization)],
        "border": [
            float(statistic)
            for part in (*edges, *corners)
            for statistic in (part.mean(), part.std())
        ],
    }


def audit_shortcuts(
    measured: Sequence[Mapping[str, Sequence[float]]],
    labels: Sequence[str],
    *,
    clusters: Sequence[str],
    seed: int = 0,
) -> list[Shortcut]:
    """Try every family of features.

    Args:
        measured: From `features`, one a case.
        labels: Class of each case.
        clusters: Cluster of each case; a cluster is never on both sides of a fold.
        seed: Of the folds and the bootstrap.

    Returns:
        One row a family whose features vary, the most telling first; none where a class has too
        few clusters for two folds.
    """
    classes, y_true = np.unique(np.asarray(labels), return_inverse=True)
    groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    fewest = min(len(np.unique(groups[y_true == index])) for index in range(len(classes)))
    if fewest < 2:
        return []
    folds = StratifiedGroupKFold(min(_FOLDS, fewest), shuffle=True, random_state=seed)
    parts = list(folds.split(y_true, y_true, groups))
    rows = []
    for family in FAMILIES:
        values = np.array([case[family] for case in measured], dtype=np.float64)
        if np.ptp(values, axis=0).max() < 1e-9:
            continue
        scores = np.full((len(y_true), len(classes)), 1 / len(classes))
        for train, test in parts:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(values[train], y_true[train])
            seen = model.classes_
            scores[np.ix_(test, seen)] = model.predict_proba(values[test])
        rows.append(_row(family, y_true, scores=scores, groups=groups, seed=seed))
    return sorted(rows, key=lambda row: -row.roc_auc_score)


def _row(
    family: str,
    y_true: Int[np.ndarray, " case"],
    *,
    scores: Float[np.ndarray, "case class"],
    groups: Int[np.ndarray, " case"],
    seed: int,
) -> Shortcut:
    """Score one family, with its interval by bootstrap over clusters."""
    value = _roc_auc_score(y_true, scores)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(0, len(members), size=len(members))
        cases = np.concatenate([members[group] for group in drawn])
        resampled.append(_roc_auc_score(y_true[cases], scores[cases]))
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    finding = ""
    if low > 0.5 and value >= _NOTEWORTHY:
        finding = (
            f"{FAMILIES[family]} alone tells the classes apart (ROC AUC {value:.2f}, "
            f"{low:.2f} to {high:.2f}); a model may learn it instead of the disease"
        )
    return Shortcut(
        feature=family,
        roc_auc_score=round(value, 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        finding=finding,
    )


def _roc_auc_score(
    y_true: Int[np.ndarray, " case"], scores: Float[np.ndarray, "case class"]
) -> float:
    """Return the mean over classes of the rank statistic, each class against the rest."""
    positive = y_true[:, None] == np.arange(scores.shape[1])
    count = positive.sum(axis=0)
    pairs = count * (len(y_true) - count)
    if not pairs.all():
        return float("nan")
    ranks = rankdata(scores, axis=0)
    return float((((ranks * positive).sum(axis=0) - count * (count + 1) / 2) / pairs).mean())
