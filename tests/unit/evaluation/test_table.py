"""predictions.csv comes back as written, and a broken one says what is wrong and where."""

import numpy as np
import pytest

from vitrail.errors import DataError
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.records import Predictions


def predictions(model="vit", split="test"):
    generator = np.random.default_rng(0)
    scores = generator.random((12, 3)) + 0.05
    ids = tuple(f"{split}/{place}" for place in range(12))
    probabilities = scores / scores.sum(1, keepdims=True)
    return Predictions(model, 0, 0, split, tuple("abc"), ids, np.arange(12) % 3, probabilities)


def test_the_table_comes_back_as_written(tmp_path):
    blocks = [predictions(), predictions("cnn", "validation")]
    write_predictions(tmp_path / "predictions.csv", blocks)
    for old, new in zip(blocks, read_predictions(tmp_path / "predictions.csv"), strict=True):
        assert (new.model, new.split, new.case_ids) == (old.model, old.split, old.case_ids)
        np.testing.assert_array_equal(new.y_true, old.y_true)
        np.testing.assert_allclose(new.probabilities, old.probabilities, rtol=1e-8)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("vit,0,0,a,test,clear,0.5,0.9", "sum to one"),
        ("vit,0,0,a,test,clear,nan,0.9", "sum to one"),
        ("vit,0,0,a,test,cat,0.1,0.9", "line 2, y_true: 'cat'"),
        ("vit,0,0,a,test,clear,x,0.9", "are numbers"),
        ("vit,0,0,a,test,clear,0.1,0.9\nvit,0,0,a,test,clear,0.1,0.9", "a twice"),
    ],
)
def test_a_broken_table_says_what_is_wrong_and_where(tmp_path, broken, message):
    header = "model,seed,fold,case_id,split,y_true,prob_clear,prob_nodule"
    (tmp_path / "p.csv").write_text(f"{header}\n{broken}\n")
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "p.csv")


def test_an_empty_or_foreign_table_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("model,seed\n")
    with pytest.raises(DataError, match="it holds no rows"):
        read_predictions(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("model,seed\nvit,0\n")
    with pytest.raises(DataError, match="it lacks fold, case_id, split, y_true"):
        read_predictions(tmp_path / "p.csv")
