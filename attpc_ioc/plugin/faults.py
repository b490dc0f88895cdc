"""The faults of a plugin, by cause: for its status, its log, and as reasons against a start."""

from __future__ import annotations

from collections.abc import Callable

from attpc_ioc.log import EventLogger


class Faults:
    """The current faults: each stays until its cause is cleared, so that none hides another.

    `report(text, degraded)`, such as `ctx.status`, is called with every change. Log lines begin with
    `subject`.
    """

    def __init__(self, subject: str, log: EventLogger, report: Callable[[str, bool], None]) -> None:
        self._subject = subject
        self._log = log
        self._report = report
        self._reported: tuple[str, bool] | None = None
        self._note = ""
        self._addition = ""
        self._texts: dict[str, str] = {}
        self._blocking: set[str] = set()

    def set(
        self,
        cause: str,
        text: str,
        *,
        blocks_start: bool = False,
        expected: bool = False,
        logged: bool = True,
    ) -> None:
        """Replace the fault of a cause; an empty text clears it.

        While a fault with `blocks_start` stands, no run may start. An `expected` one, because the program
        starts or stops, is not logged as a warning; one that is not `logged` is logged elsewhere.
        """
        if not text:
            self.clear(cause, logged=logged)
            return
        (self._blocking.add if blocks_start else self._blocking.discard)(cause)
        if self._texts.get(cause) == text:
            return
        self._texts[cause] = text
        if logged:
            (self._log.info if expected else self._log.warning)(self._subject, reason=text)
        self._show()

    def clear(self, cause: str, *, logged: bool = True) -> None:
        """Remove the fault of a cause, if there is one."""
        self._blocking.discard(cause)
        if text := self._texts.pop(cause, ""):
            if logged:
                self._log.info(f"{self._subject}: fault cleared", reason=text)
            self._show()

    def note(self, text: str) -> None:
        """Set what is shown while there is no fault."""
        self._note = text
        self._show()

    def add(self, text: str) -> None:
        """Set what is shown after the faults, or after the note."""
        self._addition = text
        self._show()

    def text_of(self, cause: str) -> str:
        """Return the fault of a cause; empty without one."""
        return self._texts.get(cause, "")

    def __contains__(self, cause: str) -> bool:
        return cause in self._texts

    @property
    def blocking(self) -> tuple[str, ...]:
        """Every reason why no run may start now."""
        return tuple(text for cause, text in self._texts.items() if cause in self._blocking)

    def _show(self) -> None:
        texts = list(dict.fromkeys(self._texts.values())) or [self._note]
        now = ("; ".join(filter(None, (*texts, self._addition))), bool(self._texts))
        if now != self._reported:
            self._reported = now
            self._report(*now)
