"""What is wrong with the run history, cause by cause: its status, and reasons against a start."""

from __future__ import annotations

from collections.abc import Callable

from attpc_ioc.log import get_logger

log = get_logger(__name__)

AWAY = "database"
"""The cause under which it is said why the database cannot be used."""

MANY = 500
"""So many events are more than come at once: the database is far behind."""


class Troubles:
    """Tells `tell(text, degraded)` of every change. A cause stands until it is cleared: none hides another.

    `note` is what is shown while nothing is wrong.
    """

    def __init__(self, tell: Callable[[str, bool], None]) -> None:
        self._tell = tell
        self._note = ""
        self._waiting = 0
        self._texts: dict[str, str] = {}
        self._barring: set[str] = set()
        self._told: tuple[str, bool] | None = None

    def say(self, cause: str, text: str, *, bars_start: bool = False, expected: bool = False) -> None:
        """Say what is wrong; empty text: nothing is. With `bars_start` no run is started while it stands.

        What is `expected`, because the program begins or ends, is no warning in the log.
        """
        if not text:
            self.clear(cause)
            return
        if bars_start:
            self._barring.add(cause)
        else:
            self._barring.discard(cause)
        if self._texts.get(cause) != text:
            self._texts[cause] = text
            report = log.info if expected else log.warning
            report("run history", reason=text)
        self._show()

    def clear(self, cause: str) -> None:
        """Say that what was wrong is over."""
        self._barring.discard(cause)
        if self._texts.pop(cause, None) is not None:
            log.info("run history is over it", cause=cause)
            self._show()

    def note(self, text: str) -> None:
        """Say how things are while nothing is wrong."""
        self._note = text
        self._show()

    @property
    def waiting(self) -> int:
        """How many events the database does not have yet; shown while it is away or far behind."""
        return self._waiting

    @waiting.setter
    def waiting(self, count: int) -> None:
        if count != self._waiting:
            self._waiting = count
            self._show()

    @property
    def against_start(self) -> tuple[str, ...]:
        """Every reason why no run is started now."""
        return tuple(text for cause, text in self._texts.items() if cause in self._barring)

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._texts)

    def _show(self) -> None:
        texts = list(dict.fromkeys(self._texts.values()))
        bad = bool(texts)
        texts = texts or [self._note]
        if self._waiting and (AWAY in self._texts or self._waiting >= MANY):
            texts.append(f"{self._waiting} events are not in the database yet")
        now = ("; ".join(texts), bad)
        if now != self._told:
            self._told = now
            self._tell(*now)
