"""What must hold of every trace and rollout, whatever the model's weights."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.explain import capture, explain
from vitrail.explain.trace import AttentionLayer


def tiny(*, pool="token", seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    model = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=4,
        global_pool=pool, reg_tokens=2,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().to(dtype)


def pictures(count=3, seed=1):
    return torch.randn(count, 3, 16, 24, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    queries=st.integers(1, 9),
    is_causal=st.booleans(),
    masked=st.sampled_from(["no", "bool", "added"]),
    seed=st.integers(0, 99),
)
def test_recomputed_rows_times_values_are_the_fused_output(
    batch, heads, queries, is_causal, masked, seed
):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, batch, heads, queries, 4, generator=generator).unbind(0)
    mask = torch.rand(batch, 1, queries, queries, generator=generator) < 0.7
    mask |= torch.eye(queries, dtype=torch.bool)
    mask = {"no": None, "bool": mask, "added": mask * 2.0}[masked]
    if is_causal:
        mask = None
    output = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal
    )
    layer = AttentionLayer(
        query=q, key=k, value=v, output=output, mask=mask, scale=0.5, is_causal=is_causal
    )
    rows = torch.cat([layer.attention(i, i + 1) for i in range(queries)], dim=2)
    torch.testing.assert_close(rows.sum(-1), torch.ones(batch, heads, queries))
    torch.testing.assert_close(rows @ v, output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_rollout_rows_stay_a_distribution(pool):
    found = explain(tiny(pool=pool), pictures(), method="rollout")
    total = found.values.sum((1, 2)) + found.prefix.sum(1)
    torch.testing.assert_close(total, torch.ones(3))
    assert bool((found.values >= 0).all())


@pytest.mark.parametrize("head_fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard_ratio", [0.0, 0.7])
def test_a_batch_is_its_images_one_by_one(head_fusion, discard_ratio):
    model, images = tiny(), pictures()
    parameters = {"head_fusion": head_fusion, "discard_ratio": discard_ratio}
    whole = explain(model, images, method="rollout", **parameters).values
    single = [
        explain(model, images[i : i + 1], method="rollout", **parameters).values for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.cat(single), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_row_form_is_the_matrix_form(pool):
    model, images = tiny(pool=pool), pictures()
    with torch.no_grad(), capture(model) as trace:
        model(images)
    joint = torch.eye(9)
    for layer in trace.layers:
        joint = (0.5 * layer.attention().mean(1) + 0.5 * torch.eye(9)) @ joint
    row = joint[:, 0] if pool == "token" else joint[:, 3:].mean(dim=1)
    ours = explain(model, images, method="rollout").values.flatten(1)
    torch.testing.assert_close(ours, row[:, 3:], rtol=1e-5, atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)))
def test_permuting_patches_permutes_the_map(order):
    model = tiny()
    torch.nn.init.zeros_(model.pos_embed)
    images = pictures(1)
    patches = images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)[:, :, list(order)]
    shuffled = patches.unflatten(2, (2, 3)).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 16, 24)
    for parameters in ({}, {"head_fusion": "max", "discard_ratio": 0.5}):
        first = explain(model, images, method="rollout", **parameters).values.flatten()
        second = explain(model, shuffled, method="rollout", **parameters).values.flatten()
        torch.testing.assert_close(second, first[list(order)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accumulated_in_float32(dtype):
    half = explain(tiny(dtype=dtype), pictures(), method="rollout")
    full = explain(tiny(), pictures(), method="rollout")
    assert half.values.dtype == torch.float32
    torch.testing.assert_close(half.values, full.values, rtol=0.1, atol=0.02)


def test_gradients_of_all_targets_together_are_those_one_by_one():
    model, images = tiny(), pictures()

    def outputs(**options):
        with capture(model, **options) as trace:
            logits = model(images)
        return logits.sum(0), [layer.output for layer in trace.layers]

    totals, inputs = outputs(fold_targets=True)
    together = torch.autograd.grad(totals, inputs, grad_outputs=torch.eye(4), is_grads_batched=True)
    for target in range(4):
        totals, inputs = outputs()
        alone = torch.autograd.grad(totals[target], inputs)
        for folded, plain in zip(together, alone, strict=True):
            torch.testing.assert_close(folded[target], plain, rtol=1e-4, atol=1e-6)


def test_an_exception_inside_the_block_leaves_no_mode_behind():
    model = tiny()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), capture(model):
        model.head(torch.zeros(1, 3))
    assert torch._C._len_torch_function_stack() == 0
