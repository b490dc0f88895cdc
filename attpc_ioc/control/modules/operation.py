"""One SOAP transition of ours on one module, from sending to the moment that its end was seen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum

from attpc_ioc.ecc.client import Observation, Reply
from attpc_ioc.ecc.messages import PartialConfig
from attpc_ioc.errors import EccBusy, EccRefused, EccUnreachable
from attpc_ioc.model.boards import ASKING, BoardFault, after_no_answer, no_answer
from attpc_ioc.model.command import Who
from attpc_ioc.model.config import UNKNOWN, ConfigName, Loaded
from attpc_ioc.model.fleet import ModuleView
from attpc_ioc.model.states import Operation, State, Transition


class Verdict(Enum):
    """What became of an operation."""

    ARRIVED = "arrived"
    """The reply was code 0 and the target state was seen (rule 3)."""
    NOT_SENT = "not sent"
    """No connection: the server did not accept it."""
    FAILED = "failed"
    """Anything else that has come to an end."""


@dataclass(slots=True)
class OngoingOperation:
    """An operation on its way.

    It is *answered* when its reply, or the end of its connection, came; it is *settled* when a `GetState`
    asked after that showed no transition, or when the server was lost meanwhile.
    """

    module: str
    operation: Operation
    start: State
    target: State
    config: ConfigName | None
    who: Who
    call: asyncio.Task[None] | None = None
    on_its_way: bool = False
    """There is a connection, so the request is on it: from here on nobody can take it back."""
    sent_at_s: float = field(default_factory=time.monotonic)
    answered_at_s: float | None = None
    reply: Reply | None = None
    error: Exception | None = None
    verdict: Verdict | None = None
    reason: str = ""
    seen: State | None = None
    settled: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    given_up: bool = False
    """Nobody waits for it any more: its end is told in the module's message."""
    cleanup: asyncio.Task[str] | None = None
    """The Undo of a Describe that took another board; its result says how that went."""

    @property
    def duration_s(self) -> float:
        """How long it has been under way, in seconds; the reply's own time once it is there."""
        return self.reply.duration_s if self.reply else time.monotonic() - self.sent_at_s

    @property
    def code(self) -> int:
        """The error code of the reply; 0 where there is none."""
        return self.error.code if isinstance(self.error, EccRefused) else 0

    @property
    def may_have_run(self) -> bool:
        """Whether the target state may have been reached: anything but a clear no (rule 13)."""
        if self.verdict is Verdict.NOT_SENT or isinstance(self.error, EccBusy):
            return False
        refused = isinstance(self.error, EccRefused)
        return not (refused and self.seen is not None and self.seen is not self.target)

    def connected(self) -> None:
        """Hear that the request goes out now."""
        self.on_its_way = True

    def answered(self, reply: Reply | None, error: Exception | None) -> None:
        """Take the reply or what came instead of it."""
        self.answered_at_s = time.monotonic()
        self.reply = reply
        self.error = error
        if isinstance(error, EccUnreachable | ValueError):
            self._settle(Verdict.NOT_SENT, f"{self.operation} was not sent: {error}")
        elif isinstance(error, EccBusy):
            # It never began: what is seen from now on is the doing of whoever keeps the server busy.
            self._settle(Verdict.FAILED, f"{self.operation} failed ({error})")

    def observe(self, seen: Observation, grace_s: float) -> None:
        """Look at an answered poll; settles the operation when that tells its end."""
        if self.verdict is not None or self.answered_at_s is None:
            return
        if seen.transition is not Transition.NONE or seen.asked_at_s < self.answered_at_s:
            return
        self.seen = seen.state
        at_target = seen.state is self.target
        match self.error:
            case None if at_target:
                self._settle(Verdict.ARRIVED, "")
            case None:
                # The real server answers after the state has changed; allow one that is a little late.
                if seen.asked_at_s - self.answered_at_s >= grace_s or seen.state is not self.start:
                    self._settle(
                        Verdict.FAILED,
                        f"{self.operation} was answered with success, but the module is seen in "
                        f"{seen.state.label}, not {self.target.label}",
                    )
            case EccRefused() as error if at_target:
                self._settle(
                    Verdict.FAILED,
                    f"{self.operation} failed ({error}) and yet the module is seen in {seen.state.label}",
                )
            case EccRefused() as error:
                where = "" if seen.state is self.start else f"; the module is seen in {seen.state.label}"
                self._settle(Verdict.FAILED, f"{self.operation} failed ({error}){where}")
            case error:
                self._settle(
                    Verdict.FAILED,
                    f"the reply to {self.operation} was lost ({error}); "
                    f"the module is seen in {seen.state.label}",
                )

    def lost(self, reason: str) -> None:
        """Hear that the server does not answer; settles the operation when its connection has ended too."""
        if self.verdict is None and self.answered_at_s is not None:
            if isinstance(self.error, EccRefused):
                text = f"{self.operation} failed ({self.error}), and then the server was lost ({reason})"
            elif self.error is None:
                text = f"{self.operation} was answered with success, and then the server was lost ({reason})"
            else:
                text = f"the server was lost in {self.operation} ({reason})"
            self._settle(Verdict.FAILED, text)

    def overrule(self, reason: str) -> None:
        """Turn an arrival into a failure, because of what the reply says."""
        self.verdict = Verdict.FAILED
        self.reason = reason

    def give_up(self) -> None:
        """Wait no longer: what comes later is told in the module's message."""
        undoing = self.cleanup is not None and not self.cleanup.done()
        self.given_up = self.verdict is None or undoing

    def _settle(self, verdict: Verdict, reason: str) -> None:
        self.verdict = verdict
        self.reason = reason
        if not self.settled.done():
            self.settled.set_result(None)


def loaded_after(ongoing: OngoingOperation, module: ModuleView, seen: State) -> Loaded:
    """Return what is loaded after an operation on `module` has settled (rules 3, 5 and 6)."""
    loaded = module.loaded
    if ongoing.verdict is Verdict.ARRIVED:
        arrived = loaded.arrived(ongoing.operation, ongoing.target, ongoing.config)
        # Which of two Describes came last to the board is not known.
        overtaken = ongoing.operation is Operation.DESCRIBE and module.board_fault is not None
        return arrived.doubted() if overtaken else arrived
    if seen is ongoing.target:
        loaded = loaded.unknown(ongoing.operation)
    return loaded.observed(seen)


def board_fault_after(ongoing: OngoingOperation, fault: BoardFault | None, host: str) -> BoardFault | None:
    """Return the fault of the boards after an operation has settled; its reason then says what helps."""
    seen = ongoing.seen if ongoing.seen is not None else ongoing.start
    error = ongoing.error
    if isinstance(error, EccRefused) and (seen is State.OFF or no_answer(error.message)):
        advice, back_to = after_no_answer(ongoing.operation, seen, host)
        ongoing.reason = f"{ongoing.reason}: {advice}"
        return BoardFault(ongoing.reason, back_to) if back_to is not None else None
    if fault is None or seen <= fault.back_to:
        return None
    arrived = ongoing.verdict is Verdict.ARRIVED and ongoing.operation in ASKING
    return None if arrived else fault


def names_of(view: ModuleView) -> PartialConfig:
    """Return names for an operation that reads none: the loaded ones, else the selected ones."""
    parts = []
    for part in ("describe", "prepare", "configure"):
        loaded = getattr(view.loaded, part)
        known = loaded if loaded not in (None, UNKNOWN) else None
        parts.append(known or (getattr(view.selected, part) if view.selected else None))
    return PartialConfig(*parts)
