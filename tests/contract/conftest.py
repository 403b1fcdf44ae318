"""One tiny random instance of every model family that the engine promises to serve."""

from functools import partial

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}
HUGGING_FACE = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def from_timm(name, **kwargs):
    return timm.create_model(name, num_classes=5, img_size=32, **kwargs)


def from_hugging_face(kind, *, attention="sdpa"):
    config = kind.config_class(**HUGGING_FACE, num_labels=5, hidden_dropout_prob=0.0)
    return kind._from_config(config, attn_implementation=attention)


def maxvit():
    zoo = timm.models.maxxvit
    inner = zoo.MaxxVitTransformerCfg(window_size=(4, 4), dim_head=16)
    config = zoo.MaxxVitCfg(
        embed_dim=(32,), depths=(1,), stem_width=16, block_type=("M",), transformer_cfg=inner
    )
    return zoo.MaxxVit(config, img_size=32, num_classes=5)


def hugging_face_swin():
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4,
        num_labels=5,
    )  # fmt: skip
    return transformers.SwinForImageClassification(config)


def torchvision_vit():
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48,
        num_classes=5,
    )  # fmt: skip


class ClipWithHead(nn.Module):
    """A CLIP vision tower with one's own classifier."""

    def __init__(self):
        super().__init__()
        self.vision = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**HUGGING_FACE))
        self.classifier = nn.Linear(24, 5)

    def forward(self, x):
        return self.classifier(self.vision(x).pooler_output)


class OwnBlock(nn.Module):
    """Attention as someone wrote it this morning."""

    def __init__(self, *, written_out):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.written_out = written_out

    def forward(self, x):
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (2, 12)).transpose(1, 2) for part in parts)
        if self.written_out:
            mixed = torch.softmax(q @ k.transpose(-2, -1) * 12**-0.5, dim=-1) @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Own(nn.Module):
    """No class token, the mean of the patches, and a grid that is not square."""

    def __init__(self, *, written_out):
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 12, 24) * 0.1)
        self.blocks = nn.Sequential(*(OwnBlock(written_out=written_out) for _ in range(2)))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.blocks(tokens).mean(dim=1))


class Cnn(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))


def compiled_vit():
    return torch.compile(from_timm("vit_tiny_patch16_224", **SMALL), backend="eager")


TRANSFORMERS = {
    "timm ViT": partial(from_timm, "vit_tiny_patch16_224", **SMALL),
    "timm ViT, mean of patches": partial(
        from_timm, "vit_tiny_patch16_224", global_pool="avg", **SMALL
    ),
    "timm ViT, attention pooling": partial(
        from_timm, "vit_tiny_patch16_224", global_pool="map", **SMALL
    ),
    "timm DeiT": partial(from_timm, "deit_tiny_patch16_224", **SMALL),
    "timm DeiT distilled": partial(from_timm, "deit_tiny_distilled_patch16_224", **SMALL),
    "timm DINOv2 with registers": partial(from_timm, "vit_small_patch14_reg4_dinov2", **SMALL),
    "timm DINOv3": partial(from_timm, "vit_small_patch16_dinov3", **SMALL),
    "timm EVA-02": partial(from_timm, "eva02_tiny_patch14_224", **SMALL),
    "timm BEiT": partial(from_timm, "beit_base_patch16_224", **SMALL),
    "timm SigLIP": partial(from_timm, "vit_base_patch16_siglip_224", **SMALL),
    "timm NaFlex": partial(from_timm, "naflexvit_base_patch16_gap", **SMALL),
    "HF ViT": partial(from_hugging_face, transformers.ViTForImageClassification),
    "HF ViT, eager": partial(
        from_hugging_face, transformers.ViTForImageClassification, attention="eager"
    ),
    "HF DeiT": partial(from_hugging_face, transformers.DeiTForImageClassification),
    "HF DeiT distilled": partial(
        from_hugging_face, transformers.DeiTForImageClassificationWithTeacher
    ),
    "HF DINOv2": partial(from_hugging_face, transformers.Dinov2ForImageClassification),
    "HF DINOv2 with registers": partial(
        from_hugging_face, transformers.Dinov2WithRegistersForImageClassification
    ),
    "HF BEiT": partial(from_hugging_face, transformers.BeitForImageClassification),
    "HF CLIP vision, own head": ClipWithHead,
    "torchvision ViT": torchvision_vit,
    "own, fused": partial(Own, written_out=False),
    "own, softmax written out": partial(Own, written_out=True),
    "compiled timm ViT": compiled_vit,
}
"""Families whose attention goes from all tokens to all tokens."""

WINDOWED = {
    "timm Swin": partial(
        from_timm, "swin_tiny_patch4_window7_224", embed_dim=16, depths=(1, 1), num_heads=(2, 2),
        window_size=4,
    ),
    "timm Swin v2": partial(
        from_timm, "swinv2_tiny_window8_256", embed_dim=16, depths=(1, 1), num_heads=(2, 2),
        window_size=4,
    ),
    "timm MaxViT": maxvit,
    "timm PVT v2": lambda: timm.create_model(
        "pvt_v2_b0", num_classes=5, depths=(1, 1), embed_dims=(16, 32), num_heads=(1, 2),
        sr_ratios=(2, 1), mlp_ratios=(2, 2),
    ),
    "timm Hiera": partial(
        from_timm, "hiera_tiny_224", embed_dim=16, num_heads=1, stages=(1, 1), q_pool=1,
        mask_unit_size=(4, 4),
    ),
    "HF Swin": hugging_face_swin,
}  # fmt: skip
"""Families whose attention is windowed or pooled: they have no row form."""

CNNS = {"CNN": Cnn, "timm ResNet": lambda: timm.create_model(
    "resnet10t", num_classes=5, channels=(8, 8, 8, 8), stem_width=8
)}  # fmt: skip
"""Families without attention."""

FAMILIES = {**TRANSFORMERS, **WINDOWED, **CNNS}


@pytest.fixture(scope="session")
def family():
    """Return a function from a family's name to (model in eval mode, two images); built once."""
    built = {}

    def get(name):
        if name not in built:
            torch.manual_seed(0)
            model = FAMILIES[name]().eval()
            for parameter in model.parameters():
                if parameter.ndim == 2 and not parameter.any():
                    nn.init.normal_(parameter, std=0.1)
            size = (24, 32) if name.startswith("own") else (32, 32)
            built[name] = model, torch.randn(2, 3, *size)
        return built[name]

    return get


@pytest.fixture(scope="session")
def kinds():
    """Return the names of the families by kind."""
    return {"transformer": TRANSFORMERS, "windowed": WINDOWED, "cnn": CNNS, "name": FAMILIES}


def pytest_generate_tests(metafunc):
    """Give every test that asks for ``name`` or ``kind`` all families (of that kind)."""
    kinds = {"transformer": TRANSFORMERS, "windowed": WINDOWED, "cnn": CNNS, "name": FAMILIES}
    for fixture, table in kinds.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, list(table))
