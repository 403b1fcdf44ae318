"""The plainest picture classifier made of attention: patches look at each other, then a vote.

The architecture of the fourth founding system, a small classifier of lung CT slices. Compared with
a Vision Transformer it has no class token, no position embedding, no MLP and no normalization,
so that nothing stands between the reader and self-attention::

    picture  [batch channel height width]
      │  patch_embed: a convolution as large as its stride; one token a patch
    tokens   [batch patch dim]
      │  blocks: multi-head self-attention, one after the other
    tokens   [batch patch dim]
      │  mean over the patches
    pooled   [batch dim]
      │  head: a linear layer
    logits   [batch class]

Because no position enters, shuffling the patches of a picture leaves the logits as they are.

At patch 16, width 64, two blocks, one grey channel and two classes it has 49 858 parameters:
16 · 16 · 64 + 64 = 16 448 in the convolution, 64 · 192 + 192 + 64 · 64 + 64 = 16 640 in each block,
64 · 2 + 2 = 130 in the head. The size of the picture does not matter.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vitrail.errors import InputError


class PatchEmbed(nn.Module):
    """Cut a picture into square patches and project each to a token.

    Attributes:
        grid_size: (rows, columns) of patches.
    """

    def __init__(
        self, img_size: tuple[int, int], patch_size: int, *, in_chans: int, embed_dim: int
    ) -> None:
        super().__init__()
        if img_size[0] % patch_size or img_size[1] % patch_size:
            raise InputError(
                "img_size",
                f"{img_size[0]} x {img_size[1]} px",
                f"its sides must be multiples of patch_size ({patch_size})",
                "change one of the two",
            )
        self.img_size = img_size
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch dim"]:
        """Return one token a patch, row by row."""
        patches: Tensor = self.proj(images)
        return patches.flatten(2).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention: every token becomes a mean of all, weighted by likeness.

    attention = softmax(q kᵀ / √head_dim), output = proj(attention · v), heads side by side.

    Source:
        vaswani2017, section 3.2.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.drop_rate = drop_rate
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Let the tokens look at each other."""
        batch, token, dim = tokens.shape
        qkv: Tensor = self.qkv(tokens)
        query, key, value = qkv.view(batch, token, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.drop_rate if self.training else 0.0
        heads = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed: Tensor = self.proj(heads.transpose(1, 2).reshape(batch, token, dim))
        return mixed


class AttentionClassifier(nn.Module):
    """Patch convolution, self-attention, mean over the patches, linear layer.

    Args:
        img_size: (rows, columns) in pixels, multiples of ``patch_size``.
        patch_size: Side of a patch in pixels.
        in_chans: Channels of a picture.
        num_classes: Length of the logits.
        embed_dim: Width of a token, a multiple of ``num_heads``.
        depth: Number of attention layers.
        num_heads: Heads a layer.
        drop_rate: Dropout on the attention and before the head.

    Differs:
        From a Vision Transformer: see the module's text. The layers follow one another without
        a residual connection.
    """

    num_prefix_tokens = 0
    global_pool = "avg"

    def __init__(
        self,
        *,
        img_size: tuple[int, int],
        patch_size: int = 16,
        in_chans: int = 1,
        num_classes: int = 2,
        embed_dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise InputError(
                "num_heads",
                str(num_heads),
                f"it must divide embed_dim ({embed_dim})",
                "change one of the two",
            )
        self.num_classes = num_classes
        self.embed_dim = embed_dim
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans=in_chans, embed_dim=embed_dim)
        self.blocks = nn.ModuleList(
            SelfAttention(embed_dim, num_heads, drop_rate=drop_rate) for _ in range(depth)
        )
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward_features(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch dim"]:
        """Return the tokens after the last attention layer."""
        tokens: Tensor = self.patch_embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def forward_head(
        self,
        tokens: Float[Tensor, "batch patch dim"],
        pre_logits: bool = False,  # noqa: FBT001, FBT002, timm's signature
    ) -> Float[Tensor, "batch out"]:
        """Average the tokens; with ``pre_logits`` stop there, otherwise return the logits."""
        pooled = self.head_drop(tokens.mean(dim=1))
        logits: Tensor = self.head(pooled)
        return pooled if pre_logits else logits

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch class"]:
        """Return the logits."""
        return self.forward_head(self.forward_features(images))
