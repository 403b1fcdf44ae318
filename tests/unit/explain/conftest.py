"""A Vision Transformer as someone wrote it this morning, in as many ways as they write it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn


def written_out(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


class Block(nn.Module):
    """Norm, attention, norm, two linear layers."""

    def __init__(self, attend, norm):
        super().__init__()
        self.norm, self.qkv, self.out = norm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm2, self.up, self.down = norm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.attend = attend

    def forward(self, x):
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in parts)
        x = x + self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class OwnVit(nn.Module):
    """Patches of 4 px, three blocks, four classes; ``tokens`` puts the tokens together."""

    def __init__(self, *, attend, norm, tokens, pool):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 4)
        self.blocks = nn.Sequential(*(Block(attend, norm) for _ in range(3)))
        self.norm, self.tokens, self.pool = norm(16), tokens, pool

    def forward(self, x):
        tokens = self.tokens(self, self.patches(x))
        return self.head(self.pool(self, self.norm(self.blocks(tokens))))


@pytest.fixture
def own_vit():
    """Return a function that builds the model, always with the same weights."""

    def build(
        *,
        attend=F.scaled_dot_product_attention,
        norm=nn.LayerNorm,
        tokens=lambda _, x: x.flatten(2).mT,
        pool=lambda _, x: x.mean(dim=1),
        **parameters,
    ):
        torch.manual_seed(0)
        model = OwnVit(attend=attend, norm=norm, tokens=tokens, pool=pool)
        for name, shape in parameters.items():
            model.register_parameter(name, nn.Parameter(torch.randn(shape)))
        return model.eval()

    return build


@pytest.fixture
def pictures():
    """Return two pictures of three by four patches."""
    return torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
