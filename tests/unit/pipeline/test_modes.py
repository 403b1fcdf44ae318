"""What is trained of a model follows from the weights, the machine and the number of cases."""

from dataclasses import replace

import pytest

from vitrail.errors import PlanError
from vitrail.pipeline.modes import SMALL, choose_mode
from vitrail.pipeline.request import Machine, Request


@pytest.mark.parametrize(
    ("weights", "gpu", "cases", "mode"),
    [
        (False, None, 50, "scratch"),
        (False, "a GPU", 5000, "scratch"),
        (True, None, 50, "head"),
        (True, None, 5000, "head"),
        (True, "a GPU", SMALL - 1, "head"),
        (True, "a GPU", SMALL, "finetune"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_the_head_alone_is_trained_on_a_cpu_and_on_few_cases(  # noqa: PLR0917
    facts, tmp_path, weights, gpu, cases, mode, published
):
    seen = replace(facts, cases={**facts.cases, "train": cases})
    start = {"pretrained": True} if published else {"weights": tmp_path / "w.safetensors"}
    request = Request(**start) if weights else Request()
    chosen, why = choose_mode(seen, request, machine=Machine(cores=2, gpu=gpu))
    assert chosen == mode
    assert why


@pytest.mark.parametrize(
    ("wish", "option"), [({"head": "knn"}, "--head"), ({"views": 5}, "--views")]
)
def test_what_only_a_head_makes_use_of_is_refused_in_other_modes(facts, wish, option):
    with pytest.raises(PlanError, match=f"^{option}: in mode scratch; .*pass --mode head"):
        choose_mode(facts, Request(**wish), machine=Machine(cores=2, gpu=None))


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_a_wished_mode_is_taken_where_there_are_weights(facts, tmp_path, mode):
    request = Request(mode=mode, weights=tmp_path / "w.safetensors")
    machine = Machine(cores=2, gpu=None)
    assert choose_mode(facts, request, machine=machine) == (mode, "as given on the command line")
