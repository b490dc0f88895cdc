"""A Channel Access server over the sans-I/O core of caproto; knows nothing of the AT-TPC."""
