"""PVAccess servers compared: see `bench.py`."""
