"""Runs: their numbers and record, start, stop and adoption, and what happens to them by itself."""
