"""One loop, its schedule and its checkpoints."""
