"""Which map can be trusted: tests of explanations, on any model."""
