"""Every method on every model family: it serves or refuses with the reason, and touches nothing.

The methods come from the registry, so a new method is held to the contract by being registered.
"""

import os
import re
from pathlib import Path

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


RULES = {
    ("timm Hiera", "grad_cam"): r"no feature map|no row form",
    ("HF Swin", "grad_cam"): r"no feature map",
    ("timm EVA-02", "transformer_attribution"): r"a gated layer multiplies two activations",
}
"""Refusals of one method on one family: tokens in an order that is not told; no rule for gates."""


@pytest.fixture(scope="session")
def outcome(family):
    """Return a function: run one method on one family once; what came, and what it changed."""
    known = {}

    def get(name, method):
        if (name, method) not in known:
            model, images = family(name)
            given, before = images.clone(), snapshot(model)
            try:
                found = explain(model, images, method=method, **cheap(method))
            except VitrailError as error:  # a refusal, too, must leave everything as it was
                found = error
            after = changed(before, snapshot(model))
            if images.requires_grad or not torch.equal(images, given):
                after.append("images")
            known[name, method] = found, after
        return known[name, method]

    return get


def refusal(kinds, name, method):
    """Return the words with which a family must be refused by a method, or None."""
    if (name, method) in RULES:
        return RULES[name, method]
    if not methods()[method].row_form:
        return None
    return next((REFUSED[kind] for kind in REFUSED if name in kinds[kind]), None)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_served_or_refused_with_the_reason(outcome, kinds, name, method):
    found, _ = outcome(name, method)
    words = refusal(kinds, name, method)
    if words is not None:
        assert isinstance(found, VitrailError), f"{name} is served"
        assert re.search(words, str(found)), found
        return
    assert not isinstance(found, VitrailError), found
    assert bool(torch.isfinite(found.values).all())
    assert float(found.values.abs().sum()) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_transformers_map_lies_on_its_patch_grid(outcome, family, transformer, method):
    found, _ = outcome(transformer, method)
    if (transformer, method) not in RULES:
        height, width = family(transformer)[1].shape[-2:]
        assert found.values.shape == (2, height // 8, width // 8)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_process_are_left_as_they_were(outcome, name, method):
    assert outcome(name, method)[1] == []


def test_the_anatomy_is_found(family, transformer):
    model, images = family(transformer)
    found = anatomy(model, images)
    height, width = images.shape[-2:]
    assert found.grid_size == (height // 8, width // 8)
    assert (found.num_prefix_tokens, found.readout) == READOUTS[transformer]


LEGEND = """# Models

Which method serves which model. **Generated**: every cell is the outcome of a call in
`tests/contract/test_every_method_on_every_family.py`, on a small random instance of the family; a
test fails when this page is stale. Write it again with
`VITRAIL_WRITE_DOCS=1 pytest tests/contract -k table`.

● served, and the model and the process were left as they were. Refused with the reason: `w`
attention is windowed, pooled or folded, so there is no row to push down; `a` there is no attention;
`o` the order of the tokens in the picture is not told (use a method on pixels); `g` gated layers,
for which the method's paper has no rule.
"""
REASONS = {
    r"a gated layer": "g",
    r"no attention call was seen": "a",
    r"no row form": "w",
    r"no feature map": "o",
}


def cell(found, after):
    """Put one outcome into one sign."""
    if after:
        return "✗"
    if not isinstance(found, VitrailError):
        return "●"
    for words, sign in REASONS.items():
        if re.search(words, str(found)):
            return f"`{sign}`"
    return "✗"


def test_the_table_of_models_is_what_was_seen(outcome, kinds):
    columns = [method.replace("_", " ") for method in METHODS]
    lines = [f"| model | {' | '.join(columns)} |", "|---" * (len(METHODS) + 1) + "|"]
    for name in kinds["name"]:
        cells = [cell(*outcome(name, method)) for method in METHODS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = LEGEND + "\n" + "\n".join(lines) + "\n"
    page = Path(__file__).parents[2] / "docs" / "explain-models.md"
    if os.environ.get("VITRAIL_WRITE_DOCS"):
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text
    assert "✗" not in text
