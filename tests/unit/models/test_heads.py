"""Other heads on a model: stored, loaded, and still one model."""

import pytest
import torch

from vitrail.errors import InputError
from vitrail.models import bundle
from vitrail.models.heads import NearestNeighbors, build_head, classifier
from vitrail.models.zoo import ModelSpec, build
from vitrail.records import Preprocessing

SIZE = {"patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}


def spec(head):
    return ModelSpec(
        architecture="vit",
        num_classes=2,
        img_size=(32, 32),
        in_chans=1,
        parameters={**SIZE, "head": head},
    )


@pytest.mark.parametrize(
    "head", [{"kind": "mlp", "hidden": 8}, {"kind": "knn", "cases": 5, "neighbors": 3}]
)
def test_a_model_with_another_head_is_stored_and_loaded_whole(head, tmp_path):
    model = build(spec(head)).eval()
    if head["kind"] == "knn":
        model.head.learn(torch.randn(5, 16), torch.eye(2)[torch.tensor([0, 1, 0, 1, 1])])
    preprocessing = Preprocessing(image_size=(32, 32), channels=1, mean=(0.5,), std=(0.5,))
    bundle.save(
        tmp_path,
        model=model,
        spec=spec(head),
        classes=("a", "b"),
        preprocessing=preprocessing,
        extra={},
    )
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(bundle.load(tmp_path).model(images), model(images))


def test_the_nearest_pictures_vote_by_their_likeness():
    head = NearestNeighbors(2, 2, cases=3, neighbors=2).learn(
        torch.tensor([[2.0, 0.0], [1.0, 0.1], [0.0, 3.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    )
    said = head(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).exp()
    assert said[0, 0] > said[0, 1] > 0.4
    assert said[1].tolist() == pytest.approx([1e-4, 1 - 1e-4], rel=1e-3)
    assert said.sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"kind": "forest"}, "its kind is mlp or knn"),
        ({"kind": "mlp", "width": 3}, "its parameters must fit"),
    ],
)
def test_a_head_that_there_is_not_is_refused(head, message):
    with pytest.raises(InputError, match=rf"parameters\.head: .*{message}"):
        build_head(head, dim=4, num_classes=2)


def test_a_head_in_the_place_of_another_than_a_linear_one_is_refused():
    with pytest.raises(InputError, match="ends in Sequential"):
        classifier(build(spec({"kind": "mlp", "hidden": 8})))
