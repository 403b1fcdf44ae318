"""Pure functions on arrays: numbers, intervals and comparisons."""
