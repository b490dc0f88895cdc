"""These tests need p4p, which does not have packages for every platform."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("p4p") else ["test_*.py"]
