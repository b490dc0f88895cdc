"""The PVs of the run history: their rows and values."""
