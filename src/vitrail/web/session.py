"""What the server holds: the run as it was found, and the pictures that were sent since.

Everything a client names is a number, the place of a case in a list; no text of a client becomes a
path. Sent pictures live in memory, with their maps, until the server ends.
"""

import csv
import io
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vitrail.data.raster import probe
from vitrail.errors import DataError
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.closeup import close_up
from vitrail.pipeline.pictures import png
from vitrail.report.contents import PRIMARY, Contents, read
from vitrail.report.gallery import said_of
from vitrail.report.maps import Legend, Map, legend_of, methods_of, read_map
from vitrail.report.payload import (
    about,
    case_json,
    close_json,
    similar_cases,
    thumbnail,
)
from vitrail.report.pictures import outline
from vitrail.runfolder import RunFolder, file_name
from vitrail.web.decode import decode
from vitrail.web.labelling import Sent, label
from vitrail.web.trained import Trained

MOST_BYTES = 64 << 20
"""A sent file."""

MOST_SCAN_BYTES = 1 << 30
"""All files of a sent series."""

MOST_PICTURES = 200
"""Sent pictures that are kept until the server ends."""


class Session:
    """One run, served.

    Args:
        run: A run whose model was trained and evaluated.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.plan = read_plan(run.require(run.plan, "plan"))
        self.contents: Contents = read(run)
        self.trained = Trained(run, self.plan)
        self.view = self.trained.each[0].preprocessing.volume
        self.most_bytes = MOST_BYTES if self.view is None else MOST_SCAN_BYTES
        seen = (self.contents.audit.get("fingerprint") or {}).get("volumes") or {}
        self.modalities = [name for name in seen.get("modalities", ()) if name != "unknown"]
        self.case_ids = tuple(self.contents.truth)
        self.methods = {self._named(method): method for method in methods_of(run)}
        self.similar: Any = similar_cases(self.contents)
        self.legends = self._legends()
        self.classes = self.trained.each[0].classes
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
            "mostBytes": self.most_bytes,
            "scans": self.view is not None,
            "report": self.run.report.is_file(),
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
        return {**written, "note": self.trained.note(case_id)}

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

    def outline(self, index: int) -> bytes:
        """Draw the border of a case's mask, PNG.

        Raises:
            DataError: If it has none.
        """
        path = self.run.mask(self.case_ids[index]) if index < len(self.case_ids) else None
        if path is None or not path.is_file():
            raise DataError("mask", "the case has none", "masks come with the data", "go without")
        return png(outline(path), nearest=True)

    def close_json(self, index: int) -> dict[str, Any]:
        """Write a close look at a case: the kept one, or one that is made now."""
        if index >= len(self.case_ids):
            return self._look(self._sent(index).image, fold=0)
        case_id = self.case_ids[index]
        path = self.run.explanations / "attention" / f"{file_name(case_id)}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                if "matrices" in stored:
                    return close_json(dict(stored))
        return self._look(self.trained.input(case_id), fold=self.trained.fold_of(case_id))

    def add(self, name: str, path: Path, *, mask: Path | None = None) -> dict[str, Any]:
        """Decode, label and explain a new picture.

        Args:
            name: What the client calls it; shown to the client alone.
            path: The file, or the folder of a series, as this program wrote it.
            mask: A volume's mask.

        Raises:
            UnreadableFileError: If it cannot be decoded.
            DataError: If too many pictures are kept already.
        """
        if len(self.sent) >= MOST_PICTURES:
            came = f"{len(self.sent)} pictures are kept"
            raise DataError(
                "pictures", came, "no more are", "export them and start the server anew"
            )
        decoded = decode(path, view=self.view, mask=mask)
        sent = label(
            self.trained,
            decoded,
            name=name,
            number=len(self.sent) + 1,
            method=self._named(None),
            modalities=self.modalities,
            decide=partial(self.contents.decide, PRIMARY),
        )
        self.sent.append(sent)
        return dict(sent.about)

    def export(self) -> bytes:
        """Pack labels, probabilities and raw maps of the sent pictures into a ZIP archive."""
        content, table = io.BytesIO(), io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["name", "label", *(f"prob_{one}" for one in self.classes), "warning"])
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, one in enumerate(self.sent, start=1):
                said = one.about["said"][0]
                shares = [said["probabilities"][name] for name in self.classes]
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

    def _look(self, image: Float[Tensor, "1 channel height width"], *, fold: int) -> dict[str, Any]:
        """Look closely now, by a fold's model; what is found is large and not kept."""
        model = self.trained.each[fold].model
        return close_json(close_up(model, image, several=self.trained.several_labels))

    def _sent(self, index: int) -> Sent:
        """Return a sent picture by its place after the run's cases."""
        return self.sent[index - len(self.case_ids)]
