"""Capture sees every way attention is computed, or says what it cannot see."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import flex_attention

from vitrail.errors import CaptureError
from vitrail.explain import capture


class Layer(nn.Module):
    """Projection, then whatever attention is given."""

    def __init__(self, attend):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.attend = attend

    def forward(self, x):
        parts = self.qkv(x).chunk(3, dim=-1)
        return self.attend(*(part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts))


def tokens():
    return torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


def with_matmul(q, k, v):
    return F.softmax(q @ k.mT / 2, dim=-1) @ v


def with_einsum(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).div(2).softmax(-1)
    return torch.einsum("bhij, bhjd -> bhid", weights, v)


def with_bmm(q, k, v):
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    return torch.bmm(torch.softmax(torch.bmm(q, k.mT) / 2, 2), v)


def with_dropout_and_cast(q, k, v):
    weights = F.softmax(q @ k.mT / 2, dim=-1, dtype=torch.float64).to(q.dtype)
    return torch.matmul(F.dropout(weights, 0.5, training=False), v)


@pytest.mark.parametrize("attend", [with_matmul, with_einsum, with_dropout_and_cast])
def test_written_out_attention_is_the_fused_attention(attend):
    torch.manual_seed(0)
    fused = Layer(F.scaled_dot_product_attention)
    written = Layer(attend)
    written.load_state_dict(fused.state_dict())
    with capture(fused) as first:
        fused(tokens())
    with capture(written) as second:
        written(tokens())
    torch.testing.assert_close(first.layers[0].attention(), second.layers[0].attention())
    torch.testing.assert_close(first.layers[0].value, second.layers[0].value)


def test_heads_folded_into_the_batch_are_told_apart_by_nobody():
    model = Layer(with_bmm)
    with capture(model) as trace:
        model(tokens())
    assert trace.layers[0].shape == (6, 1, 5, 5)


def test_multi_head_attention_is_seen_with_and_without_its_weights():
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    traces = []
    for need_weights in (False, True):
        with capture(model) as trace:
            model(*[tokens()] * 3, need_weights=need_weights)
        traces.append(trace.layers[0].attention())
    assert traces[0].shape == (3, 2, 5, 5)
    torch.testing.assert_close(*traces)


def test_shared_keys_of_grouped_heads_are_repeated():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    with capture(nn.Identity()) as trace:
        output = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    rows = trace.layers[0].attention()
    torch.testing.assert_close(rows @ k.repeat_interleave(2, 1), output, rtol=1e-4, atol=1e-5)


def test_a_query_that_may_see_nothing_has_a_row_of_zeros():
    q = torch.randn(1, 1, 3, 4)
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
    with capture(nn.Identity()) as trace:
        F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert trace.layers[0].attention().sum(-1).tolist()[0][0] == pytest.approx([1, 0, 1])


def test_nothing_seen_is_an_error():
    with pytest.raises(CaptureError, match="no attention call was seen"), capture(nn.Identity()):
        pass


def test_a_model_called_twice_is_an_error_that_names_the_projection():
    model = Layer(F.scaled_dot_product_attention)
    with pytest.raises(CaptureError, match=r"qkv\.weight fed two attention calls"), capture(model):
        nn.Sequential(model, nn.Flatten(), nn.Unflatten(1, (5, 8)), model)(tokens())


def test_attention_with_dropout_is_refused():
    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)

    model = Layer(attend)
    with pytest.raises(CaptureError, match=r"dropout is on \(p=0.1\)"), capture(model):
        model(tokens())


def test_attention_whose_softmax_is_used_otherwise_is_refused():
    def attend(q, k, v):
        return v.mT @ (q @ k.mT).softmax(-1).mT

    model = Layer(attend)
    with pytest.raises(CaptureError, match="no product with values followed"), capture(model):
        model(tokens())


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_is_refused_by_name():
    model = Layer(flex_attention)
    words = "computes attention with flex_attention"
    with torch.no_grad(), pytest.raises(CaptureError, match=words), capture(model):
        model(tokens())


def test_a_flash_attention_kernel_is_refused_by_name():
    @torch.library.custom_op("flash_attn::forward_of_a_test", mutates_args=())
    def kernel(q: torch.Tensor) -> torch.Tensor:
        return q.clone()

    model = Layer(lambda q, k, v: kernel(q))
    with pytest.raises(CaptureError, match=r"computes attention with flash_attn"), capture(model):
        model(tokens())


def test_gradient_of_attention_is_that_of_autograd():
    q, k, v = (torch.randn(2, 2, 5, 4, requires_grad=True) for _ in range(3))
    with capture(nn.Identity()) as trace:
        output = F.scaled_dot_product_attention(q, k, v)
    (gradient,) = torch.autograd.grad(output.pow(3).sum(), trace.layers[0].output)
    weights = (q @ k.mT / 2).softmax(-1)
    (expected,) = torch.autograd.grad((weights @ v).pow(3).sum(), weights)
    found = trace.layers[0].attention_gradient(gradient)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        trace.layers[0].attention_gradient(gradient, start=1, stop=3), found[..., 1:3, :]
    )


def values_by_other_axes(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).div(2).softmax(-1)
    return torch.einsum("bhij,hbjd->bhid", weights, v.transpose(0, 1))


def values_that_heads_share(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).div(2).softmax(-1)
    return torch.einsum("bhij,bjd->bhid", weights, v[:, 0])


@pytest.mark.parametrize("attend", [values_by_other_axes, values_that_heads_share])
def test_values_with_other_axes_than_the_attention_are_refused(attend):
    model = Layer(attend)
    with pytest.raises(CaptureError, match="no product with values followed"), capture(model):
        model(tokens())


def test_operands_may_be_named():
    def attend(q, k, v):
        return torch.matmul(input=torch.softmax(input=q @ k.mT / 2, dim=-1), other=v)

    model = Layer(attend)
    with capture(model) as trace:
        model(tokens())
    assert trace.layers[0].shape == (3, 2, 5, 5)


def test_written_out_attention_with_dropout_is_refused():
    model = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True).train()
    with pytest.raises(CaptureError, match=r"dropout is on \(p=0.5\)"), capture(model):
        model(*[tokens()] * 3, need_weights=True)


def test_a_mask_goes_with_its_own_image_however_many_axes_come_first():
    q = torch.randn(2, 3, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with capture(nn.Identity()) as trace:
        F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    expected = (q @ q.mT * 8**-0.5 + mask).softmax(dim=-1).flatten(0, 1)
    torch.testing.assert_close(trace.layers[0].attention(), expected)


def test_recorded_written_out_attention_carries_no_graph():
    model = Layer(with_matmul)
    with capture(model) as trace:
        model(tokens().requires_grad_())
    assert not trace.layers[0].attention().requires_grad
    assert trace.layers[0].output.requires_grad
