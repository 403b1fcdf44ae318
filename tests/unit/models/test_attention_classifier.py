"""The plain classifier is exactly the founding one, and order of patches does not matter to it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import InputError
from vitrail.models.attention_classifier import AttentionClassifier


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_it_has_the_founding_systems_49858_parameters_at_any_size_and_number_of_heads(
    side, num_heads
):
    model = AttentionClassifier(img_size=(side, side), num_heads=num_heads)
    assert sum(parameter.numel() for parameter in model.parameters()) == 49_858


def test_it_computes_what_the_textbook_writes_out():
    torch.manual_seed(0)
    model = AttentionClassifier(img_size=(8, 12), patch_size=4, embed_dim=6, depth=1, num_heads=2)
    model.double().eval()
    image = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    weight, bias = model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias
    tokens = torch.stack(
        [
            weight @ image[0, 0, row : row + 4, column : column + 4].flatten() + bias
            for row in (0, 4)
            for column in (0, 4, 8)
        ]
    )
    block = model.blocks[0]
    query, key, value = (tokens @ block.qkv.weight.T + block.qkv.bias).split(6, dim=1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = query[:, part] @ key[:, part].T / 3**0.5
        heads.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ value[:, part])
    mixed = torch.cat(heads, dim=1) @ block.proj.weight.T + block.proj.bias
    logits = model.head.weight @ mixed.mean(dim=0) + model.head.bias
    torch.testing.assert_close(model(image)[0], logits)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(9)))
def test_shuffling_the_patches_leaves_the_logits(order):
    torch.manual_seed(0)
    model = AttentionClassifier(img_size=(12, 12), patch_size=4, embed_dim=8).eval()
    image = torch.randn(1, 1, 12, 12)
    patches = image.unfold(2, 4, 4).unfold(3, 4, 4).reshape(9, 4, 4)[list(order)]
    shuffled = patches.view(3, 3, 4, 4).permute(0, 2, 1, 3).reshape(1, 1, 12, 12)
    torch.testing.assert_close(model(shuffled), model(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": (30, 32)}, "img_size: 30 x 32 px; its sides must be multiples of patch_size"),
        ({"img_size": (32, 32), "num_heads": 5}, "num_heads: 5; it must divide embed_dim"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        AttentionClassifier(**arguments)
