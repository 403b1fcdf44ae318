"""Every class-specific method equals what its published implementation computed (../shared/golden).

The tolerances are those that the golden set advises: the largest difference over one map, as a
share of the map's largest absolute value.
"""

import numpy as np
import pytest
import timm
import torch

from vitrail.explain import explain

pytestmark = pytest.mark.shared


def worst(ours, golden, axes):
    """Return the largest difference over any one map, as a share of that map's largest value."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    assert ours.shape == golden.shape
    return float((np.abs(ours - golden).max(axes) / np.abs(golden).max(axes)).max())


def by_image(attribution_values):
    """Turn [class, batch, ...] into the golden set's [batch, class, ...]."""
    return attribution_values.transpose(0, 1).numpy()


ON_THE_GRID = [
    ("gradrollout__corrected_d0", "gradient_rollout", {}, 5e-5),
    ("gradrollout__corrected_d09", "gradient_rollout", {"discard_ratio": 0.9}, 5e-5),
    ("generic__mm", "relevance", {}, 2e-5),
    ("legrad__torchcam_mean_all", "legrad", {}, 1e-5),
    ("legrad__torchcam_mean_last2", "legrad", {"start_layer": 1}, 1e-5),
    ("legrad__torchcam_cls_all", "legrad", {"readout": "cls"}, 1e-5),
    ("legrad__torchcam_cls_last2", "legrad", {"readout": "cls", "start_layer": 1}, 1e-5),
    ("gradcam__norm1_last_signed", "grad_cam", {}, 2e-5),
    ("ig__captum_gl32_patch", "integrated_gradients", {}, 2e-5),
    ("ig__captum_mid32_patch", "integrated_gradients", {"rule": "midpoint", "steps": 32}, 2e-5),
    ("ixg__captum_patch", "input_x_gradient", {}, 5e-5),
    ("occlusion__captum_patch0", "occlusion", {}, 3e-5),
    ("lxt__cplrp_pixel_patch", "cp_lrp", {}, 5e-5),
    ("libra__ixg_patch", "cp_lrp", {}, 5e-5),
    ("lxt__cplrp_gamma_pixel_patch", "cp_lrp", {"gamma": (0.25, 0.05)}, 5e-5),
]


@pytest.mark.parametrize(("array", "method", "parameters", "tolerance"), ON_THE_GRID)
def test_a_map_on_the_grid_equals_the_published_one(
    model, images, maps, array, method, parameters, tolerance
):
    ours = explain(model, images, method=method, target="all", **parameters).values
    assert worst(by_image(ours), maps[array], (-2, -1)) <= tolerance


ON_PIXELS = [
    ("ig__captum_gl32", "integrated_gradients", {}, 2e-5),
    ("ixg__captum", "input_x_gradient", {}, 5e-5),
    ("lxt__cplrp_pixel", "cp_lrp", {}, 5e-5),
    ("libra__ixg_pixel", "cp_lrp", {}, 5e-5),
    ("lxt__cplrp_gamma_pixel", "cp_lrp", {"gamma": (0.25, 0.05)}, 5e-5),
]


@pytest.mark.parametrize(("array", "method", "parameters", "tolerance"), ON_PIXELS)
def test_a_map_on_pixels_equals_the_published_one(
    model, images, maps, array, method, parameters, tolerance
):
    ours = explain(model, images, method=method, target="all", **parameters).pixels
    assert worst(by_image(ours), maps[array], (-3, -2, -1)) <= tolerance


@pytest.mark.parametrize(
    ("array", "variant"),
    [
        ("libra__fullgradplus_tokens", "fullgrad_plus"),
        ("libra__fullgrad_tokens", "fullgrad"),
        ("libra__ixg_tokens", "input_x_gradient"),
    ],
)
def test_libra_on_tokens_equals_the_published_one(model, images, maps, array, variant):
    ours = explain(model, images, method="libra", target="all", variant=variant)
    tokens = torch.cat([ours.prefix, ours.values.flatten(-2)], dim=-1)
    assert worst(by_image(tokens), maps[array], -1) <= 5e-5


@pytest.mark.parametrize("start_layer", [0, 1])
def test_transformer_attribution_in_float64_equals_the_published_one(
    model, images, maps, start_layer
):
    double = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=5
    )
    double.load_state_dict(model.state_dict())
    ours = explain(
        double.double().eval(),
        images.double(),
        method="transformer_attribution",
        target="all",
        start_layer=start_layer,
    ).values
    golden = maps[f"transattr__chefer21_sl{start_layer}_f64"]
    assert worst(by_image(ours), golden, (-2, -1)) <= 5e-5


@pytest.mark.parametrize("start_layer", [0, 1])
def test_transformer_attribution_in_float32_is_near_its_float64(model, images, maps, start_layer):
    ours = explain(
        model, images, method="transformer_attribution", target="all", start_layer=start_layer
    ).values
    golden = maps[f"transattr__chefer21_sl{start_layer}_f64"]
    assert worst(by_image(ours), golden, (-2, -1)) <= 0.1


# The known mistakes of vit-explain, re-stated, so that each "Differs:" line is proven.


def rollout_of(matrices, *, discard, divide_columns):
    """Roll out one image's [layer, query, key] matrices, with the peer's column division or not."""
    tokens = matrices.shape[-1]
    product = np.eye(tokens)
    for fused in matrices:
        thinned = fused.copy().ravel()
        thinned[np.argsort(thinned, kind="stable")[: int(thinned.size * discard)]] = 0
        mixed = (thinned.reshape(tokens, tokens) + np.eye(tokens)) / 2
        sums = mixed.sum(-1)
        product = (mixed / (sums if divide_columns else sums[:, None])) @ product
    return product[0, 1:]


def gradient_rollouts(inputs, *, discard, order, scores, divide_columns):
    """Re-state gradient rollout from the golden attention and gradient, mistakes and all."""
    maps = np.empty((4, 5, 16))
    for image in range(4):
        for target in range(5):
            attention = inputs["attn"][image].astype(np.float64)
            gradient = inputs["attn_grad"][image, target].astype(np.float64)
            if scores:
                weighted = attention * gradient
                gradient = weighted - attention * weighted.sum(-1, keepdims=True)
            fused = np.maximum((attention * gradient[::order]).mean(1), 0)
            maps[image, target] = rollout_of(fused, discard=discard, divide_columns=divide_columns)
    return maps.reshape(4, 5, 4, 4)


MISTAKES = [
    ("peer_bug_d0", 0.0, -1, True, True),
    ("peer_bug_d09", 0.9, -1, True, True),
    ("peer_bug_partfix_order_d0", 0.0, 1, True, True),
    ("peer_bug_partfix_order_d09", 0.9, 1, True, True),
    ("peer_bug_partfix_order_dA_d0", 0.0, 1, False, True),
]


@pytest.mark.parametrize(("name", "discard", "order", "scores", "divide_columns"), MISTAKES)
def test_vit_explains_gradient_rollout_is_recognized_and_ours_differs(
    model, images, inputs, maps, name, discard, order, scores, divide_columns
):
    mistaken = maps[f"gradrollout__{name}"]
    restated = gradient_rollouts(
        inputs, discard=discard, order=order, scores=scores, divide_columns=divide_columns
    )
    assert worst(restated, mistaken, (-2, -1)) <= 5e-5
    ours = explain(
        model, images, method="gradient_rollout", target="all", discard_ratio=discard
    ).values
    assert worst(by_image(ours), mistaken, (-2, -1)) > 0.05


def test_without_the_three_mistakes_the_restated_gradient_rollout_is_ours(model, images, inputs):
    restated = gradient_rollouts(inputs, discard=0.9, order=1, scores=False, divide_columns=False)
    ours = explain(model, images, method="gradient_rollout", target="all", discard_ratio=0.9)
    assert worst(by_image(ours.values), restated, (-2, -1)) <= 5e-5
