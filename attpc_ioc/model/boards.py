"""Boards that an ECC server has lost, and what helps: `GetState` does not ask the boards (rule 16)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .states import LIVE, Operation, State


@dataclass(frozen=True, slots=True)
class BoardFault:
    """Why the boards of a module cannot take part in a run, although its state does not show it.

    It ends when the module is seen in `back_to` or lower, or when one of `ASKING` has arrived.
    """

    text: str
    back_to: State


ASKING = frozenset((Operation.PREPARE, Operation.CONFIGURE, Operation.START))
"""Operations that succeed only if the boards answer, and that do not connect boards anew."""

_ICE = re.compile(r"\bIce\b|Unknown error!")
"""An ECC server reports a board that it cannot reach by an exception of its middleware, Ice."""


def no_answer(message: str) -> bool:
    """Return whether the message of a failed transition says that a board did not answer."""
    return _ICE.search(message) is not None


def after_no_answer(operation: Operation, seen: State, host: str) -> tuple[str, State | None]:
    """Return what helps after a board did not answer, and the state to go back to (None: no fault stays).

    A board that was switched off and on has lost what its ECC server refers to. Only a Describe restores it.
    From Ready the way there is Breakup, which then ends in Off.
    """
    restart = f"restart the ECC server on {host}"
    if seen is State.OFF:
        return f"{restart}, then GoTo Ready", None
    if seen in LIVE:
        text = f"a board does not answer, and another {operation} does not help: {restart}, then GoTo Ready"
        return text, State.PREPARED
    text = "a board does not answer, or was switched off and on: see that it is on, then GoTo Ready"
    if seen is State.READY:
        return f"{text}. If its Breakup ends in Off, {restart} and GoTo Ready again", State.PREPARED
    return text, State.IDLE if seen > State.IDLE else None


def taken_over(senders: list[str], by: str) -> BoardFault:
    """Return the fault of a module whose boards another ECC server has made anew (rule 6)."""
    boards = f"boards {', '.join(senders)} were" if len(senders) > 1 else f"board {senders[0]} was"
    text = (
        f"its {boards} made anew by a wrong Describe of {by}: what was loaded is lost, and where it is "
        "Running it takes no data: stop it, then GoTo Ready"
    )
    return BoardFault(text, State.IDLE)
