"""What the PVs of closing show: of each data router the run that is to be closed, and the worst of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import RouterSettings

from .entries import Entry, Phase
from .rows import (
    CLOSE,
    CLOSE_MESSAGE,
    CLOSE_PROGRESS,
    RUN_CLOSING,
    RUN_CLOSING_MESSAGE,
    WORST_FIRST,
)

log = get_logger(__name__)


class ClosingShown:
    """Publishes how closings stand; `publish` is the context's. `unfinished` are the labels not yet done."""

    def __init__(self, publish: Callable[[str, int | float | str], None]) -> None:
        self._publish_pv = publish
        self._shown: dict[str, tuple[CloseState, str]] = {}
        self._empty: set[str] = set()
        """Labels of the routers of which no file is in what is shown."""
        self._published: dict[str, object] = {}
        self.unfinished: set[str] = set()

    def show(self, router: RouterSettings, entries: Sequence[Entry], progress: Mapping[str, float]) -> None:
        """Show one router's entries; `progress` has percentages by their tokens."""
        shown = [entry for entry in entries if entry.phase is Phase.CLOSING]
        if shown:
            self.unfinished.add(router.label)
        else:
            self.unfinished.discard(router.label)
        shown = shown or [entry for entry in entries if not entry.open][-1:]
        state = _worst(entry.state for entry in shown)
        text = "; ".join(f"run {entry.run.number}: {entry.message}" for entry in shown)
        self._shown[router.label] = (state, text)
        empty = any(entry.state is CloseState.DONE and not entry.files for entry in shown)
        (self._empty.add if empty else self._empty.discard)(router.label)
        percent = min((_percent(entry, progress) for entry in shown), default=0.0)
        for source in router.sources:
            self._publish(f"{source}:{CLOSE}", int(state))
            self._publish(f"{source}:{CLOSE_MESSAGE}", text)
            self._publish(f"{source}:{CLOSE_PROGRESS}", round(percent, 1))
        self._show_run()

    def _show_run(self) -> None:
        overall = _worst(state for state, _ in self._shown.values())
        left = [
            f"{label}: {state.label}: {text}"
            for label, (state, text) in self._shown.items()
            if state not in (CloseState.NONE, CloseState.DONE) or label in self._empty
        ]
        done = sum(state is CloseState.DONE for state, _ in self._shown.values())
        counted = sum(state is not CloseState.NONE for state, _ in self._shown.values())
        text = "\n".join([f"{done} of {counted} data routers done", *left]) if counted else ""
        self._publish(RUN_CLOSING, int(overall))
        self._publish(RUN_CLOSING_MESSAGE, text)

    def _publish(self, pv: str, value: int | float | str) -> None:
        if self._published.get(pv) == value:
            return
        try:
            self._publish_pv(pv, value)
        except KeyError:  # a source that no ECC server of the settings has
            log.debug("no such PV", pv=pv)
        self._published[pv] = value


def _worst(states: Iterable[CloseState]) -> CloseState:
    found = set(states)
    return next((state for state in WORST_FIRST if state in found), CloseState.NONE)


def _percent(entry: Entry, progress: Mapping[str, float]) -> float:
    return 100.0 if entry.state is CloseState.DONE else progress.get(entry.token, 0.0)
