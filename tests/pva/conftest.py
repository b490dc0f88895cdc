"""These tests need p4p, which has packages for Linux on x86_64 and aarch64 only."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("p4p") else ["test_*.py"]
