"""Hides plugins that are installed beside the project from the tests, in every Python that they start.

Python imports a module of this name at its start; `tests/conftest.py` puts this folder into `PYTHONPATH`.
Plugins that a test installs for itself are not hidden: they were not there when the tests began.
"""

import importlib.metadata
import os

GROUP, PROJECT, HIDDEN = "attpc_ioc", "attpc-ioc", "ATTPC_TESTS_HIDE"

_entry_points = importlib.metadata.entry_points


def beside():
    """Return the names of the distributions that bring plugins and are not the project."""
    names = {point.dist.name for point in _entry_points(group=GROUP) if point.dist is not None}
    return sorted(names - {PROJECT})


def _without(**wanted):
    found = _entry_points(**wanted)
    hidden = os.environ.get(HIDDEN, "").split(",")
    return type(found)(p for p in found if p.group != GROUP or p.dist is None or p.dist.name not in hidden)


if os.environ.get(HIDDEN):
    importlib.metadata.entry_points = _without
