"""The run in a browser: ``vitrail serve``."""
