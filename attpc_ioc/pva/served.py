"""What is on the network: p4p's shared PVs, and the records, tables and interfaces behind them.

p4p calls `onFirstConnect`, `onLastDisconnect`, `put` and `rpc` in a thread of its own, one at a time for all
PVs; all else is called in the event loop's thread. The shared PVs are those of p4p's compiled module: its
classes around them have two more objects for each PV, and four more calls for each put.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attpc_ioc.log import get_logger
from attpc_ioc.pva.record import Form, Interface, Record, Table, TableState

if TYPE_CHECKING:
    from attpc_ioc.pva.puts import Puts
    from attpc_ioc.pva.values import Snapshot

log = get_logger(__name__)


class Server(Protocol):
    """The part of `PVAServer` that is used here."""

    status_names: Sequence[str]
    followed: set[Served]
    puts: Puts

    def in_loop(self, function: Callable[..., None], *arguments: object) -> None: ...  # noqa: D102


class Served:
    """One name on the network."""

    __slots__ = ("_server", "name", "readable", "shared")

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self.name = name
        self.readable = True
        self.shared: Any = None

    # --- in p4p's thread ---

    def onFirstConnect(self) -> None:
        """Show the present state before the client's first request is handled."""
        try:
            self._first_client()
        except Exception:
            log.exception("PV cannot be shown over PVAccess", pv=self.name)

    def onLastDisconnect(self) -> None:
        """Do what is to be done when no client is left."""

    def put(self, operation: Any) -> None:
        """Refuse a client's write."""
        operation.done(error="it cannot be written")

    def rpc(self, operation: Any) -> None:
        """Refuse a remote procedure call."""
        operation.done(error="there are no remote procedures here")

    def _first_client(self) -> None:
        raise NotImplementedError

    # --- in the event loop ---

    def show(self) -> None:
        """Give clients the present state if it is not what they have."""

    def leave(self) -> None:
        """Stop following what is served."""

    def _post(self, value: Any) -> None:
        try:
            self.shared.post(value)
        except Exception:  # whoever posted to the record has other clients to think of
            log.exception("value cannot be posted over PVAccess", pv=self.name)


class ServedRecord(Served):
    """One PV, and the record that it follows while clients are connected."""

    __slots__ = ("_state", "form", "record")

    def __init__(self, server: Server, record: Record, form: Form) -> None:
        super().__init__(server, record.spec.name)
        self.record = record
        self.form = form
        self._state: Snapshot | None = None
        """What was last given to clients; None while it is hidden from them."""

    # --- in p4p's thread ---

    def _first_client(self) -> None:
        from attpc_ioc.pva import values

        state = values.snapshot(self.record) if self.readable else None
        whole = self._whole(state)
        if self.shared.isOpen():
            self.shared.post(whole)
        else:
            self.shared.open(whole)
        self._server.in_loop(self._follow, state)

    def onLastDisconnect(self) -> None:
        """Follow the record no longer: changes cost nothing until the next client comes."""
        self._server.in_loop(self.leave)

    def put(self, operation: Any) -> None:
        """Take a client's write."""
        self._server.puts.take(self.record, self.form, operation)

    # --- in the event loop ---

    def _follow(self, shown: Snapshot | None) -> None:
        if self.shared is None:
            return  # the server has stopped meanwhile
        self._state = shown
        self._server.followed.add(self)
        self.record.follower = self.update
        self.show()

    def leave(self) -> None:
        """Stop following the record."""
        self._server.followed.discard(self)
        self.record.follower = None

    def show(self) -> None:
        """Give clients the present state if it is not what they have."""
        from attpc_ioc.pva import values

        state = values.snapshot(self.record) if self.readable else None
        if state != self._state:
            self._post(self._whole(state))
            self._state = state

    def update(self) -> None:
        """Give clients what the record has posted."""
        from attpc_ioc.pva import values

        if not self.readable:
            return
        state = values.snapshot(self.record)
        if self._state is None:
            self._post(self._whole(state))
        else:
            self._post(values.change(self.form, state, self._state, self._server.status_names))
        self._state = state

    def _whole(self, state: Snapshot | None) -> Any:
        from attpc_ioc.pva import values

        if state is None:
            return values.hidden(self.record.spec, self.form, self.record.stamp_ns)
        return values.whole(self.record.spec, self.form, state, self._server.status_names)


class ServedTable(Served):
    """A table, which is made in the event loop, so that all its cells are of one moment.

    Its shared PV is closed while there is no client: p4p keeps the first one waiting until it is opened.
    """

    __slots__ = ("_state", "_type", "_wanted", "table")

    def __init__(self, server: Server, table: Table) -> None:
        super().__init__(server, table.name)
        self.table = table
        self._type: Any = None
        self._state: TableState | None = None
        """What was last given to clients; None while it is hidden from them, and before."""
        self._wanted = False
        """Whether there is a client, as p4p's thread knows."""

    # --- in p4p's thread ---

    def _first_client(self) -> None:
        """Have the table made."""
        self._wanted = True
        self._server.in_loop(self._follow)

    def onLastDisconnect(self) -> None:
        """Follow the table no longer."""
        self._wanted = False
        self._server.in_loop(self.leave)

    # --- in the event loop ---

    def _follow(self) -> None:
        if self.shared is None or not self._wanted:
            return
        self._server.followed.add(self)
        self.table.follower = self.show
        self.show()

    def leave(self) -> None:
        """Stop following the table, unless another client has come meanwhile."""
        if self._wanted and self.shared is not None:
            return
        self._server.followed.discard(self)
        self.table.follower = None
        self._state = None
        if self.shared is not None and self.shared.isOpen():
            self.shared.close()

    def show(self) -> None:
        """Make the table, and give clients what differs from the last."""
        from attpc_ioc.pva import tables

        if self._type is None:
            self._type = tables.table_type(self.table)
        names = self._server.status_names
        last, state = self._state, self.table.make() if self.readable else None
        self._state = state
        if not self.shared.isOpen():
            self.shared.open(tables.whole(self._type, self.table, state, names))
        elif state is None or last is None:
            if state != last:
                self._post(tables.whole(self._type, self.table, state, names))
        elif state != last:
            self._post(tables.change(self._type, self.table, state, last, names))


class ServedInterface(Served):
    """The interface of a device, made for the first client; it never changes."""

    __slots__ = ("_interface", "_stamp_ns")

    def __init__(self, server: Server, interface: Interface, stamp_ns: int) -> None:
        super().__init__(server, interface.name)
        self._interface = interface
        self._stamp_ns = stamp_ns

    def _first_client(self) -> None:
        """Make it, in p4p's thread."""
        from attpc_ioc.pva import tables

        if not self.shared.isOpen():
            self.shared.open(tables.interface(self._interface, self._stamp_ns))
