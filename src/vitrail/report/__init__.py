"""The run folder becomes one page."""
