"""What is wrong with the data routers, cause by cause, for the plugin's status."""

from __future__ import annotations

from collections.abc import Callable

from attpc_ioc.log import get_logger

log = get_logger(__name__)


class Troubles:
    """Tells `tell(text, degraded)` of every change. A cause stands until it is over: none hides another.

    `note` is what is shown while nothing is wrong.
    """

    def __init__(self, tell: Callable[[str, bool], None]) -> None:
        self._tell = tell
        self._note = ""
        self._texts: dict[str, str] = {}
        self._told: tuple[str, bool] | None = None

    def say(self, cause: str, text: str, *, logged: bool = True) -> None:
        """Say what is wrong; with an empty text, that nothing is any more. Not `logged`: others log it."""
        before = self._texts.get(cause, "")
        if text == before:
            return
        if text:
            self._texts[cause] = text
            if logged:
                log.warning("data routers", reason=text)
        else:
            del self._texts[cause]
            if logged:
                log.info("data routers are over it", reason=before)
        self._show()

    def note(self, text: str) -> None:
        """Say how things are while nothing is wrong."""
        self._note = text
        self._show()

    def _show(self) -> None:
        now = ("; ".join(dict.fromkeys(self._texts.values())) or self._note, bool(self._texts))
        if now != self._told:
            self._told = now
            self._tell(*now)
