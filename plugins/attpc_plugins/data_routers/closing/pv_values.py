"""The values of the closing PVs: of each data router the runs that are being closed, and the worst of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import RouterSettings

from .closings import Closing, Phase
from .figures import counted
from .rows import (
    CLOSE,
    CLOSE_MESSAGE,
    CLOSE_PROGRESS,
    RUN_CLOSING,
    RUN_CLOSING_MESSAGE,
    RUN_MANIFEST,
    WORST_FIRST,
)
from .run_files import RunFilesText

log = get_logger(__name__)


class ClosingShown:
    """Publishes the states of closings. `unfinished` has the labels of routers with a closing in progress."""

    def __init__(self, publish: Callable[[str, int | float | str], None]) -> None:
        self._publish_pv = publish
        self._of: dict[str, tuple[RouterSettings, Sequence[Closing], Mapping[str, float]]] = {}
        self._shown: dict[str, tuple[CloseState, str]] = {}
        self._empty: set[str] = set()
        """Labels of the routers whose closed run has no file."""
        self._published: dict[str, object] = {}
        self._files = RunFilesText()
        self.unfinished: set[str] = set()

    def show(
        self, router: RouterSettings, closings: Sequence[Closing], progress: Mapping[str, float]
    ) -> None:
        """Publish one router's closings; `progress` has percentages by their tokens."""
        if any(closing.phase is Phase.CLOSING for closing in closings):
            self.unfinished.add(router.label)
        else:
            self.unfinished.discard(router.label)
        self._of[router.label] = router, closings, progress
        newest = max((key for _, known, _ in self._of.values() if (key := _newest(known))), default=())
        for router, known, percents in self._of.values():
            self._show_router(router, known, percents, newest)
        self._show_run()

    def _show_router(
        self,
        router: RouterSettings,
        closings: Sequence[Closing],
        progress: Mapping[str, float],
        newest: tuple[float, RunRef] | tuple[()],
    ) -> None:
        """Publish one router's closings; nothing of an earlier run than the `newest` that has ended."""
        shown = [closing for closing in closings if closing.phase is Phase.CLOSING]
        if not shown and (_newest(closings) == newest or any(closing.open for closing in closings)):
            shown = [closing for closing in closings if not closing.open][-1:]
        troubled = [c for c in closings if c.late_pending and c.state is not CloseState.DONE]
        shown = [*(closing for closing in troubled if closing not in shown), *shown]
        state = _worst(closing.state for closing in shown)
        text = "; ".join(f"run {closing.run.number}: {closing.message}" for closing in shown)
        self._shown[router.label] = (state, text)
        empty = any(closing.state is CloseState.DONE and not closing.files for closing in shown)
        (self._empty.add if empty else self._empty.discard)(router.label)
        percent = min((_percent(closing, progress) for closing in shown), default=0.0)
        for source in router.sources:
            self._publish(f"{source}:{CLOSE}", int(state))
            self._publish(f"{source}:{CLOSE_MESSAGE}", text)
            self._publish(f"{source}:{CLOSE_PROGRESS}", round(percent, 1))

    def _show_run(self) -> None:
        overall = _worst(state for state, _ in self._shown.values())
        left = [
            f"{label}: {state.label}: {text}"
            for label, (state, text) in self._shown.items()
            if state not in (CloseState.NONE, CloseState.DONE) or label in self._empty
        ]
        done = sum(state is CloseState.DONE for state, _ in self._shown.values())
        ended = sum(state is not CloseState.NONE for state, _ in self._shown.values())
        text = "\n".join([f"{done} of {counted(ended, 'data router')} done", *left]) if ended else ""
        self._publish(RUN_CLOSING, int(overall))
        self._publish(RUN_CLOSING_MESSAGE, text)
        files = self._files.text((router, closings) for router, closings, _ in self._of.values())
        if files is not None:
            self._publish(RUN_MANIFEST, files)

    def _publish(self, pv: str, value: int | float | str) -> None:
        if self._published.get(pv) == value:
            return
        try:
            self._publish_pv(pv, value)
        except KeyError:  # no ECC server in the settings has this source
            log.debug("no such PV", pv=pv)
        self._published[pv] = value


def _newest(closings: Sequence[Closing]) -> tuple[float, RunRef] | tuple[()]:
    """Return a key of the newest run whose end is known; empty where there is none."""
    ended = [closing for closing in closings if closing.phase is not Phase.RUNNING]
    return (ended[-1].began_s, ended[-1].run) if ended else ()


def _worst(states: Iterable[CloseState]) -> CloseState:
    found = set(states)
    return next((state for state in WORST_FIRST if state in found), CloseState.NONE)


def _percent(closing: Closing, progress: Mapping[str, float]) -> float:
    return 100.0 if closing.state is CloseState.DONE else progress.get(closing.token, 0.0)
