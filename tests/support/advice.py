"""What a refused start tells to do, as an operator reads it."""

from __future__ import annotations

import re

from attpc_ioc.model.states import State

_TAKE_BACK = re.compile(r"take (?:it|them) back to (\w+), then GoTo Ready")


def taken_back_to(message: str) -> State | None:
    """Return the state that the message sends the modules back to, the lowest of several, if any."""
    found = [State[label.upper()] for label in _TAKE_BACK.findall(message)]
    return min(found, default=None)
