"""One module a verb: run folder in, run folder out."""
