"""The record of every call that a simulated fleet received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from attpc_ioc.model.states import State

from .documents import ConfigIds


class Outcome(StrEnum):
    """What the server did with a call."""

    PENDING = "pending"
    """Not ended yet."""
    EXECUTED = "executed"
    """Executed, a transition also on the boards."""
    IGNORED = "ignored"
    """Transition in the wrong state: code 0, nothing done."""
    BUSY = "busy"
    """Another transition was running."""
    FAILED = "failed"
    """A code other than 0."""
    LIED = "lied"
    """Code 0, nothing done, because of the fault of that name."""
    CRASHED = "crashed"
    """The call ended the server process."""
    CUT = "cut"
    """The server process died while the call ran."""


@dataclass(slots=True, eq=False)
class Call:
    """One call; times are monotonic (the loop's), in seconds. Filled in as the call proceeds.

    `stale` names the boards that were started with a stale clock, `reply_lost` says that the caller got no
    reply: it was gone, or the fault of that name took it.
    """

    server: str
    operation: str
    begin_s: float
    state_before: State
    ids: ConfigIds = ConfigIds()
    table: str = ""
    command: str = ""
    outcome: Outcome = Outcome.PENDING
    code: int | None = None
    message: str = ""
    end_s: float | None = None
    state_after: State | None = None
    reply_lost: bool = False
    late: bool = False
    stale: tuple[str, ...] = ()

    def __str__(self) -> str:
        after = "?" if self.state_after is None else self.state_after.label
        said = "" if not self.message else f" {self.message!r}"
        return (
            f"{self.begin_s:.3f} {self.server} {self.operation} {self.state_before.label}->{after} "
            f"{self.outcome} code={self.code}{said}"
        )


class CallLog:
    """All calls except `GetState` (which is only counted), in the order in which servers handled them."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: int) -> Call:
        return self._calls[index]

    def add(self, call: Call) -> Call:
        """Append `call` and return it."""
        self._calls.append(call)
        self.notify()
        return call

    def notify(self) -> None:
        """Wake waiters: a call has changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def clear(self) -> None:
        """Forget all calls."""
        self._calls.clear()

    def of(self, server: str | None = None, operation: str | None = None) -> list[Call]:
        """Return the calls of one server, of one operation, or both."""
        return [c for c in self._calls if server in (None, c.server) and operation in (None, c.operation)]

    def transitions(self, server: str | None = None) -> list[Call]:
        """Return the calls that are transitions, whatever their outcome."""
        return [c for c in self.of(server) if c.operation not in ("GetConfigIDs", "Special", "ServerExit")]

    def sequence(self) -> list[str]:
        """Return the transitions as `server.Operation`, in order."""
        return [f"{c.server}.{c.operation}" for c in self.transitions()]

    async def wait_for(self, found: Callable[[Call], bool], timeout_s: float = 60.0) -> Call:
        """Return the first call for which `found` is true, waiting for it; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                changed = self._changed
                for call in self._calls:
                    if found(call):
                        return call
                await changed.wait()
