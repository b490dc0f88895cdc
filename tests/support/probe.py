"""A plugin that writes down what it is told, and a list of which hooks the tests cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin.checks import HOOKS

COVERED: dict[str, list[str]] = {}
"""Hooks by name, with the tests that say they cover them."""

Test = TypeVar("Test", bound=Callable[..., Any])
Event = TypeVar("Event")


def covers(*hooks: str) -> Callable[[Test], Test]:
    """Mark a test as one of what these hooks' documents say."""
    unknown = set(hooks) - HOOKS
    assert not unknown, f"no hooks: {unknown}"

    def mark(test: Test) -> Test:
        for hook in hooks:
            COVERED.setdefault(hook, []).append(test.__name__)
        return test

    return mark


class Probe:
    """Takes every notification and keeps it, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        """The hook, or the class of the event, and what came with it."""
        self.ctx: Any = None

    def names(self) -> list[str]:
        """What was told, in order."""
        return [name for name, _ in self.told]

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one class."""
        return [event for name, event in self.told if name == kind.__name__]

    @hookimpl
    async def attpc_startup(self, ctx):
        self.ctx = ctx
        self.told.append(("attpc_startup", ctx))

    @hookimpl
    def attpc_shutdown(self, ctx):
        self.told.append(("attpc_shutdown", ctx))

    @hookimpl
    async def attpc_event(self, event):
        self.told.append((type(event).__name__, event))
