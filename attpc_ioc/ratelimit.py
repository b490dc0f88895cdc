"""Reports a flood by its number: the first items within a time are reported one by one, the rest counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Counted(Generic[T]):
    """The items of one key in the present window."""

    first: T
    """The first item that was counted."""
    last: T
    passed: int = 0
    number: int = 0
    """How many items were counted."""


class RateLimit(Generic[T]):
    """Passes the first `each` items of a key, and `in_all` of all keys, in each window; counts the rest.

    A window of `window_s` begins with an item. At its end `report` gets the keys with counted items, if there
    are any, those with most first. Used from the event loop's thread only.
    """

    def __init__(
        self,
        report: Callable[[list[Counted[T]]], None],
        *,
        window_s: float,
        each: int,
        in_all: float = math.inf,
    ) -> None:
        self._report = report
        self._window_s = window_s
        self._each = each
        self._in_all = in_all
        self._keys: dict[str, Counted[T]] = {}
        self._passed = 0
        self._timer: asyncio.TimerHandle | None = None

    def passes(self, key: str, item: T, *, count_only: bool = False) -> bool:
        """Return whether an item is to be reported by itself; else, and with `count_only`, it is counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window_s, self.end)
        of_key = self._keys.setdefault(key, Counted(item, item))
        of_key.last = item
        if not count_only and of_key.passed < self._each and self._passed < self._in_all:
            of_key.passed += 1
            self._passed += 1
            return True
        if not of_key.number:
            of_key.first = item
        of_key.number += 1
        return False

    def end(self) -> None:
        """Report what was counted until now; the next item begins a new window."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted = sorted((one for one in self._keys.values() if one.number), key=lambda one: -one.number)
        self._keys, self._passed = {}, 0
        if counted:
            self._report(counted)
