"""Checks of a plugin when it is registered, so that a mistake shows at start-up and not during a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import pluggy

from attpc_ioc.settings.values import plugin_name_fault

from .spec import DECISIONS, Specification

HOOKS = frozenset(name for name in dir(Specification) if name.startswith("attpc_"))
"""The names of all hooks."""


def faults(name: str, plugin: object, impls: Iterable[tuple[str, pluggy.HookImpl]]) -> Iterator[str]:
    """Yield what is wrong with a plugin's name and its implementations, given with their hooks."""
    if fault := plugin_name_fault(name):
        yield f"its name {fault}"
    marked = set()
    for hook, impl in impls:
        marked |= {hook, getattr(impl.function, "__name__", hook)}
        if impl.wrapper or impl.hookwrapper:
            yield f"{hook} is a wrapper: hooks are called one by one, wrappers never"
        elif hook in DECISIONS and inspect.iscoroutinefunction(impl.function):
            yield f"{hook} is a decision: it must be a plain function, not async"
    for attr in dir(plugin):
        if not attr.startswith("attpc_") or attr in marked or not callable(getattr(plugin, attr, None)):
            continue
        yield f"{attr} is not marked with @hookimpl" if attr in HOOKS else f"there is no hook {attr}"
