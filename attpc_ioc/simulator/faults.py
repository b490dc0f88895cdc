"""Faults of one simulated ECC server, switched on and off while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class FaultName(StrEnum):
    """The faults, by their names on the command line."""

    SLOW = "slow"
    HANG = "hang"
    STALL = "stall"
    REFUSE = "refuse"
    FAIL = "fail"
    LIE = "lie"
    FAIL_BUT_MOVE = "fail-but-move"
    LOSE_REPLY = "lose-reply"
    DIE = "die"
    BOARD_DEAD = "board-dead"
    OFF = "off"


@dataclass(slots=True)
class Fault:
    """A fault that is on. `operation` None means every transition.

    `factor` and `extra_s` are of slow; `nth` counts down to the call that fails, `times` counts how often it
    fails then (None: always); `code` None is the operation's own number.
    """

    name: FaultName
    operation: str | None = None
    factor: float = 1.0
    extra_s: float = 0.0
    nth: int = 1
    times: int | None = None
    code: int | None = None
    message: str = ""

    def hits(self, operation: str, transition: bool) -> bool:
        """Return whether it applies to `operation`."""
        return self.operation == operation or (self.operation is None and transition)


class Faults:
    """The faults of one server: methods switch them on, `clear` switches them off.

    Where an operation can be given, None means every transition; `GetState`, `GetConfigIDs` and `Special`
    must be named to be hit. `act(fault, on)` is called for each fault that is switched on or off, and does
    to the process what the fault means.
    """

    def __init__(self, act: Callable[[Fault, bool], None]) -> None:
        self._act = act
        self._on: list[Fault] = []
        self._changed = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._on)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._on))

    def slow(self, operation: str | None = None, *, factor: float = 1.0, extra_s: float = 0.0) -> None:
        """Take `factor` times as long, and `extra_s` longer."""
        self._add(Fault(FaultName.SLOW, operation, factor=factor, extra_s=extra_s))

    def hang(self, operation: str | None = None) -> None:
        """Do not end the operation until this is switched off; then it ends normally."""
        self._add(Fault(FaultName.HANG, operation))

    def fail(
        self,
        operation: str | None = None,
        *,
        nth: int = 1,
        times: int | None = 1,
        code: int | None = None,
        message: str = "Exception: simulated failure.",
    ) -> None:
        """Fail the `nth` call, and so many in a row as `times` says (None: until switched off).

        The state stays. Calls that are ignored or find the server busy are not counted.
        """
        self._add(Fault(FaultName.FAIL, operation, nth=nth, times=times, code=code, message=message))

    def lie(self, operation: str | None = None) -> None:
        """Return code 0 without executing the operation."""
        self._add(Fault(FaultName.LIE, operation))

    def fail_but_move(
        self,
        operation: str | None = None,
        *,
        code: int | None = None,
        message: str = "Exception: simulated failure.",
    ) -> None:
        """Return the operation's error code, but execute it and change state."""
        self._add(Fault(FaultName.FAIL_BUT_MOVE, operation, code=code, message=message))

    def lose_reply(self, operation: str | None = None) -> None:
        """Execute the operation, then close the connection without a reply."""
        self._add(Fault(FaultName.LOSE_REPLY, operation))

    def stall(self) -> None:
        """Stop the process as SIGSTOP does; `clear` wakes it, and it executes everything it had accepted."""
        self._add(Fault(FaultName.STALL))

    def refuse(self) -> None:
        """Refuse connections; open ones stay open and running operations continue."""
        self._add(Fault(FaultName.REFUSE))

    def die(self) -> None:
        """End the process; `clear` starts it again, in Idle, and boards stay as they are."""
        self._add(Fault(FaultName.DIE))

    def board_dead(self, board: str | None = None) -> None:
        """Switch off one board (`CoBo[0]`) or all boards of this server; `clear` switches them on again."""
        self._add(Fault(FaultName.BOARD_DEAD, board))

    def off(self) -> None:
        """Go to state 0; as with the real server only a restart helps, which `clear` does."""
        self._add(Fault(FaultName.OFF))

    def clear(self, name: str | None = None, operation: str | None = None) -> None:
        """Switch off all faults, those of one name, or that of one name and operation (or board).

        All, and `die`, start a server again that is dead for whatever reason.
        """
        gone = [
            fault
            for fault in self._on
            if (name is None or fault.name == name) and (operation is None or fault.operation == operation)
        ]
        self._on = [fault for fault in self._on if fault not in gone]
        self._notify()
        for fault in gone:
            self._act(fault, False)
        if name in (None, FaultName.DIE) and operation is None:
            self._act(Fault(FaultName.DIE), False)

    def find(self, name: FaultName, operation: str, transition: bool = True) -> Fault | None:
        """Return the fault of that name that is on for `operation`."""
        for fault in self._on:
            if fault.name is name and fault.hits(operation, transition):
                return fault
        return None

    def due_failure(self, operation: str, transition: bool = True) -> Fault | None:
        """Count this call and return its failure, if any; a used-up failure switches itself off."""
        fault = self.find(FaultName.FAIL, operation, transition)
        if fault is None:
            return None
        fault.nth -= 1
        if fault.nth > 0:
            return None
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._on.remove(fault)
        return fault

    def length_s(self, operation: str, base_s: float, transition: bool = True) -> float:
        """Return the duration of `operation` with the slowness that is on now, in seconds."""
        fault = self.find(FaultName.SLOW, operation, transition)
        return base_s if fault is None else base_s * fault.factor + fault.extra_s

    async def elapse(self, operation: str, base_s: float, transition: bool = True) -> None:
        """Wait for the duration of `operation`: slowed or hanging, as the current faults say."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        while True:
            changed = self._changed
            if self.find(FaultName.HANG, operation, transition) or self._stalled:
                await changed.wait()
                continue
            left_s = begin_s + self.length_s(operation, base_s, transition) - loop.time()
            if left_s <= 0:
                return
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()

    async def awake(self) -> None:
        """Wait while the process is stopped."""
        while self._stalled:
            await self._changed.wait()

    def drop(self, name: FaultName) -> None:
        """Remove the faults of one name without undoing anything."""
        self._on = [fault for fault in self._on if fault.name is not name]
        self._notify()

    @property
    def _stalled(self) -> bool:
        return any(fault.name is FaultName.STALL for fault in self._on)

    def _add(self, fault: Fault) -> None:
        self._act(fault, True)
        self._on = [f for f in self._on if (f.name, f.operation) != (fault.name, fault.operation)]
        self._on.append(fault)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
