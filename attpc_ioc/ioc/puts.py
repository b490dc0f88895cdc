"""Puts: turns a write to a PV into a command or a setpoint, and its outcome into the client's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Protocol

from attpc_ioc import pva
from attpc_ioc.errors import Refused
from attpc_ioc.eventlog import RECORD_LIMIT_S
from attpc_ioc.ioc.ca import NO_ACCESS, PV, Client, PutRejected, Unacceptable, accept
from attpc_ioc.ioc.ca.spec import Scalar
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import GOTO_TARGETS, RUN, SYSTEM, Command, CommandName, Outcome, Put, Scope, Who
from attpc_ioc.model.fleet import Fleet, FleetChange
from attpc_ioc.printable import control_fault, visible
from attpc_ioc.pvs.alarms import as_people_read
from attpc_ioc.pvs.system import REFUSED
from attpc_ioc.pvs.table import PvEntry

log = get_logger(__name__)

OnPut = Callable[[Put], asyncio.Future[Any] | None]
"""Records a put; a returned future is done when the put is stored."""

STOPPED = "the IOC stopped before it was done"

PVA = "pva"
"""How somebody who puts over PVAccess came in."""

SHOWN = 400
"""Characters kept of a value in a put's event."""


class Controller(Protocol):
    """The part of the control layer that the IOC uses."""

    @property
    def fleet(self) -> Fleet:
        """The latest snapshot."""
        ...

    def subscribe(self, listener: Callable[[FleetChange], None]) -> None:
        """Call `listener` with each change of the fleet, in order, in the event loop."""
        ...

    async def submit(self, command: Command) -> Outcome:
        """Run a command and return how it ended; a refusal is an outcome too."""
        ...

    def set(self, setpoint: str, scope: Scope, value: int | float | str, who: Who) -> None:
        """Set a setpoint, without waiting.

        Raises `Refused` with the reason in the scope's message; then nothing changed.
        """
        ...

    def reject(self, scope: Scope, text: str, who: Who, *, attempt: bool) -> None:
        """Show a put rejected earlier in the scope's message, and with `attempt` in its result."""
        ...

    def accept(self, scope: Scope, setpoint: str) -> None:
        """Take the refusal of an earlier put back."""
        ...


class Access(Protocol):
    """Access rights."""

    def rights(self, entry: PvEntry, who: Who, *, is_field: bool) -> tuple[bool, bool]:
        """Return whether a client may read and write a PV, or a field of it other than its value."""
        ...


WritePluginRow = Callable[[PvEntry, int | float | str, Who], Awaitable[None]]
"""Passes a write to a plugin's own PV to that plugin; raises `Refused`."""


class NotAllowed(PutRejected):
    """The client may not write the PV."""


class BadValue(PutRejected):
    """The PV cannot have this value."""


class CommandFailed(PutRejected):
    """The command that a put gave was refused, or has not ended well."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


Giver = Client | pva.Client | Who
"""A client of Channel Access or PVAccess, or somebody for whom a plugin puts."""


class PutHandler:
    """Answers the writes of clients, over Channel Access and PVAccess, and of plugins for their own clients.

    The server of Channel Access checks a write itself and calls `put` or `rejected`; the others call
    `checked_put`. `on_put` gets every put, including rejected ones.
    """

    def __init__(
        self,
        controller: Controller,
        publisher: Publisher,
        entries: Iterable[PvEntry],
        on_put: OnPut,
        write_plugin_row: WritePluginRow | None = None,
        access: Access | None = None,
    ) -> None:
        self._access = access
        self._controller = controller
        self._publisher = publisher
        self._entries = {entry.name: entry for entry in entries}
        self._refused = next(
            e.name for e in self._entries.values() if e.scope == SYSTEM and e.row.part == REFUSED
        )
        self._refused_pv = ""
        """The PV whose refused put is shown now."""
        self._on_put = on_put
        self._write_plugin_row = write_plugin_row

    def may_write(self, pv: PV, client: Giver) -> bool:
        """Return whether a client may write a PV now."""
        entry = self._entries[pv.name]
        if self._access is None:
            return entry.row.writable
        return self._access.rights(entry, who_of(client), is_field=False)[1]

    def checked_put(
        self, pv: PV, written: Scalar | list[Scalar] | None, client: Giver, *, fault: str = ""
    ) -> Awaitable[None] | None:
        """Check a write as Channel Access does and execute it as `put` does.

        `fault` says what is wrong with what was written, if that was found out before. Raises `PutRejected`
        with the reason.
        """
        if not self.may_write(pv, client):
            raise self._reject(NotAllowed, pv, written, client, NO_ACCESS)
        if fault or written is None:
            raise self._reject(BadValue, pv, written, client, fault)
        try:
            value = accept(pv.spec, written)
        except Unacceptable as error:
            raise self._reject(BadValue, pv, written, client, str(error)) from None
        return self.put(pv, value, client)

    def _reject(
        self,
        kind: type[PutRejected],
        pv: PV,
        written: Scalar | list[Scalar] | None,
        client: Giver,
        reason: str,
    ) -> PutRejected:
        raw = "" if written is None else written
        self.rejected(pv, client, str(raw[:SHOWN] if isinstance(raw, str | list) else raw), reason)
        return kind(reason)

    def put(self, pv: PV, value: object, client: Giver) -> Awaitable[None] | None:
        """Execute a client's write; returns None when it is done, otherwise an awaitable.

        Raises `PutRejected` with the reason if it was refused or failed, at once or when awaited.
        Setpoints are set at once and awaited only if a plugin promises to store the put.
        """
        who, entry = who_of(client), self._entries.get(pv.name)
        if entry is None or not entry.row.writable:
            raise PutRejected(f"{pv.name} cannot be written")
        if isinstance(value, str) and (fault := control_fault(value)):
            self.rejected(pv, client, value, fault)
            raise BadValue(fault)
        old = self._shown(entry, pv.value)
        if entry.row.plugin or entry.row.setpoint is None:
            return self._put_later(entry, old, value, who)
        fault = None
        try:
            self._controller.set(entry.row.setpoint, entry.scope, _scalar(value), who)
        except Exception as error:
            fault = _fault_of(error, entry, who)
        recorded = self._end(entry, who, old, value, fault)
        if recorded is not None:
            return _answer_on_record(recorded, fault)
        if fault is not None:
            raise fault
        return None

    async def _put_later(self, entry: PvEntry, old: str, value: object, who: Who) -> None:
        fault = None
        try:
            await self._do(entry, _scalar(value), who)
        except asyncio.CancelledError:
            self._record(self._put_of(entry, who, old, value, ok=False, reason=STOPPED))
            raise
        except Exception as error:
            fault = _fault_of(error, entry, who)
        if entry.row.plugin and entry.scope == RUN:
            if fault is None:
                self._controller.accept(RUN, entry.row.part)
            else:
                self._controller.reject(RUN, f"{entry.row.part}: {fault}", who, attempt=True)
        await _answer_on_record(self._end(entry, who, old, value, fault), fault)

    def _end(
        self, entry: PvEntry, who: Who, old: str, value: object, fault: PutRejected | None
    ) -> asyncio.Future[Any] | None:
        """Record how a put ended; the client may read once it is answered, and must find the new values."""
        self._publisher.flush()
        reason = "" if fault is None else str(fault)
        return self._record(self._put_of(entry, who, old, value, ok=not reason, reason=reason), entry)

    def rejected(self, pv: PV, client: Giver, raw: object, reason: str) -> None:
        """Record a write that the server rejected: no access, wrong type, too long and so on.

        `pv` is what was written to: the event has its own name, for a field that of the field.
        """
        who, entry = who_of(client), self._entries.get(pv.target.name)
        # A client without write access must not cause alarms and messages on operators' screens either.
        shows = entry is not None and (not entry.row.plugin or entry.scope == RUN)
        if entry is not None and shows and entry.row.writable and reason != NO_ACCESS:
            self._controller.reject(entry.scope, f"{entry.row.part}: {reason}", who, attempt=True)
        if entry is None or pv is not pv.target:
            put = Put(pv.name, who, _of_field(pv), str(raw)[:SHOWN], ok=False, reason=reason)
        else:
            put = self._put_of(entry, who, self._shown(entry, pv.value), raw, ok=False, reason=reason)
        self._record(put, entry)

    async def _do(self, entry: PvEntry, value: int | float | str, who: Who) -> None:
        row = entry.row
        if row.plugin:
            if self._write_plugin_row is None:
                raise PutRejected(f"the plugin {row.plugin} takes no writes")
            await self._write_plugin_row(entry, value, who)
        elif row.command is not None:
            await self._command(entry.scope, row.command, value, who)

    async def _command(self, scope: Scope, name: CommandName, value: int | float | str, who: Who) -> None:
        number = int(value)
        if number == 0:
            return
        target = GOTO_TARGETS[number] if name is CommandName.GOTO else None
        command = Command(scope, name, target, who)
        self._publisher.command_busy(command, True)
        try:
            outcome = await self._controller.submit(command)
        finally:
            self._publisher.command_busy(command, False)
        if not outcome.ok:
            raise CommandFailed(outcome)

    def _shown(self, entry: PvEntry, value: object) -> str:
        return as_people_read(entry, value)[:SHOWN]

    def _put_of(self, entry: PvEntry, who: Who, old: str, value: object, *, ok: bool, reason: str) -> Put:
        return Put(entry.name, who, old, self._shown(entry, value), ok=ok, reason=reason)

    def _show_refusal(self, entry: PvEntry, put: Put) -> None:
        """Show why an entry was refused, until a put to the same PV is accepted.

        Clients that put without completion get no answer. Nothing is shown for clients without write access;
        commands have their own messages.
        """
        if entry.row.command is not None or put.pv != entry.name or put.reason == NO_ACCESS:
            return
        if not put.ok:
            name = self._refused.removesuffix(REFUSED)
            said = f"{datetime.now():%H:%M:%S} {put.pv.removeprefix(name)}: {put.reason} ({put.who})"
            self._refused_pv = put.pv
            self._publisher.publish(self._refused, said)
        elif self._refused_pv == put.pv:
            self._refused_pv = ""
            self._publisher.publish(self._refused, "")

    def _record(self, put: Put, entry: PvEntry | None = None) -> asyncio.Future[Any] | None:
        if entry is not None:
            self._show_refusal(entry, put)
        try:
            return self._on_put(put)
        except Exception:  # the put itself succeeded, and its client must be told so
            log.exception("put cannot be recorded", pv=put.pv)
            return None


def who_of(client: Giver) -> Who:
    """Return who puts, as the client names itself, with unprintable characters escaped."""
    if isinstance(client, Who):
        return client
    if isinstance(client, pva.Client):
        return Who(visible(client.user), client.host_address, client.address, via=PVA)
    return Who(user=visible(client.user), host=visible(client.host), address=client.address)


def _of_field(pv: PV) -> str:
    """Return the value of a field as text for people."""
    value, labels = pv.value, pv.spec.labels
    if labels and isinstance(value, int) and 0 <= value < len(labels):
        return labels[value]
    return str(value)[:SHOWN]


def _fault_of(error: Exception, entry: PvEntry, who: Who) -> PutRejected:
    """Return why a put failed, for its client; a fault of the program is logged too."""
    if isinstance(error, PutRejected):
        return error
    if isinstance(error, Refused):
        return PutRejected(str(error))
    log.exception("put failed", pv=entry.name, who=str(who))
    return PutRejected(f"fault of the program: {error}")


async def _answer_on_record(recorded: asyncio.Future[Any] | None, fault: PutRejected | None) -> None:
    """Wait, up to the limit, until the put is stored: a client relies on that once its put is completed.

    Raises `fault`.
    """
    if recorded is not None:
        await asyncio.wait((recorded,), timeout=RECORD_LIMIT_S)
    if fault is not None:
        raise fault


def _scalar(value: object) -> int | float | str:
    if isinstance(value, (int, float, str)):
        return value
    raise PutRejected(f"{value!r} is not a single value")
