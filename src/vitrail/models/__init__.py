"""Architectures, weights and the model folder."""
