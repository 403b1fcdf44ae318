"""What methods share costs less and changes nothing."""

from functools import partial

import numpy as np
import pytest
import timm
import torch

from vitrail.errors import CaptureError, InputError
from vitrail.explain import Shared, explain, methods
from vitrail.faithfulness import bench as bench_module
from vitrail.faithfulness.bench import METHODS, bench
from vitrail.faithfulness.explainers import Explained, Panel
from vitrail.faithfulness.planted import plant, tiny_vit
from vitrail.faithfulness.suite import BenchSettings

ASKED = ("libra", "cp_lrp", "relevance", "gradient_rollout", "transformer_attribution",
         "input_x_gradient", "rollout", "raw_attention",
         "grad_cam", "attn_lrp", "legrad")  # fmt: skip


class Alone:
    """A panel whose methods are asked one by one, each time anew."""

    def __init__(self, *, methods, grid_size):
        self.methods, self.grid_size = methods, grid_size

    def function(self, name):
        return partial(self._maps, name)

    def explained(self, name, model, *, images, targets):
        return Explained(
            maps=self._maps(name, model, images, targets=targets),
            completeness_error=np.full(len(images), np.nan),
            prefix_share=np.full(len(images), np.nan),
        )

    def _maps(self, name, model, images, *, targets):
        target = targets.tolist() if methods()[name].class_specific else "predicted"
        return explain(model, images, method=name, target=target).values.double().numpy()


@pytest.fixture
def pictures():
    return plant(3, seed=5).images.double()


@pytest.mark.parametrize("target", ["predicted", "all", [0, 2, 1]], ids=str)
def test_a_map_is_the_same_whichever_methods_it_shares_its_passes_with(pictures, target):
    model, shared = tiny_vit(seed=3).double(), Shared()
    for name in ASKED:
        own = target if methods()[name].class_specific else "predicted"
        together = explain(model, pictures, method=name, target=own, shared=shared)
        alone = explain(model, pictures, method=name, target=own)
        torch.testing.assert_close(together.values, alone.values, rtol=1e-9, atol=1e-12)
        assert (together.classes is None) == (alone.classes is None)
        if alone.classes is not None:
            assert torch.equal(together.classes, alone.classes)


def test_two_classes_asked_with_one_sharing_have_their_own_maps(pictures):
    model, shared = tiny_vit(seed=3).double(), Shared()
    for target in (0, 1):
        for name in ("relevance", "input_x_gradient", "libra", "cp_lrp"):
            together = explain(model, pictures, method=name, target=target, shared=shared).values
            alone = explain(model, pictures, method=name, target=target).values
            torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_what_is_shared_is_about_one_model_and_the_same_images(pictures):
    model, shared = tiny_vit(seed=3).double(), Shared()
    explain(model, pictures, method="relevance", shared=shared)
    with pytest.raises(InputError, match="other images"):
        explain(model, pictures.clone(), method="relevance", shared=shared)
    with pytest.raises(InputError, match="another model"):
        explain(tiny_vit(seed=4).double(), pictures, method="relevance", shared=shared)


def test_ten_methods_share_five_of_their_eleven_passes(pictures):
    model, targets = tiny_vit(seed=3).double(), np.zeros(3, dtype=int)
    passes, alone = [], {}
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    for name in METHODS:
        alone[name] = explain(
            model, pictures, method=name, target=0 if name != "rollout" else "predicted"
        ).values.numpy()
    assert len(passes) == 11
    passes.clear()
    panel = Panel(methods={name: {} for name in METHODS}, grid_size=(8, 8))
    for name in METHODS:
        maps = panel.function(name)(model, pictures, targets=targets)
        np.testing.assert_allclose(maps, alone[name], rtol=1e-9, atol=1e-12)
    assert len(passes) == 6


def test_a_panel_answers_about_each_model_picture_and_class_by_itself(pictures):
    panel = Panel(methods={"relevance": {}, "rollout": {}}, grid_size=(8, 8), batch_size=2)
    first, second = (tiny_vit(seed=seed).double() for seed in (3, 4))
    for model in (first, second):
        for images in (pictures, pictures.flip(3)):
            for targets in (np.array([0, 1, 2]), np.array([1, 1, 1])):
                own = panel.function("relevance")(model, images, targets=targets)
                literal = explain(model, images, method="relevance", target=targets.tolist())
                np.testing.assert_allclose(own, literal.values.numpy(), rtol=1e-9, atol=1e-12)


def test_a_method_that_refuses_leaves_the_others_their_maps(pictures):
    panel = Panel(methods={"rollout": {}, "grad_cam": {}}, grid_size=(2, 2))
    model = timm.create_model("resnet10t", num_classes=2, in_chans=1).double().eval()
    asked = {"images": pictures, "targets": np.array([0, 1, 0])}
    with pytest.raises((CaptureError, InputError), match="attention"):
        panel.explained("rollout", model, **asked)
    assert panel.explained("grad_cam", model, **asked).maps.shape == (3, 2, 2)


def test_the_bench_finds_the_same_whether_work_is_shared_or_not(monkeypatch):
    model, images = tiny_vit(seed=0).double(), plant(4, seed=8).images.double()
    tests = ("removal", "contrast", "mosaic", "stability", "randomization")
    asked = {
        "targets": [0, 1, 2, 3],
        "methods": ("relevance", "gradient_rollout", "libra", "cp_lrp", "rollout"),
        "settings": BenchSettings(tests=tests, imputers=("token_drop",)),
    }
    shared = bench(model, images, **asked)
    monkeypatch.setattr(bench_module, "Panel", Alone)
    alone = bench(model, images, **asked)
    assert shared.tables.keys() == alone.tables.keys()
    for test, row in shared.tables.items():
        for name, cell in row.items():
            other = alone.tables[test][name]
            assert (cell.value, cell.low, cell.high) == pytest.approx(
                (other.value, other.low, other.high), rel=1e-6, abs=1e-9, nan_ok=True
            ), (test, name)
