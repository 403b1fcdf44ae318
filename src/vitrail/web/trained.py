"""The run's trained models, one a fold: which may speak of which case, and what they say together.

A case of the run is explained by a model that did not train on it. Of a picture that no fold has
seen, the probabilities are the mean over the models of all folds, and the map is the first fold's,
as in ``vitrail predict``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.cohort import load_cohort
from vitrail.errors import RunFolderError
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan
from vitrail.pipeline.train import dataset
from vitrail.records import SplitName
from vitrail.runfolder import RunFolder


class Trained:
    """The models of a run.

    Args:
        run: A run whose model was trained.
        plan: Its plan.

    Attributes:
        each: The model of each fold, of the plan's seed.

    Raises:
        RunFolderError: If a model is missing.
    """

    def __init__(self, run: RunFolder, plan: Plan) -> None:
        self.run, self.plan = run, plan
        folders = [
            run.model("vit", seed=plan.seed.value, fold=fold) for fold in range(plan.folds.value)
        ]
        for folder in folders:
            run.require(folder / bundle.DESCRIPTION, "train")
        self.each = tuple(bundle.load(folder) for folder in folders)
        self.several_labels = bool(self.each[0].extra.get("multi_label", False))
        several = len(self.each) > 1
        cohort = load_cohort(run.cohort) if several else ()
        self._folds = crossvalidation.read(run, cohort, plan=plan) if cohort else None

    def fold_of(self, case_id: str) -> int:
        """Return the first fold whose model did not train on a case."""
        return 0 if self._folds is None else self._folds.unseen(case_id)

    def note(self, case_id: str | None) -> str:
        """Say whose map and layers are shown of a case (None: a new one); empty for one model."""
        count = len(self.each)
        if count == 1:
            return ""
        if case_id is None:
            return f"Probabilities: mean of {count} folds' models; map and layers: the first's."
        fold = self.fold_of(case_id) + 1
        return f"Map and layers: the model of fold {fold} of {count}, which did not train on it."

    def probabilities(self, images: Float[Tensor, "picture channel height width"]) -> list[float]:
        """Average what all models say of all pictures of one case."""
        with torch.no_grad():
            logits = torch.stack([fold.model(images).double() for fold in self.each])
        shares = logits.sigmoid() if self.several_labels else logits.softmax(dim=-1)
        mean: list[float] = shares.mean(dim=(0, 1)).tolist()
        return mean

    def input(self, case_id: str) -> Float[Tensor, "1 channel height width"]:
        """Return a case of the run as the model sees it.

        Raises:
            RunFolderError: If it is not there any more.
        """
        cohort = load_cohort(self.run.cohort)
        split: dict[str, SplitName] = {
            case.case_id: "test" if case.case_id == case_id else "" for case in cohort
        }
        cases = dataset(cohort, split, plan=self.plan, part="test")
        if not cases.cases:
            raise RunFolderError(
                "case", "it is not in the cohort now", "the run changed", "start the server anew"
            )
        image: Float[Tensor, "1 channel height width"] = cases[0][0][None]
        return image
