"""Attention and attribution maps of any Vision Transformer.

>>> from vitrail.explain import explain, methods
>>> methods()["rollout"].class_specific
False
"""

from vitrail.explain import (  # noqa: F401 (each registers its methods)
    cam,
    gradient,
    legrad,
    libra,
    lrp,
    occlusion,
    relevance,
    rollout,
    transformer_attribution,
)
from vitrail.explain.anatomy import Anatomy, anatomy
from vitrail.explain.attribution import Attribution, Overlay
from vitrail.explain.engine import attention_maps, explain
from vitrail.explain.heads import attention_matrices, head_importance
from vitrail.explain.lens import Lens, logit_lens
from vitrail.explain.registry import Method, methods
from vitrail.explain.request import Shared
from vitrail.explain.trace import AttentionLayer, AttentionTrace, capture

__all__ = [
    "Anatomy",
    "AttentionLayer",
    "AttentionTrace",
    "Attribution",
    "Lens",
    "Method",
    "Overlay",
    "Shared",
    "anatomy",
    "attention_maps",
    "attention_matrices",
    "capture",
    "explain",
    "head_importance",
    "logit_lens",
    "methods",
]
