"""Loads p4p, without what it does not need to run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_DSO = "setuptools_dso"


def load_p4p() -> None:
    """Import p4p and silence pvxs; raises `ImportError` if it is not installed.

    p4p's packages find their libraries by `setuptools_dso.runtime`. The package itself imports all of
    setuptools, which takes 7 MB and a tenth of a second, so an empty one stands in for it meanwhile.
    """
    found = None if _DSO in sys.modules else importlib.util.find_spec(_DSO)
    if found is not None:
        stand_in = sys.modules[_DSO] = ModuleType(_DSO)
        stand_in.__path__ = list(found.submodule_search_locations or ())
        try:
            vars(stand_in).update(vars(importlib.import_module(f"{_DSO}.runtime")))
            _load()
        finally:
            del sys.modules[_DSO]
    else:
        _load()


def _load() -> None:
    from p4p._p4p import logger_level_set

    # Its messages about clients that vanish or send nonsense have no limit, and no reader. p4p's logLevelOff
    # leaves what is critical to pvxs, such as nonsense from a client, with a stack.
    logger_level_set("pvxs.*", 0)
    importlib.import_module("attpc_ioc.pva.values")
