"""Channel Access servers compared: see `bench.py`."""
