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
    from attpc_ioc.model.run import RunInfo, RunQuery
    from attpc_ioc.model.states import Severity
    from attpc_ioc.pvs.row import Reading, Row, Shown, Value
    from attpc_ioc.pvs.table import PvEntry

T = TypeVar("T")

PROJECT = "attpc_ioc"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of a hook."""


class PvSurface(Protocol):
    """Every PV of the IOC, for a plugin that has clients of its own, such as a web page.

    PVs have their full names; a name that no PV has is a `KeyError`. `table` has the row of each PV, in the
    order of the PV contract. Puts come in by the same door as those of EPICS clients: the same rights, rules,
    refusals and put log.
    """

    @property
    def table(self) -> Mapping[str, PvEntry]:
        """The row of each PV, by its full name."""
        ...

    @property
    def rules_read(self) -> int:
        """How often the access security file was read: with each, rights may have changed."""
        ...

    def read(self, name: str) -> Shown:
        """Return what a PV shows now: value, alarm and time."""
        ...

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the name of each PV that was posted to; returns a function that ends that.

        The listener is called in the event loop, many times a turn; it must not wait and must not raise.
        """
        ...

    def may_read(self, name: str, who: Who) -> bool:
        """Return whether somebody may read a PV, by the access security file."""
        ...

    def may_write(self, name: str, who: Who) -> bool:
        """Return whether somebody may write a PV, by the access security file and the plugins."""
        ...

    async def put(self, name: str, value: float | str, who: Who) -> None:
        """Write a PV as a client does, and wait for the end of what that began.

        `who` names the client, not the plugin: `via` says how it came in, and `address` is `IP:port`, by
        which the access security file knows hosts. Raises `attpc_ioc.errors.PutFailed` with every reason. A
        command that has begun goes on if this is cancelled.
        """
        ...


class PluginContext(Protocol):
    """What the core gives a plugin: passed to `attpc_startup`, `attpc_write` and `attpc_shutdown`.

    - `name`: the plugin's name, as in `Plugin:<name>:Status_RBV`.
    - `prefix`: the prefix of every PV of this IOC.
    - `settings`: its section of the settings file, as the model that `attpc_settings` gave.
    - `state_dir`: the path of the plugin's own folder in the state directory, made when first used.
    - `pvs`: every PV of this IOC, to read, watch and write for clients of the plugin's own.
    - `run_records`: the record of runs, of the plugin that keeps one; None without.
    - `ca_addresses`: addresses `host:port` at which this machine reaches the IOC's own PVs, as
      in `EPICS_CA_NAME_SERVERS`; empty until clients are answered.
    - `log_id`: identifies the event log; positions of another log mean nothing in this one.
    - `position`: the position of the newest event, even if it is not on disk yet; 0 if there is none.
    - `recorded`: the position of the newest event that is on disk.

    Use it only in the IOC's event loop, not from other threads.
    """

    name: str
    prefix: str
    settings: BaseModel | None
    state_dir: str
    pvs: PvSurface
    run_records: RunRecords | None
    ca_addresses: tuple[str, ...]
    log_id: str
    position: int
    recorded: int

    def snapshot(self) -> Fleet:
        """Return the latest snapshot of the fleet; costs nothing."""
        ...

    def number_floor(self, experiment: str) -> int:
        """Return the lowest number that the next run of this experiment may get, from the core's own record.

        An owner of run numbers never gives a lower one: those were used, or an operator has set this one.
        """
        ...

    def publish(self, pv: str, value: Value | Reading, severity: Severity | None = None) -> None:
        """Set one of the plugin's own PVs, named without the prefix; `KeyError` for any other.

        A plain value without `severity` gets the alarm of the row's severities and limits. A
        `Reading` has its own severity and status, such as COMM for a device that cannot be reached.
        """
        ...

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        """Submit a command as a client would and wait for its end; the outcome shows a refusal.

        The `reason` of a command that stops the run is stored with the run.
        """
        ...

    async def tell(self, kind: type[RunFiles] | type[RunConfigs], **fields: Any) -> bool:
        """Make an event of this kind with the core's time stamp, record it, and deliver it to every plugin.

        Returns once it is on disk, after 50 ms at the latest; False if writing it is known to have failed.
        """
        ...

    def record(self, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        """Record the plugin's own data in the event log, as a `PluginRecord` that `events` returns.

        It is appended at once. The result is whether it could be written to disk.
        """
        ...

    async def events(self, after: int, most: int = 1000) -> list[tuple[int, Event | Put | ValueError]]:
        """Return the next events of the log after a position, each with its position; waits for at least one.

        For a plugin that must not miss an event, even across restarts: it stores its position together with
        its results, and goes on from there. `log_id` shows whether the log is still the
        same. An unreadable event is replaced by a `ValueError`. Raises `sqlite3.Error`.
        """
        ...

    def seen(self, position: int) -> None:
        """Report that events up to this position are no longer needed: later ones are not pruned."""
        ...

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what the plugin keeps across restarts under this topic: values by key.

        What is kept and emitted in one turn of the event loop is on disk together or
        not at all. Call it once per topic; pydantic's adapter converts values to JSON and back.
        """
        ...

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until everything kept and emitted is on disk; raises `StateDirError` if that fails."""
        ...

    def answer(self, answerer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Answer questions that the plugin's shell commands ask with `attpc_ioc.shell.ask_plugin`.

        Only the IOC's own account can ask. The answer is returned without waiting; it and the question are
        JSON objects, the question of at most 64 KiB. The key `error` says what is wrong with the question.
        """
        ...

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Run a coroutine until the IOC ends, under supervision.

        A crash is logged and makes the plugin Failed; with `restart` a new coroutine is made and run, with
        back-off from 1 s to 60 s, and the plugin is Degraded until it has run as long as the wait before it.
        """
        ...

    async def end_tasks(self, limit_s: float) -> None:
        """Cancel the tasks of `spawn` and wait for them, for at most `limit_s` seconds.

        This is done after `attpc_shutdown`; a plugin does it there, before it ends what its tasks use.
        """
        ...

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        """Show the plugin's condition on its status PVs: Ok, or Degraded with the reason."""
        ...


@runtime_checkable
class RunNumbers(Protocol):
    """The owner of run numbers, returned by `attpc_run_numbers`."""

    def next(self, experiment: str) -> int | None:
        """Return the number that the next run would get, without waiting, for `Run:NextNumber_RBV`.

        None if it is unknown. An exception shows -1.
        """
        ...

    async def reserve(self, experiment: str) -> int:
        """Reserve the next number, from 0 to 2147483647; called before any module is commanded.

        An exception, a value that is not a run number, or more than 2 s (`limits.run_number_s`) refuse the
        start; no other owner is asked.
        """
        ...

    async def release(self, experiment: str, number: int) -> None:
        """Release a reserved number: no module was, or may have been, Running under it.

        Limited as above. A failure is logged; the number then stays unused.
        """
        ...

    async def open_run(self) -> RunInfo | None:
        """Return this fleet's run that is open on the owner's record, or None.

        Called once at start-up, and only if the state database has no record of runs (it is new, or was
        damaged); otherwise that record counts. The core then finds out by the rules of recovery what happened
        to the run. Limited by `limits.recovery_s`; an exception counts as None.
        """
        ...


@runtime_checkable
class RunRecords(Protocol):
    """The record of runs, for plugins that show it, such as a web page; returned by `attpc_run_records`.

    Runs are JSON objects, of which each owner documents the fields. Every method raises
    `attpc_ioc.errors.RecordAway` while the record cannot be used, and `Refused` for what it does not know.
    """

    async def runs(self, which: RunQuery, limit: int, after: str = "") -> tuple[list[dict[str, Any]], str]:
        """Return at most `limit` runs, the newest first, and where the next page begins; empty: no more.

        `after` is what the page before has returned for the same query.
        """
        ...

    async def run(self, experiment: str, number: int) -> dict[str, Any] | None:
        """Return one run with all details; None if there is none."""
        ...

    async def config_changes(self, experiment: str, number: int, before: int) -> list[dict[str, Any]] | None:
        """Return how the configuration files of a run differ from those of one before; None without the runs.

        Each file that differs is an object: `members`, the modules that used it; `before` and `now`, what
        each run had, in words; `note`, what to know of it, or empty; `lines`, a unified diff.
        """
        ...

    async def edit(
        self, experiment: str, number: int, changes: Mapping[str, str], who: Who
    ) -> dict[str, Any] | None:
        """Change texts of a run, by field, and return it; None if there is none."""
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

        Decision, collected. Never called for Stop and Abort. Called again with every change
        and at least once a second.
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
