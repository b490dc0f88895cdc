"""Puts: from p4p's thread to the event loop, and their answers back, neither waiting for the other.

p4p calls in its one network thread. A put is read there and queued. The event loop takes puts up in slices,
one of each client in turn, so that a flood of one delays neither others nor the rest of the program, and
answers them: that only wakes p4p's thread. To let go of an operation waits for p4p's thread, so that is left
to p4p's thread itself, at the next put, or to another thread if none comes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sized
from typing import Any, Protocol

from attpc_ioc.log import get_logger
from attpc_ioc.pva.record import Client, Form, Put, Record

log = get_logger(__name__)

TURN_S = 0.003
"""Time after which the puts of a flood yield to others."""

ACCEPTED_S = 0.2
"""A put without `block` that is still running after this time has been accepted, and is answered so."""

LET_GO_S = 0.1
"""Time after which answered operations are let go of, and with them what was written, if no put comes."""

SENDING_S = 0.1
"""Time for pvxs to send the last answers: it does not say when it has, and drops the rest when it stops."""

STOPPED = "the server stopped before it was done"
CLOSING = "the server is shutting down"

_BLOCK = "record._options.block"

_MANY = 4
"""Running puts of all clients are limited to this many times those of one."""

MAX_SIZE = 16_000_000
"""Characters and elements of all running puts of one client; four times as many of all clients.

The longest text of a PV has some thousand, but pvxs reads whatever is sent.
"""

_USERS = 10_000

PutTo = Callable[[Record, Put], Awaitable[None] | None]
"""Carries out a put: returns None when it is done, else an awaitable; raises the reason why it failed."""


class _Operation(Protocol):
    """The part of p4p's operation that is used."""

    def value(self) -> Any: ...
    def pvRequest(self) -> Any: ...
    def peer(self) -> str: ...
    def account(self) -> str: ...
    def done(self, value: Any = None, error: str | None = None) -> None: ...


class _Running:
    """A put that is not answered yet; `size` is what it has in characters or elements."""

    __slots__ = ("operation", "put", "record", "size")

    def __init__(self, record: Record, put: Put, operation: _Operation) -> None:
        self.record = record
        self.put = put
        self.size = len(put.value) if isinstance(put.value, Sized) else 1
        self.operation: _Operation | None = operation


class Puts:
    """Carries out puts by `put_to` and answers them.

    An exception of one of the classes `refusals` is the client's answer, with its text as the reason; any
    other is a fault of the program: it is logged, and answered too. `in_loop` calls a function in the event
    loop's thread. One client may have `max_puts` puts running.
    """

    def __init__(
        self,
        put_to: PutTo,
        refusals: tuple[type[Exception], ...],
        in_loop: Callable[[Callable[[], None]], object],
        max_puts: int,
    ) -> None:
        self.users: dict[str, str] = {}
        """The user of each connection that has put, by `ip:port`; the latest ones."""
        self.refused = 0
        """Puts that were refused or failed."""
        self._put_to = put_to
        self._refusals = refusals
        self._in_loop = in_loop
        self._max_puts = max_puts
        self._lock = threading.Lock()
        """Guards the six below, which both threads change."""
        self._queues: dict[str, deque[_Running]] = {}
        """Puts that the event loop has not taken up, by client address."""
        self._unanswered: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        self._asked = False
        self._closed = False
        self._answered: list[list[_Operation]] = []
        """Each in a box that has the only reference to it, so that whoever empties the box lets go of it."""
        self._letting_go: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], _Running] = {}

    # --- in p4p's thread ---

    def take(self, record: Record, form: Form, operation: _Operation) -> None:
        """Queue a client's write, or refuse it where too many, or too large ones, are running."""
        self._let_go()
        address = plain_address(operation.peer())
        put = read_put(record, form, operation, Client(address, operation.account()))
        running = _Running(record, put, operation)
        ask = False
        with self._lock:
            fault = self._limit_fault(address, running.size)
            if not fault:
                self._unanswered[address] += 1
                self._sizes[address] += running.size
                self._queues.setdefault(address, deque()).append(running)
                ask, self._asked = not self._asked, True
        if fault:
            operation.done(error=fault)
        elif ask:
            self._in_loop(self._work_on)

    def _limit_fault(self, address: str, size: int) -> str:
        number = self._unanswered[address]
        if self._closed:
            return CLOSING
        if number >= self._max_puts:
            return f"{number} puts of this client are running, the most allowed"
        if number and self._sizes[address] + size > MAX_SIZE:
            return f"the running puts of this client have {self._sizes[address]} characters or elements"
        if number and (
            self._unanswered.total() >= _MANY * self._max_puts
            or self._sizes.total() + size > _MANY * MAX_SIZE
        ):
            return "too many puts of all clients are running, some of them from this one"
        return ""

    # --- in the event loop ---

    def _work_on(self) -> None:
        """Begin queued puts, one of each client in turn, for a slice of time."""
        ends_s = time.monotonic() + TURN_S
        while (running := self._next()) is not None:
            self._begin(running)
            if time.monotonic() > ends_s:
                asyncio.get_running_loop().call_soon(self._work_on)
                return

    def _next(self) -> _Running | None:
        with self._lock:
            if not self._queues:
                self._asked = False
                return None
            address = next(iter(self._queues))
            queue = self._queues.pop(address)
            running = queue.popleft()
            if queue:
                self._queues[address] = queue  # as the last
            return running

    def _begin(self, running: _Running) -> None:
        client = running.put.client
        if len(self.users) >= _USERS:
            self.users.clear()
        self.users[client.address] = client.user
        try:
            work = self._put_to(running.record, running.put)
        except Exception as error:
            self._answer(running, self._reason(running, error))
            return
        if work is None:
            self._answer(running, "")
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._carry_out(running, work), name=f"put {running.record.spec.name}")
        self._tasks[task] = running
        task.add_done_callback(self._tasks.pop)
        if not running.put.block:
            loop.call_later(ACCEPTED_S, self._answer, running, "")

    async def _carry_out(self, running: _Running, work: Awaitable[None]) -> None:
        reason = STOPPED
        try:
            await work
            reason = ""
        except Exception as error:
            reason = self._reason(running, error)
        finally:
            self._answer(running, reason)

    def _reason(self, running: _Running, error: Exception) -> str:
        self.refused += 1
        if not isinstance(error, self._refusals):
            log.exception("put failed", pv=running.record.spec.name, client=running.put.client.address)
        return str(error) or "it failed"

    def _answer(self, running: _Running, reason: str) -> None:
        """Answer a put that is not answered yet; an empty reason is success."""
        if running.operation is None:
            return
        box = [running.operation]
        running.operation = None
        address = running.put.client.address
        try:
            box[0].done(error=reason.encode("utf-8", "replace").decode() or None)
        except Exception:
            log.exception("put cannot be answered", client=address)
        with self._lock:
            self._answered.append(box)
            self._unanswered[address] -= 1
            self._sizes[address] -= running.size
            if not self._unanswered[address]:
                del self._unanswered[address], self._sizes[address]
        if self._letting_go is None:
            self._letting_go = asyncio.get_running_loop().call_later(LET_GO_S, self._let_go_elsewhere)

    def _let_go_elsewhere(self) -> None:
        self._letting_go = None
        if self._answered:
            asyncio.get_running_loop().run_in_executor(None, self._let_go)

    # --- in p4p's thread, or in a thread that may wait for it ---

    def _let_go(self) -> None:
        """Let go of answered operations."""
        with self._lock:
            gone, self._answered = self._answered, []
        for box in gone:
            box.clear()

    # --- in the event loop ---

    async def close(self) -> None:
        """Refuse further puts, end all that are running, and answer them."""
        with self._lock:
            self._closed = True
            some = bool(self._unanswered)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            _, deaf = await asyncio.wait(tuple(self._tasks), timeout=0.3)
            if deaf:
                log.error("puts do not end when cancelled", puts=", ".join(task.get_name() for task in deaf))
        while (running := self._next()) is not None:
            self._answer(running, STOPPED)
        for running in tuple(self._tasks.values()):
            self._answer(running, STOPPED)
        if self._letting_go is not None:
            self._letting_go.cancel()
        await asyncio.to_thread(self._let_go)
        if some:
            await asyncio.sleep(SENDING_S)


def plain_address(peer: str) -> str:
    """Return a peer's `ip:port` without the form that an IPv6 socket gives to an IPv4 address."""
    return peer.replace("[::ffff:", "", 1).replace("]", "", 1).replace("::ffff:", "", 1)


def read_put(record: Record, form: Form, operation: _Operation, client: Client) -> Put:
    """Return what a client writes; never raises. The value of a PV that nobody may write is not looked at."""
    if not record.spec.writable:
        return Put(None, client)
    try:
        written = operation.value()
        value, fault = _written(record, form, written)
        block = _block(operation.pvRequest())
    except Exception as error:
        return Put(None, client, fault=f"the value cannot be read: {error}")
    return Put(value, client, block, fault)


def _block(request: Any) -> bool:
    # What is not there costs 20 us to get, and 1 us to find out.
    return request.has(_BLOCK) and str(request[_BLOCK]).lower() in ("true", "1", "yes")


def _written(record: Record, form: Form, written: Any) -> tuple[Any, str]:
    """Return the value of a write, or else what is wrong with it."""
    changed = {name.removesuffix(".") for name in written.changedSet(expand=True)}
    if form is Form.ENUM:
        if changed - {"value", "value.index", "value.choices"}:
            return None, _only_value(changed)
        if "value.choices" in changed and tuple(written["value.choices"]) not in ((), record.spec.labels):
            return None, "the labels of a PV cannot be written"
        if "value.index" not in changed:
            return (
                None,
                f"no value is written: value.index, the number of a label ({', '.join(record.spec.labels)})",
            )
        return written["value.index"], ""
    if changed - {"value"}:
        return None, _only_value(changed)
    return (written["value"], "") if changed else (None, "no value is written")


def _only_value(changed: set[str]) -> str:
    others = sorted(name for name in changed if not (name == "value" or name.startswith("value.")))
    return f"only the value can be written, not {', '.join(others)[:80]}"
