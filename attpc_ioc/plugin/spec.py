"""The hooks of attpc-ioc: the public contract between the core and its plugins.

A plugin is a module, or a class that is called without arguments, with functions marked `@hookimpl`. It is
registered under the entry-point group `attpc_ioc`; the entry point's name is the plugin's. A misspelt hook,
an argument that the hook does not have, an `async` decision or a wrapper is an error at start-up.

Hooks come in two kinds:

- *Decisions* are plain functions. They are asked at any time, often many times a second, because the
  checklist is live: they look at cached state and never wait. One that raises counts as "no", with the
  exception as the reason, and its plugin is Degraded until it has answered for a while without.
- *Notifications* may be `async def`; all of them run in the IOC's event loop and must not block it. They
  tell what happened. Each plugin gets them one after the other, in the order in which they happened, from a
  queue of its own: a slow plugin delays only itself. One that raises is logged, and its plugin is Degraded
  until an event of the same kind is handled well again; the run and the other plugins go on. Up to 10000 may
  wait, then the oldest goes. Every event is in the core's log before that, whatever becomes of the plugin.

Implementations are called in pluggy's order: last registered first, `tryfirst` and `trylast` respected. The
built-in ones are registered first, then the installed ones by name.

How a plugin is can be seen at `Plugin:<name>:Status_RBV` and `Message_RBV`:

- *Off*: switched off in the settings (`[plugins.<name>]` with `enabled = false`).
- *Degraded*: something went wrong and it goes on.
- *Failed*: it could not be loaded, did not start, or a task of its own has crashed. One that did not start
  gets no notifications and no writes, but its decisions are asked. One that could not be loaded at all
  might have had a veto, or own the run numbers: no run is started until it is repaired or switched off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import asyncio

    import typer
    from pydantic import BaseModel, TypeAdapter

    from attpc_ioc.eventlog import Kept
    from attpc_ioc.model.command import (
        Command,
        CommandName,
        Outcome,
        Put,
        Reason,
        ScopeKind,
        Who,
    )
    from attpc_ioc.model.events import Event, RunConfigs, RunFiles, RunStarting
    from attpc_ioc.model.fleet import Fleet
    from attpc_ioc.model.online import OnlineAnswer
    from attpc_ioc.model.plan import Plan
    from attpc_ioc.model.run import RunInfo
    from attpc_ioc.model.states import Severity
    from attpc_ioc.pvs.row import Reading, Row, Value

T = TypeVar("T")

PROJECT = "attpc_ioc"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of a hook."""


class PluginContext(Protocol):
    """All that a plugin gets of the core, given to `attpc_startup`, `attpc_write` and `attpc_shutdown`.

    - `name`: the plugin's name, as in `Plugin:<name>:Status_RBV`.
    - `prefix`: what every PV of this IOC begins with.
    - `settings`: its section of the settings file, as the model that `attpc_settings` gave.
    - `state_dir`: the path of a folder of its own inside the state directory, made when first asked for.
    - `ca_addresses`: where the IOC's own PVs are found on this machine, `host:port`, as
      `EPICS_CA_NAME_SERVERS` has them; empty before clients are answered.
    - `log_id`: a text that is the event log's own; another one has positions of its own.
    - `position`: the position of the newest event, also while it is not on disk; 0 where there is none.
    - `recorded`: the position of the newest event that is on disk.

    It is to be used in the IOC's event loop only, not from other threads.
    """

    name: str
    prefix: str
    settings: BaseModel | None
    state_dir: str
    ca_addresses: tuple[str, ...]
    log_id: str
    position: int
    recorded: int

    def snapshot(self) -> Fleet:
        """Return what is known of the fleet now; costs nothing."""
        ...

    def number_floor(self, experiment: str) -> int:
        """Return the least number that a run of this experiment may get, by the core's own record.

        An owner of run numbers never gives a lower one: it was used, or an operator has set it.
        """
        ...

    def publish(self, pv: str, value: Value | Reading, severity: Severity | None = None) -> None:
        """Set one of the plugin's own PVs, by the name after the prefix; `KeyError` for any other.

        A plain value without `severity` gets the alarm that the row's severities and limits tell. A
        `Reading` brings its own, with the status, such as COMM for what cannot be reached.
        """
        ...

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        """Give a command as a client would and wait for its end; refusals are in the outcome.

        The `reason` of a command that stops the run goes into the run's record.
        """
        ...

    async def tell(self, kind: type[RunFiles] | type[RunConfigs], **fields: Any) -> bool:
        """Make an event of this kind, stamped by the core, record it, and give it to every plugin.

        Returns when it is on disk, after 50 ms at the latest; False where it is known not to be.
        """
        ...

    def record(self, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        """Record something of the plugin's own in the event log, as a `PluginRecord` that `events` gives.

        It is appended at once. The result tells whether it could be written to the disk.
        """
        ...

    async def events(self, after: int, most: int = 1000) -> list[tuple[int, Event | Put | ValueError]]:
        """Return the next events of the log after a position, each with its own; waits until there are some.

        This is for a plugin that must miss nothing, over restarts too: it keeps the position up to which it
        has done its work, with that work, and goes on after it. `log_id` tells that the log is still the
        same. An event that cannot be read is a `ValueError` in its place. Raises `sqlite3.Error`.
        """
        ...

    def seen(self, position: int) -> None:
        """Say that events up to this position are not needed any more: others are not pruned."""
        ...

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what the plugin keeps over restarts under this topic: values by key.

        What is kept in one turn of the event loop, and the events emitted in it, are on disk together or
        not at all. To be asked once for a topic; pydantic's adapter makes JSON of a value and back.
        """
        ...

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until all that was kept and emitted is on disk; raises `StateDirError` if it cannot be."""
        ...

    def answer(self, answerer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Have questions answered that a command of the plugin asks by `attpc_ioc.shell.ask_plugin`.

        Only the IOC's own account can ask. The answer is given on the spot; it and the question are JSON
        objects, the question of 64 KiB at most. The key `error` is for what is wrong with the question.
        """
        ...

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Run a coroutine for the life of the IOC, under supervision.

        A crash is logged and marks the plugin Failed; with `restart` a new one is made and run, with
        back-off from 1 s to 60 s, and the plugin is Degraded until that has lasted as long as the wait.
        """
        ...

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        """Say on the plugin's status PVs how it is: Ok, or Degraded with the reason."""
        ...


@runtime_checkable
class RunNumbers(Protocol):
    """The one owner of run numbers, given by `attpc_run_numbers`."""

    def next(self, experiment: str) -> int | None:
        """Return the number that the next run would get, at once, for `Run:NextNumber_RBV`.

        None where it is not known. Raising shows -1.
        """
        ...

    async def reserve(self, experiment: str) -> int:
        """Reserve the next number, from 0 to 2147483647; called before any module is commanded.

        An exception, a value that is not a run number, or more than 2 s (`limits.run_number_s`) refuse the
        start; no other owner is asked.
        """
        ...

    async def release(self, experiment: str, number: int) -> None:
        """Take a reserved number back: no module was, or may have been, Running under it.

        Bounded as above. A failure is logged: the number is then not used.
        """
        ...

    async def open_run(self) -> RunInfo | None:
        """Return the run of this fleet that is open on the owner's record, or None where none is.

        Asked once at start-up, and only where the state database has no record of runs (it is new, or was
        damaged); otherwise that record counts. The core then finds out by the rules of recovery what became
        of the run. Bounded by `limits.recovery_s`; an exception counts as None.
        """
        ...


DECISIONS = frozenset(
    (
        "attpc_settings",
        "attpc_pvs",
        "attpc_plan",
        "attpc_veto",
        "attpc_access",
        "attpc_cli",
        "attpc_run_numbers",
    )
)
"""The hooks that must be plain functions, because they are answered on the spot."""


class Specification:
    """The hooks. Every argument is optional for an implementation: it names those that it wants."""

    @hookspec
    def attpc_settings(self) -> type[BaseModel]:  # type: ignore[empty-body]
        """Return the pydantic model (`extra="forbid"`) of the plugin's section `[plugins.<name>]`.

        Decision, collected, asked once before anything starts. Raising ends the start-up with the reason, and
        so does a section that the model refuses. The context of its validation (`info.context` of a
        validator) is an `attpc_ioc.model.names.FleetNames` with the names of sources and ECC servers, or None
        where there is no fleet. `enabled` is the core's and is not in what the model gets.
        """

    @hookspec
    def attpc_pvs(self, settings: BaseModel | None, prefix: str, state_dir: str) -> Iterable[Row]:  # type: ignore[empty-body]
        """Return rows for the PV table. They are the plugin's own: it publishes and it takes the writes.

        A row of kind `plugin` becomes `Plugin:<name>:<part>`, one of kind `ecc` or `source` is made for
        each of those. A row with a `setpoint`, whatever its text, can be written, see `attpc_write`. `prefix`
        and `state_dir` are as in the plugin's context; the folder may not be there yet, and may be read only.

        Decision, collected, asked once before the server starts. Raising takes the plugin out (Failed).
        """

    @hookspec(firstresult=True)
    def attpc_plan(self, command: Command, fleet: Fleet) -> Plan | None:
        """Map a command to a plan: ordered stages of steps, or refusals. None leaves it to the next.

        Decision, first result. The built-in mapping, which knows the AT-TPC's order, comes last, so that a
        site's own replaces it for the commands that it answers. Whatever the plan says, the core sends a
        step only where the rules of operation allow it. Run number, roll-back and stop of a run stay in the
        core. One that raises refuses the command; the next is not asked.
        """

    @hookspec
    def attpc_veto(
        self, plan: Plan, scope_kind: ScopeKind, command_name: CommandName, fleet: Fleet
    ) -> Reason | str | Iterable[Reason | str] | None:
        """Return why this command may not run now, or None. All reasons of all plugins are shown together.

        A start of a run has the scope kind `RUN` and the name `START`; `plan` has the whole command and every
        step. A veto that does without `plan` says the same of every module, so that it is asked once for all
        modules in the same situation: that matters to fleets of hundreds.

        Decision, collected. Never asked for Stop and Abort. The answers are looked at again with every change
        and at least once a second.
        """

    @hookspec(firstresult=True)
    def attpc_access(self, who: Who, row: Row) -> bool | None:
        """Tell whether this user on this host may write this PV; None leaves it to the next.

        Asked when a client connects to the PV, and only where the access security file lets it write: a
        plugin can take away, not give. The client names user and host itself, so this keeps out mistakes, not
        malice.

        Decision, first result. Where nobody answers, it stays with the file; without one writing is allowed.
        Raising means no.
        """

    @hookspec
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the plugin's own sub-commands to `attpc-ioc`.

        A command gets what the plugin knows and keeps by `attpc_ioc.shell`: `ask_plugin` while an IOC runs,
        `open_state` where none does.

        Decision, collected, at each start of the shell command. Raising is reported on stderr, and the
        program goes on without them.
        """

    @hookspec
    def attpc_online_check(  # type: ignore[empty-body]
        self, settings: BaseModel | None, timeout_s: float
    ) -> Awaitable[Iterable[OnlineAnswer]] | None:
        """Ask what the plugin depends on elsewhere, and return an answer for each, for `check --online`.

        Async, collected, asked of all plugins at once and only by that command: no IOC runs, there is no
        context, and nothing may be changed anywhere. Each answer may take `timeout_s` seconds, or
        `settings.online_limit_s` where the plugin's settings have that attribute and it is longer: what is
        asked of a slow host then has the limits of the running plugin. Raising, or taking 5 s longer, counts
        as an answer that something is wrong.
        """

    @hookspec(firstresult=True)
    def attpc_run_numbers(self) -> RunNumbers | None:
        """Return the owner of the run numbers, see `RunNumbers`; None leaves it to the next.

        Decision, first result, asked once before anything starts; the core's own owner, which keeps numbers
        in the state database, comes last. An exception, or an answer that is not a `RunNumbers`, refuses
        every start.
        """

    @hookspec(firstresult=True)
    def attpc_write(self, ctx: PluginContext, pv: str, value: Value, who: Who) -> Awaitable[None] | None:
        """Take a write to one of the plugin's own PVs, named without the prefix and checked by its row.

        Async; only the plugin that owns the row is asked. The PV keeps its value until the plugin publishes
        another. Raising `attpc_ioc.errors.Refused` fails the put, and the plugin's `Message_RBV` shows why;
        any other exception fails it too, and is logged. Bounded to 10 s.
        """

    @hookspec
    def attpc_event(self, event: Event | Put) -> Awaitable[None] | None:
        """Take an event, whatever its kind: a plugin matches on the classes that it wants. Notification.

        `attpc_ioc.model.events` has them: changes of state, operations, the steps of a run, its files and
        configuration files; `attpc_ioc.model.command.Put` is a put to any PV. The snapshot is never older
        than the event. This is for what follows the moment; what must not miss an event, over restarts
        too, reads the log by `ctx.events`.
        """

    @hookspec
    def attpc_prepare_run(self, event: RunStarting) -> Awaitable[None] | None:
        """Get ready for a run that has its number, before any module is started. Notification.

        The start waits until every plugin has done so, for at most 1 s in all; what comes before the first
        Start, as the re-zero of the MuTAnT, goes on meanwhile. One that is late, or raises, refuses nothing.
        It comes before the `RunStarting` of `attpc_event`.
        """

    @hookspec
    def attpc_startup(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Start the plugin.

        Async, in order of registration, before Channel Access answers and before any ECC server was asked.
        Bounded to 10 s. Raising, or taking longer, makes the plugin Failed.
        """

    @hookspec
    def attpc_shutdown(self, ctx: PluginContext) -> Awaitable[None] | None:
        """Stop the plugin; also one that did not start.

        Async, in reverse order of registration, after its queue was emptied (at most 0.25 s). Bounded to
        0.5 s, and to 1 s for all plugins; then tasks of `ctx.spawn` are cancelled.
        """
