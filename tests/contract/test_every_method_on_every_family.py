"""Every method on every model family: it serves or refuses with the reason, and touches nothing.

The methods come from the registry, so a new method is held to the contract by being registered.
"""

from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vitrail.errors import VitrailError
from vitrail.explain import anatomy, explain, methods

METHODS = list(methods())
CHEAP = {"steps": 2, "samples": 2, "num_samples": 2, "num_masks": 4, "masks": 4}
REFUSED = {
    "windowed": r"windowed, pooled or folded attention has no row form",
    "cnn": r"no attention call was seen",
}
READOUTS = {
    "timm ViT": (1, "cls"),
    "timm ViT, mean of patches": (1, "patch_mean"),
    "timm ViT, attention pooling": (1, "map"),
    "timm DeiT": (1, "cls"),
    "timm DeiT distilled": (2, "distilled"),
    "timm DINOv2 with registers": (5, "cls"),
    "timm DINOv3": (5, "patch_mean"),
    "timm EVA-02": (1, "patch_mean"),
    "timm BEiT": (1, "patch_mean"),
    "timm SigLIP": (0, "map"),
    "timm NaFlex": (4, "patch_mean"),
    "HF ViT": (1, "cls"),
    "HF ViT, eager": (1, "cls"),
    "HF DeiT": (2, "cls"),
    "HF DeiT distilled": (2, "distilled"),
    "HF DINOv2": (1, "cls_and_patch_mean"),
    "HF DINOv2 with registers": (5, "cls_and_patch_mean"),
    "HF BEiT": (1, "patch_mean"),
    "HF CLIP vision, own head": (1, "cls"),
    "torchvision ViT": (1, "cls"),
    "own, fused": (0, "patch_mean"),
    "own, softmax written out": (0, "patch_mean"),
    "compiled timm ViT": (1, "cls"),
}


def snapshot(model):
    """Note everything about a model and the process that a call could have changed."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [parameter.grad for parameter in model.parameters()],
        "training": [module.training for module in model.modules()],
        "fused_attn": [getattr(module, "fused_attn", None) for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "classes": [type(module) for module in model.modules()],
        "forwards": [type(module).forward for module in model.modules()],
        "hooks": [
            {key: dict(value) for key, value in vars(module).items() if key.endswith("hooks")}
            for module in model.modules()
        ],
        "functions": (F.scaled_dot_product_attention, F.multi_head_attention_forward, F.softmax),
        "modes": torch._C._len_torch_function_stack(),
        "grad_mode": torch.is_grad_enabled(),
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": np.random.get_state()[1].copy(),  # noqa: NPY002 (what must stay untouched)
    }


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first is second or first == second


def changed(before, after):
    return [key for key in before if not same(before[key], after[key])]


def cheap(method):
    return {name: value for name, value in CHEAP.items() if name in methods()[method].parameters}


WITHOUT_A_MAP = {
    ("timm Hiera", "grad_cam"): "no row form",
    ("HF Swin", "grad_cam"): "no feature map",
}
"""Models that end in tokens whose order in the picture is not told: Grad-CAM refuses."""


def serve_or_refuse(method, model, images, refusal):
    """Explain, or check the refusal's words; whether row forms must refuse is the method's own."""
    if methods()[method].row_form and refusal:
        with pytest.raises(VitrailError, match=refusal):
            explain(model, images, method=method, **cheap(method))
        return None
    return explain(model, images, method=method, **cheap(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_transformer_is_served(family, transformer, method):
    model, images = family(transformer)
    found = explain(model, images, method=method, **cheap(method))
    height, width = images.shape[-2:]
    assert found.values.shape == (2, height // 8, width // 8)
    assert bool(torch.isfinite(found.values).all())
    assert float(found.values.abs().sum()) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_windowed_model_is_served_or_refused_with_the_reason(family, windowed, method):
    if (windowed, method) in WITHOUT_A_MAP:
        with pytest.raises(VitrailError, match=WITHOUT_A_MAP[windowed, method]):
            explain(*family(windowed), method=method)
        return
    found = serve_or_refuse(method, *family(windowed), REFUSED["windowed"])
    assert found is None or bool(torch.isfinite(found.values).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_cnn_is_served_or_refused_with_the_reason(family, cnn, method):
    found = serve_or_refuse(method, *family(cnn), REFUSED["cnn"])
    assert found is None or bool(torch.isfinite(found.values).all())


@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_process_are_left_as_they_were(family, name, method):
    model, images = family(name)
    given = images.clone()
    before = snapshot(model)
    with suppress(VitrailError):  # a refusal, too, must leave everything as it was
        explain(model, images, method=method, **cheap(method))
    assert changed(before, snapshot(model)) == []
    assert torch.equal(images, given)
    assert not images.requires_grad


def test_the_anatomy_is_found(family, transformer):
    model, images = family(transformer)
    found = anatomy(model, images)
    height, width = images.shape[-2:]
    assert found.grid_size == (height // 8, width // 8)
    assert (found.num_prefix_tokens, found.readout) == READOUTS[transformer]
