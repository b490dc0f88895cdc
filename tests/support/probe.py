"""A plugin that writes down what it is told, and a list of which hooks the tests cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin.checks import HOOKS

COVERED: dict[str, list[str]] = {}
"""Hooks by name, with the tests that say they cover them."""

Test = TypeVar("Test", bound=Callable[..., Any])


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
    """Takes every notification and keeps it, in order, as hook and event."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.ctx: Any = None

    def hooks(self) -> list[str]:
        """The hooks in the order in which they fired."""
        return [hook for hook, _ in self.told]

    def of(self, hook: str) -> list[Any]:
        """The events of one hook."""
        return [event for name, event in self.told if name == hook]

    @hookimpl
    async def attpc_startup(self, ctx):
        self.ctx = ctx
        self.told.append(("attpc_startup", ctx))

    @hookimpl
    def attpc_shutdown(self, ctx):
        self.told.append(("attpc_shutdown", ctx))

    @hookimpl
    async def attpc_before_operation(self, event):
        self.told.append(("attpc_before_operation", event))

    @hookimpl
    def attpc_after_operation(self, event):
        self.told.append(("attpc_after_operation", event))

    @hookimpl
    def attpc_state_changed(self, change):
        self.told.append(("attpc_state_changed", change))

    @hookimpl
    async def attpc_run_starting(self, event):
        self.told.append(("attpc_run_starting", event))

    @hookimpl
    async def attpc_run_started(self, event):
        self.told.append(("attpc_run_started", event))

    @hookimpl
    async def attpc_run_degraded(self, event):
        self.told.append(("attpc_run_degraded", event))

    @hookimpl
    async def attpc_run_stopping(self, event):
        self.told.append(("attpc_run_stopping", event))

    @hookimpl
    async def attpc_run_stopped(self, event):
        self.told.append(("attpc_run_stopped", event))

    @hookimpl
    async def attpc_run_failed(self, event):
        self.told.append(("attpc_run_failed", event))

    @hookimpl
    async def attpc_run_files(self, event):
        self.told.append(("attpc_run_files", event))

    @hookimpl
    async def attpc_run_configs(self, event):
        self.told.append(("attpc_run_configs", event))

    @hookimpl
    async def attpc_put(self, put):
        self.told.append(("attpc_put", put))
