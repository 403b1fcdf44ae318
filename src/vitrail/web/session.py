"""What the server holds: the run as it was found, and the pictures that were sent since.

Everything a client names is a number, the place of a case in a list; no text of a client becomes a
path. Sent pictures live in memory, with their maps, until the server ends.
"""

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vitrail.data.cohort import load_cohort
from vitrail.data.loader import to_input
from vitrail.data.raster import probe, scale
from vitrail.errors import DataError, RunFolderError
from vitrail.explain import explain
from vitrail.models import bundle
from vitrail.pipeline import novelty
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.closeup import close_up
from vitrail.pipeline.pictures import encode
from vitrail.pipeline.train import dataset
from vitrail.report.contents import Contents, read
from vitrail.report.gallery import said_of
from vitrail.report.maps import Legend, Map, legend_of, methods_of, read_map
from vitrail.report.payload import (
    about,
    case_json,
    close_json,
    place_json,
    similar_cases,
    thumbnail,
    values_json,
)
from vitrail.runfolder import RunFolder, file_name
from vitrail.web.decode import decode

MOST_BYTES = 64 << 20
"""A sent file."""

MOST_PICTURES = 200
"""Sent pictures that are kept until the server ends."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sent:
    """A picture that was sent: what the viewer is told and shown, the model's input, the map."""

    name: str
    about: Mapping[str, Any]
    picture: bytes
    image: Float[Tensor, "1 channel height width"]
    values: Float[np.ndarray, "row column"]


class Session:
    """One run, served.

    Args:
        run: A run whose model was trained and evaluated.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.plan = read_plan(run.require(run.plan, "plan"))
        self.contents: Contents = read(run)
        folder = run.model("vit", seed=self.plan.seed.value)
        run.require(folder / bundle.DESCRIPTION, "train")
        self.loaded = bundle.load(folder)
        self.several = bool(self.loaded.extra.get("multi_label", False))
        self.case_ids = tuple(self.contents.truth)
        self.methods = {self._named(method): method for method in methods_of(run)}
        self.similar: Any = similar_cases(self.contents)
        self.legends = self._legends()
        self.sent: list[Sent] = []

    def _named(self, method: str | None) -> str:
        """Name a method; None is the plan's."""
        return method or str(self.plan.explanation.value)

    def _legends(self) -> tuple[Legend, ...]:
        """The color scales that all maps of a method share."""
        found = []
        for method in self.methods.values():
            paths = (self.run.explanation(name, method=method) for name in self.case_ids)
            maps = [one for path in paths if (one := read_map(path)) is not None]
            if (legend := legend_of(maps)) is not None:
                found.append(legend)
        return tuple(found)

    def run_json(self) -> dict[str, Any]:
        """Describe the run and list its cases, without their maps."""
        cases = [self._case(name, maps={}, similar=()) for name in self.case_ids]
        return {
            **about(self.contents, self.legends),
            "cases": [*cases, *(one.about for one in self.sent)],
            "among": self.similar["among"],
            "thumbnails": {},
            "mostBytes": MOST_BYTES,
        }

    def case_json(self, index: int) -> dict[str, Any]:
        """Write one case with its maps and the training cases that are like it."""
        if index >= len(self.case_ids):
            return dict(self._sent(index).about)
        case_id = self.case_ids[index]
        found = {
            name: read_map(self.run.explanation(case_id, method=method))
            for name, method in self.methods.items()
        }
        maps = {name: one for name, one in found.items() if one is not None}
        near = self.similar["cases"].get(case_id, ())
        info = probe(self.run.require(self.run.picture(case_id), "explain"))
        shown = (info.width, info.height)
        written = self._case(case_id, maps=maps, similar=near, shown=shown)
        for one in written["similar"]:
            one["picture"] = thumbnail(self.contents, one["id"])
        return written

    def picture(self, index: int) -> bytes:
        """Return a case's picture, PNG.

        Raises:
            RunFolderError: If it is gone.
        """
        if index >= len(self.case_ids):
            return self._sent(index).picture
        path = self.run.picture(self.case_ids[index])
        self.run.require(path, "explain")
        return path.read_bytes()

    def close_json(self, index: int) -> dict[str, Any]:
        """Write a close look at a case: the kept one, or one that is made now."""
        if index >= len(self.case_ids):
            return self._look(self._sent(index).image)
        case_id = self.case_ids[index]
        path = self.run.explanations / "attention" / f"{file_name(case_id)}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                if "matrices" in stored:
                    return close_json(dict(stored))
        return self._look(self._input(case_id))

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """Decode, label and explain a new picture.

        Args:
            name: What the client calls it; shown to the client alone.
            content: The file.

        Raises:
            UnreadableFileError: If it cannot be decoded.
            DataError: If too many pictures are kept already.
        """
        if len(self.sent) >= MOST_PICTURES:
            came = f"{len(self.sent)} pictures are kept"
            raise DataError(
                "pictures", came, "no more are", "export them and start the server anew"
            )
        with TemporaryDirectory(prefix="vitrail-") as folder:
            path = Path(folder) / "picture"
            path.write_bytes(content)
            stored = decode(path)
        sent = self._explained(name, stored)
        self.sent.append(sent)
        return dict(sent.about)

    def export(self) -> bytes:
        """Pack labels, probabilities and raw maps of the sent pictures into a ZIP archive."""
        content, table = io.BytesIO(), io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["name", "label", *(f"prob_{one}" for one in self.loaded.classes), "warning"])
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, one in enumerate(self.sent, start=1):
                said = one.about["said"][0]
                shares = [said["probabilities"][name] for name in self.loaded.classes]
                rows.writerow([one.name, said["decision"], *shares, one.about["warning"]])
                values = io.BytesIO()
                np.savez_compressed(values, values=one.values)
                archive.writestr(f"{number:03d}.npz", values.getvalue())
                archive.writestr(f"{number:03d}.png", one.picture)
            archive.writestr("predictions.csv", table.getvalue())
        return content.getvalue()

    def _case(
        self,
        case_id: str,
        *,
        maps: Mapping[str, Map],
        similar: Any,
        shown: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """Write a case of the run."""
        said = [
            said_of(self.contents, case_id, model=model)
            for model in self.contents.models
            if case_id in self.contents.judged.get(model, {})
        ]
        return case_json(self.contents, case_id, said=said, maps=maps, similar=similar, shown=shown)

    def _input(self, case_id: str) -> Float[Tensor, "1 channel height width"]:
        """Return a case as the model sees it."""
        cohort = load_cohort(self.run.cohort)
        split = {case.case_id: "test" if case.case_id == case_id else "" for case in cohort}
        cases = dataset(cohort, split, plan=self.plan, part="test")  # type: ignore[arg-type]
        if not cases.cases:
            raise RunFolderError(
                "case", "it is not in the cohort now", "the run changed", "start the server anew"
            )
        return cases[0][0][None]

    def _look(self, image: Float[Tensor, "1 channel height width"]) -> dict[str, Any]:
        """Look closely now; what is found is large and not kept."""
        return close_json(close_up(self.loaded.model, image, several=self.several))

    def _sent(self, index: int) -> Sent:
        """Return a sent picture by its place after the run's cases."""
        return self.sent[index - len(self.case_ids)]

    def _explained(self, name: str, stored: Shaped[np.ndarray, "stored height width"]) -> Sent:
        """Label and explain decoded pixels."""
        preprocessing, model = self.loaded.preprocessing, self.loaded.model
        window, warning = preprocessing.intensity_range, []
        if stored.dtype != np.uint8 and window is None:
            low, high = np.percentile(stored, [0.5, 99.5])
            window = (float(low), float(max(high, low + 1)))
            warning.append("deep values were windowed by their own percentiles")
        picture = scale(stored, channels=preprocessing.channels, intensity_range=window)
        image = to_input(picture, preprocessing)[None]
        with torch.no_grad():
            logits = model(image).double()[0]
        shares = (logits.sigmoid() if self.several else logits.softmax(dim=0)).tolist()
        known = novelty.read(self.loaded.extra.get("training_range", {}))
        if known and novelty.judge(known, picture, preprocessing=preprocessing).outside:
            warning.append("unlike the training pictures: do not rely on it")
        method = self._named(None)
        found = explain(model, image, method=method)
        values = found.values[0].float().numpy()
        kept = {
            **values_json(values),
            "facts": [["trust", "not tested"]],
            "fails": [],
            "signed": found.signed,
            "specific": found.class_specific,
        }
        return Sent(
            name=name,
            picture=encode(picture),
            values=values,
            image=image,
            about={
                "id": f"new {len(self.sent) + 1}: {name}",
                "truth": "",
                "right": True,
                "said": [self._said(shares)],
                "place": place_json(preprocessing, (picture.shape[1], picture.shape[2])),
                "maps": {method: kept},
                "similar": [],
                "warning": "; ".join(warning),
            },
        )

    def _said(self, shares: list[float]) -> dict[str, Any]:
        """Write what the model says of a sent picture."""
        return {
            "model": "Vision Transformer",
            "decision": self.loaded.classes[int(np.argmax(shares))],
            "right": True,
            "trainings": 1,
            "probabilities": dict(zip(self.loaded.classes, shares, strict=True)),
        }
