"""Loads p4p, without what it does not need to run.

Its packages find their libraries by `setuptools_dso.runtime`, and that package itself imports all of
setuptools: 7 MB and a tenth of a second. Its arrays are those of numpy's core, and `import numpy` imports all
the rest too: 3 MB. So stand-ins take the place of both packages meanwhile.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

from attpc_ioc.log import get_logger

log = get_logger(__name__)

_DSO = "setuptools_dso"
_NUMPY = "numpy"


def load_p4p() -> None:
    """Import p4p and silence pvxs; raises `ImportError` if it is not installed."""
    with _standing_in(_DSO) as stand_in:
        if stand_in is not None:
            runtime = importlib.import_module(f"{_DSO}.runtime")
            # It would read the source of every caller to find one module's name: a twentieth of a second.
            vars(runtime)["_auto_pkg"] = lambda: sys._getframe(2).f_globals["__name__"]
            vars(stand_in).update(vars(runtime))
        try:
            with _standing_in(_NUMPY) as numpy:
                if numpy is not None:
                    _fill_numpy(numpy)
                importlib.import_module("p4p.nt")
        except Exception:  # another release of numpy: with all of it then
            log.debug("p4p does not load with numpy's core alone", exc_info=True)
        _load()


@contextlib.contextmanager
def _standing_in(name: str) -> Iterator[ModuleType | None]:
    """Let an empty package stand in for one that is installed and not imported; else yield None."""
    found = None if name in sys.modules else importlib.util.find_spec(name)
    if found is None:
        yield None
        return
    stand_in = sys.modules[name] = ModuleType(name)
    stand_in.__path__ = list(found.submodule_search_locations or ())
    try:
        yield stand_in
    finally:
        del sys.modules[name]


def _fill_numpy(stand_in: ModuleType) -> None:
    """Put in what numpy has of its core.

    Modules of the core keep it after it is gone: whatever else they look for comes from numpy itself.
    """
    stand_in.__dict__["__getattr__"] = lambda name: _of_numpy(stand_in, name)
    stand_in.__dict__["_NoValue"] = importlib.import_module("numpy._globals")._NoValue
    core = importlib.import_module("numpy._core")
    vars(stand_in).update({name: getattr(core, name) for name in core.__all__})


def _of_numpy(stand_in: ModuleType, name: str) -> object:
    if sys.modules.get(_NUMPY) is stand_in:
        raise AttributeError(name)
    return getattr(importlib.import_module(_NUMPY), name)


def _load() -> None:
    from p4p._p4p import logger_level_set

    # Its messages about clients that vanish or send nonsense have no limit, and no reader. p4p's logLevelOff
    # leaves what is critical to pvxs, such as nonsense from a client, with a stack.
    logger_level_set("pvxs.*", 0)
    importlib.import_module("attpc_ioc.pva.values")
