"""The hooks of attpc-ioc: the public contract between the core and its plugins.

A plugin is a module, or a class that is called without arguments, with functions marked `@hookimpl`. It is
registered under the entry-point group `attpc_ioc`; the entry point's name is the plugin's. A misspelt hook,
an argument that the hook does not have, an `async` decision or a wrapper is an error at start-up.

Hooks come in two kinds:

- *Decisions* are plain functions. They are asked at any time, often many times a second, because the
  checklist is live: they look at cached state and never wait. One that raises counts as "no", with the
  exception as the reason, and its plugin is Degraded until it has answered for a while without raising.
- *Notifications* may be `async def`; all run in the IOC's event loop and must not block it. They report
  what happened. Each plugin gets them one after the other, in the order in which things happened, from its
  own queue: a slow plugin delays only itself. One that raises is logged, and its plugin is Degraded until an
  event of the same kind succeeds again; the run and the other plugins go on. Up to 10000 may be queued, then
  the oldest is dropped. The core logs every event first, whatever happens to the plugin.

Implementations are called in pluggy's order: last registered first, with `tryfirst` and `trylast`. The
built-in ones are registered first, then the installed ones by name.

`Plugin:<name>:Status_RBV` and `Message_RBV` show the condition of a plugin:

- *Off*: switched off in the settings (`[plugins.<name>]` with `enabled = false`).
- *Degraded*: something went wrong, and it goes on.
- *Failed*: it could not be loaded, did not start, or one of its tasks crashed. One that did not start
  gets no notifications and no writes, but its decisions are called. One that could not be loaded
  might have a veto or own the run numbers: no run can start until it is repaired or switched off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from attpc_ioc.model.command import (
        Command,
        CommandName,
        Put,
        Reason,
        ScopeKind,
        Who,
    )
    from attpc_ioc.model.events import Event, RunStarting
    from attpc_ioc.model.fleet import Fleet
    from attpc_ioc.model.online import OnlineAnswer
    from attpc_ioc.model.plan import Plan
    from attpc_ioc.pvs.row import Row, Value

    from .contract import PluginContext, RunNumbers, RunRecords

PROJECT = "attpc_ioc"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of a hook."""


DECISIONS = frozenset(
    (
        "attpc_settings",
        "attpc_pvs",
        "attpc_plan",
        "attpc_veto",
        "attpc_access",
        "attpc_cli",
        "attpc_run_numbers",
        "attpc_run_records",
    )
)
"""The hooks that must be plain functions, because they are called without waiting."""


class Specification:
    """The hooks. Arguments are optional: an implementation names only those that it needs."""

    @hookspec
    def attpc_settings(self) -> type[BaseModel]:  # type: ignore[empty-body]
        """Return the pydantic model (`extra="forbid"`) of the plugin's section `[plugins.<name>]`.

        Decision, collected, called once before anything starts. Raising ends the start-up with the reason, as
        does a section that the model rejects. The context of its validation (`info.context` of a
        validator) is an `attpc_ioc.model.names.FleetNames` with the names of sources and ECC servers, or None
        without a fleet. `enabled` belongs to the core and is not passed to the model.
        """

    @hookspec
    def attpc_pvs(self, settings: BaseModel | None, prefix: str, state_dir: str) -> Iterable[Row]:  # type: ignore[empty-body]
        """Return rows for the PV table. The plugin owns them: it publishes them and handles the writes.

        A row of kind `plugin` becomes `Plugin:<name>:<part>`; one of kind `ecc` or `source` is made for
        each of those. A row with a `setpoint`, whatever its text, can be written: see `attpc_write`. With a
        `table` it is a column of a table over PVAccess: of its own plugin's, or of `Fleet`. `prefix`
        and `state_dir` are as in the plugin's context; the folder may not exist yet, and must only be read.

        Decision, collected, called once before the server starts. Raising takes the plugin out (Failed).
        """

    @hookspec(firstresult=True)
    def attpc_plan(self, command: Command, fleet: Fleet) -> Plan | None:
        """Map a command to a plan: ordered stages of steps, or refusals. None leaves it to the next plugin.

        Decision, first result. The built-in mapping in the AT-TPC's order comes last, so that a
        site's plugin replaces it for the commands that it answers. Whatever the plan says, the core sends a
        step only if the rules of operation allow it. Run number, roll-back and stop of a run stay in the
        core. An implementation that raises refuses the command; the next is not called.
        """

    @hookspec
    def attpc_veto(
        self, plan: Plan, scope_kind: ScopeKind, command_name: CommandName, fleet: Fleet
    ) -> Reason | str | Iterable[Reason | str] | None:
        """Return why this command may not run now, or None. The reasons of all plugins are shown together.

        A start of a run has the scope kind `RUN` and the name `START`; `plan` has the whole command and every
        step. A veto without the argument `plan` answers the same for every module, so it is called once for
        all modules in the same situation: that matters for fleets of hundreds.

        Decision, collected. Never called for Stop and Abort. Called again for a start of a run with every
        change and at least once a second; for other commands only while the rules have nothing against them.
        """

    @hookspec(firstresult=True)
    def attpc_access(self, who: Who, row: Row) -> bool | None:
        """Return whether this user on this host may write this PV; None leaves it to the next plugin.

        Called when a client connects to the PV, and only if the access security file lets it write: a
        plugin can deny, not grant. The client names user and host itself, so this prevents mistakes, not
        attacks.

        Decision, first result. Without an answer the file decides; without a file writing is allowed.
        Raising denies it.
        """

    @hookspec
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the plugin's own sub-commands to `attpc-ioc`.

        A command uses `attpc_ioc.shell` to get what the plugin knows and keeps: `ask_plugin` while an IOC
        runs, `open_state` otherwise.

        Decision, collected, at each start of the shell command. Raising is reported on stderr, and the
        program goes on without that plugin's commands.
        """

    @hookspec
    def attpc_online_check(  # type: ignore[empty-body]
        self, settings: BaseModel | None, timeout_s: float
    ) -> Awaitable[Iterable[OnlineAnswer]] | None:
        """Check the hosts and services that the plugin depends on, with an answer for each: `check --online`.

        Async, collected, called for all plugins at once and only by that command: no IOC runs, there is no
        context, and nothing may be changed anywhere. Each answer may take `timeout_s` seconds, or
        `settings.online_limit_s` if the plugin's settings have that attribute and it is longer: a slow host
        then has the limits of the running plugin. Raising, or taking 5 s longer, counts
        as a failed answer.
        """

    @hookspec(firstresult=True)
    def attpc_run_numbers(self) -> RunNumbers | None:
        """Return the owner of the run numbers, see `RunNumbers`; None leaves it to the next plugin.

        Decision, first result, called once before anything starts; the core's own owner, which keeps numbers
        in the state database, comes last. An exception, or an answer that is not a `RunNumbers`, refuses
        every start.
        """

    @hookspec(firstresult=True)
    def attpc_run_records(self) -> RunRecords | None:
        """Return the record of runs for other plugins, see `RunRecords`; None leaves it to the next plugin.

        Decision, first result, called once before anything starts. After an exception there is no record.
        """

    @hookspec(firstresult=True)
    def attpc_write(self, ctx: PluginContext, pv: str, value: Value, who: Who) -> Awaitable[None] | None:
        """Handle a write to one of the plugin's own PVs, named without the prefix and checked by its row.

        Async; only the plugin that owns the row is called. The PV keeps its value until the plugin publishes
        a new one. Raising `attpc_ioc.errors.Refused` fails the put, and the plugin's `Message_RBV` shows why;
        any other exception fails it too, and is logged. Limited to 10 s.
        """

    @hookspec
    def attpc_event(self, event: Event | Put) -> Awaitable[None] | None:
        """Handle an event of any kind: a plugin matches on the classes that it needs. Notification.

        `attpc_ioc.model.events` has the classes: changes of state, operations, the steps of a run, its files
        and configuration files; `attpc_ioc.model.command.Put` is a put to any PV. The snapshot is never older
        than the event. This is for live reactions; a plugin that must not miss an event, even across
        restarts, reads the log with `ctx.events`.
        """

    @hookspec
    def attpc_prepare_run(self, event: RunStarting) -> Awaitable[None] | None:
        """Prepare for a run that has its number, before any module is started. Notification.

        The start waits for all plugins, at most 1 s in total; the steps before the first
        Start, such as the re-zero of the MuTAnT, go on meanwhile. A late or raising plugin refuses nothing.
        It is called before the `RunStarting` of `attpc_event`.
        """

    @hookspec
    def attpc_startup(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Start the plugin.

        Async, in order of registration, before Channel Access answers and before any ECC server is polled.
        Limited to 10 s. Raising, or taking longer, makes the plugin Failed.
        """

    @hookspec
    def attpc_shutdown(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Stop the plugin, even one that did not start.

        Async, in reverse order of registration, after its queue was emptied (at most 0.25 s). Limited to
        0.5 s, and to 1 s for all plugins; then tasks of `ctx.spawn` are cancelled.
        """
