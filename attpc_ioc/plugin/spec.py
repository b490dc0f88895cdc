"""The hooks of attpc-ioc: the public contract between the core and its plugins.

A plugin is a module or an object with functions marked `@hookimpl`, registered under the entry-point group
`attpc_ioc`. Hooks come in two kinds:

- *Decisions* (plain functions) are asked at any time, often many times a second, because the checklist is
  live: they look at cached state, never wait, never block. One that raises counts as "no", with the
  exception as the reason.
- *Notifications* (may be `async def`) tell what happened. Each plugin gets them one after the other, in the
  order in which they happened, from a queue of its own: a slow plugin delays only itself. One that raises is
  logged and shown on the plugin's status PVs; it never hurts the run or the other plugins.

Implementations are called in pluggy's order: last registered first, `tryfirst` and `trylast` respected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from attpc_ioc.model.command import Command, Outcome, Put, Reason, Who
    from attpc_ioc.model.events import (
        OperationEnded,
        OperationStarting,
        RunDegraded,
        RunFailed,
        RunStarted,
        RunStarting,
        RunStopped,
        RunStopping,
        StateChanged,
    )
    from attpc_ioc.model.fleet import Fleet
    from attpc_ioc.model.plan import Plan
    from attpc_ioc.model.states import Severity
    from attpc_ioc.pvs.row import Row, Value

PROJECT = "attpc_ioc"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of a hook."""


class PluginContext(Protocol):
    """All that a plugin gets of the core, given to `attpc_startup`, `attpc_write` and `attpc_shutdown`."""

    name: str
    """The plugin's name, as in `Plugin:<name>:Status_RBV`."""
    settings: BaseModel | None
    """The plugin's section of the settings file, as the model that `attpc_settings` gave."""
    state_dir: str
    """A folder of the plugin's own inside the state directory; made when first asked for."""

    def snapshot(self) -> Fleet:
        """Return what is known of the fleet now; costs nothing."""
        ...

    def publish(self, pv: str, value: Value, severity: Severity | None = None) -> None:
        """Set one of the plugin's own PVs, by the name after the prefix; `KeyError` for any other."""
        ...

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        """Give a command as a client would and wait for its end; refusals are in the outcome."""
        ...

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Run a coroutine for the life of the IOC, under supervision.

        A crash is logged and marks the plugin Failed; with `restart` a new one is made and run, with
        back-off from 1 s to 60 s, and the plugin is Degraded meanwhile.
        """
        ...

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        """Say on the plugin's status PVs how it is: Ok, or Degraded with the reason."""
        ...


DECISIONS = frozenset(
    (
        "attpc_settings",
        "attpc_pvs",
        "attpc_plan",
        "attpc_veto",
        "attpc_access",
        "attpc_cli",
        "attpc_next_number",
    )
)
"""The hooks that must be plain functions, because they are answered on the spot."""


class Specification:
    """The hooks. Every argument is optional for an implementation: it names those that it wants."""

    @hookspec
    def attpc_settings(self) -> type[BaseModel]:  # type: ignore[empty-body]
        """Return the pydantic model (`extra="forbid"`) of the plugin's section `[plugins.<name>]`.

        Decision, collected, asked once before anything starts. Raising ends the start-up with the reason.
        """

    @hookspec
    def attpc_pvs(self, settings: BaseModel | None) -> Iterable[Row]:  # type: ignore[empty-body]
        """Return rows for the PV table. They are the plugin's own: it publishes and it takes the writes.

        Decision, collected, asked once before the server starts. Raising switches the plugin off (Failed).
        """

    @hookspec(firstresult=True)
    def attpc_plan(self, command: Command, fleet: Fleet) -> Plan | None:
        """Map a command to a plan: ordered stages of steps, or refusals. None leaves it to the next.

        Decision, first result. The built-in mapping, which knows the AT-TPC's order, comes last, so that a
        site's own replaces it for the commands that it answers. Whatever the plan says, the core sends a
        step only where the rules of operation allow it. Run number, roll-back and stop stay in the core.
        """

    @hookspec
    def attpc_veto(self, plan: Plan, fleet: Fleet) -> Reason | str | Iterable[Reason | str] | None:
        """Return why this plan may not run now, or None. All reasons of all plugins are shown together.

        Decision, collected. Never asked for Stop and Abort.
        """

    @hookspec(firstresult=True)
    def attpc_access(self, who: Who, row: Row) -> bool | None:
        """Tell whether this user on this host may write this PV; None leaves it to the next.

        Decision, first result. Where nobody answers, writing is allowed.
        """

    @hookspec
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the plugin's own sub-commands to `attpc-ioc`.

        Decision, collected, at each start of the shell command. Raising is reported on stderr, and the
        program goes on without them.
        """

    @hookspec(firstresult=True)
    def attpc_run_number(self, experiment: str) -> Awaitable[int] | None:
        """Reserve the next run number of an experiment and return it.

        Async, one owner: the first implementation in call order; the core's own comes last. Fires before any
        module is commanded. An exception, a negative number or more than 2 s refuse the start; no other
        source is asked.
        """

    @hookspec(firstresult=True)
    def attpc_release_number(self, experiment: str, number: int) -> Awaitable[None] | None:
        """Give a reserved number back: no module was, or may have been, Running under it.

        Async, the same owner.
        """

    @hookspec(firstresult=True)
    def attpc_next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get, from cached state. Decision, the same owner."""

    @hookspec(firstresult=True)
    def attpc_write(self, ctx: PluginContext, pv: str, value: Value, who: Who) -> Awaitable[None] | None:
        """Take a write to one of the plugin's own PVs, named without the prefix and checked by its row.

        Async; only the plugin that owns the row is asked. Raising `attpc_ioc.errors.Refused` fails the put
        with its text; any other exception fails it and is logged. Bounded to 10 s.
        """

    @hookspec
    def attpc_before_operation(self, event: OperationStarting) -> Awaitable[None] | None:
        """Tell that a SOAP transition is about to be sent. Notification; the transition does not wait."""

    @hookspec
    def attpc_after_operation(self, event: OperationEnded) -> Awaitable[None] | None:
        """Tell that a SOAP transition arrived, failed, or was given up waiting for. Notification."""

    @hookspec
    def attpc_state_changed(self, change: StateChanged) -> Awaitable[None] | None:
        """Tell that an ECC server changed state or reachability. Notification.

        `change.origin` is ours or external.
        """

    @hookspec
    def attpc_run_starting(self, event: RunStarting) -> Awaitable[None] | None:
        """Tell that a run has its number; nothing was sent yet. Notification."""

    @hookspec
    def attpc_run_started(self, event: RunStarted) -> Awaitable[None] | None:
        """Tell that every member was seen Running, or that a run was adopted. Notification."""

    @hookspec
    def attpc_run_degraded(self, event: RunDegraded) -> Awaitable[None] | None:
        """Tell that the set of lost members changed; empty when all are back. Notification."""

    @hookspec
    def attpc_run_stopping(self, event: RunStopping) -> Awaitable[None] | None:
        """Tell that a stop of the run begins. Notification; the stop does not wait."""

    @hookspec
    def attpc_run_stopped(self, event: RunStopped) -> Awaitable[None] | None:
        """Tell that the run is over: stopped, stopped outside or interrupted, with the times seen.

        Notification.
        """

    @hookspec
    def attpc_run_failed(self, event: RunFailed) -> Awaitable[None] | None:
        """Tell that a start failed, with the reasons and what became of its number. Notification."""

    @hookspec
    def attpc_put(self, put: Put) -> Awaitable[None] | None:
        """Tell of a put to any PV: who, from where, old, new, outcome. Notification."""

    @hookspec
    def attpc_startup(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Start the plugin. Async, before Channel Access answers; bounded to 10 s, then it is Failed."""

    @hookspec
    def attpc_shutdown(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Stop the plugin. Async, in reverse order of start, after its queue was emptied; bounded to 1 s."""
