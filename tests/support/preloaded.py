"""What the programs that tests fork have imported: see `tests.support.forked`."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil

import attpc_plugins.data_routers
import attpc_plugins.run_history
import attpc_plugins.web

import attpc_ioc.app
import attpc_ioc.cli.program
import tests.support.forked
import tests.support.history  # noqa: F401
from attpc_ioc.pva.load import load_p4p

with contextlib.suppress(ImportError):  # it is not made for every platform
    load_p4p()

for package in (attpc_ioc, attpc_plugins.run_history, attpc_plugins.data_routers, attpc_plugins.web):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith(("__main__", "pva.values")):
            importlib.import_module(found.name)
