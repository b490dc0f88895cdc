"""What a plugin and the core give each other beside the hooks: objects, by what they can do.

A plugin gets a `PluginContext`, with a `PvSurface` in it; it may give back `RunNumbers` and `RunRecords`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import asyncio

    from pydantic import BaseModel, TypeAdapter

    from attpc_ioc.eventlog import Kept
    from attpc_ioc.model.command import Command, Outcome, Put, Who
    from attpc_ioc.model.events import Event, RunConfigs, RunFiles
    from attpc_ioc.model.fleet import Fleet
    from attpc_ioc.model.run import RunInfo, RunQuery
    from attpc_ioc.model.states import Severity
    from attpc_ioc.pvs.row import Reading, Shown, Value
    from attpc_ioc.pvs.table import PvEntry

T = TypeVar("T")


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

    def vetoes_changed(self) -> None:
        """Have `attpc_veto` asked again soon, because its answer is another one now.

        Otherwise the checklist and `Allowed_RBV` follow with the next change of the fleet, or within a
        second.
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
