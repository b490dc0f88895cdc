"""Moves the files of a run to its folder on every data router, and records them in a manifest."""
