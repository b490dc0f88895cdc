"""Measurements; `make bench` runs the files of this folder one after the other."""
