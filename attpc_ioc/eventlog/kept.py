"""One topic of what is kept across restarts: typed values by key."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from .rows import faults_in

T = TypeVar("T")


class Keeping(Protocol):
    """The part of the log that a topic uses."""

    def keep(self, topic: str, key: str, value: str | None) -> None:
        """Write a row soon, or with None remove it."""
        ...

    def lose(self, topic: str, reason: str) -> None:
        """Record why the topic may be incomplete; '' acknowledges that."""
        ...


class Kept(Generic[T]):
    """The rows of a topic. Changes in one turn of the event loop are on disk together, or not at all.

    - `values`: what could be read at start-up or was kept since.
    - `bad`: why a row could not be read, by key; it stays in the database until its key is kept again.
    - `lost`: why rows may be missing; empty when none are.
    """

    def __init__(
        self, log: Keeping, topic: str, adapter: TypeAdapter[T], rows: Iterable[tuple[str, str]], lost: str
    ) -> None:
        self._log = log
        self._topic = topic
        self._adapter = adapter
        self.values: dict[str, T] = {}
        self.bad: dict[str, str] = {}
        self.lost = lost
        for key, text in rows:
            try:
                self.values[key] = self._adapter.validate_python(json.loads(text))
            except ValidationError as error:
                self.bad[key] = faults_in(error)
            except (ValueError, RecursionError) as error:
                self.bad[key] = str(error)

    def keep(self, key: str, value: T) -> None:
        """Set a value; it is written soon."""
        self.values[key] = value
        self.bad.pop(key, None)
        # ASCII, so that invalid Unicode from a client can be written too.
        self._log.keep(self._topic, key, json.dumps(self._adapter.dump_python(value, mode="json")))

    def drop(self, key: str) -> None:
        """Remove a value; the row is deleted soon."""
        if self.values.pop(key, None) is not None:
            self._log.keep(self._topic, key, None)

    def lose(self, reason: str) -> None:
        """Record why rows may be missing, across restarts too; '' acknowledges it."""
        if reason != self.lost:
            self.lost = reason
            self._log.lose(self._topic, reason)
