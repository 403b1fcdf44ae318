"""Attention and attribution maps of any Vision Transformer."""
