"""Measurements; `make bench` runs those that are files here, one after the other."""
