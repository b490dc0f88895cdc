"""The states of one data router's closings: kept on disk, logged, and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.model import CloseState

from .closings import Closing, ClosingStore

log = get_logger(__name__)

UNFINISHED = (CloseState.INCOMPLETE, CloseState.FAILED, CloseState.UNREACHABLE)


class ClosingStates:
    """The states of the closings of the router `label`.

    `on_change(closings)` is called when the state of a closing has changed; `progress` has the percentage of
    each open closing by its token. `busy` is true while the host is moving files.
    """

    def __init__(
        self, label: str, store: ClosingStore, on_change: Callable[[Sequence[Closing]], None]
    ) -> None:
        self.label = label
        self.busy = False
        self.progress: dict[str, float] = {}
        self._store = store
        self._on_change = on_change

    async def _moving(self, closing: Closing, text: str) -> Closing:
        """Show, with this text, that the host moves files."""
        self.busy = True
        self.progress[closing.token] = 90.0
        if closing.state in UNFINISHED:
            return closing  # a repeated attempt changes nothing that is shown until its result differs
        return await self._say(closing, CloseState.MOVING, text)

    async def _say(self, closing: Closing, state: CloseState, message: str) -> Closing:
        after = closing.in_state(state, message)
        if after != closing:
            await self._keep(after)
            self._say_changed(after)
        return after

    def _say_changed(self, closing: Closing) -> None:
        write = log.warning if closing.state in UNFINISHED else log.info
        write(
            "closing",
            run=closing.run,
            router=closing.router,
            state=closing.state.label,
            message=closing.message,
        )
        self._on_change(self._known())

    def _known(self) -> tuple[Closing, ...]:
        return self._store.of(self.label)

    async def _keep(self, closing: Closing) -> None:
        await self._store.save(closing)
