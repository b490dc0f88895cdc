"""What was wrong with the data of the run in progress: kept for its record, and for the log."""

from __future__ import annotations

from collections.abc import Sequence

from attpc_ioc.model.run import RunRef

from .closing.service import ClosingService
from .events.service import EventsService
from .events.sync import Sync
from .watch.flow import Flow
from .watch.incidents import Incidents, Wrong
from .watch.router import Router


class RunFaults:
    """Follows the routers from poll to poll, in runs and between them."""

    def __init__(self, routers: Sequence[Router], events: EventsService, closing: ClosingService) -> None:
        self._routers = routers
        self._events = events
        self._closing = closing
        self._incidents = Incidents(closing.remark)
        self._synced: dict[str, Sync] = {}
        """The worst state of the events of each router's boards in this run, by label."""
        self._dead: list[str] = []
        """Routers that had no data while others had some, or could have none, at the poll before the stop."""

    def run_begins(self) -> None:
        """Begin a run."""
        self._synced.clear()
        self._dead.clear()
        self._incidents.run_begins()

    def see(
        self, router: Router, now_s: float, run: RunRef | None, *, takes_part: bool, ending: bool
    ) -> None:
        """Take the result of a poll, in this run if one is on; `ending`: it is being stopped or just was."""
        wrong = router.wrong if takes_part else {}
        if run is not None:
            wrong |= self._of_events(router, run)
        if not ending:
            self._note_dead()
        # What ends because the run is stopped lasts until its end.
        take = self._incidents.add if ending else self._incidents.see
        take(router.label, wrong, lambda cause: router.why_wrong(cause, now_s), run)

    def run_stops(self, run: RunRef) -> None:
        """Keep what is wrong when a run is being stopped, and again at its end."""
        for router in self._routers:
            # What was shown since the last poll is of this run, too.
            self._incidents.add(router.label, self._of_events(router, run), lambda _cause: "", run)
        self._incidents.run_ends(run)
        for label in self._dead:
            self._closing.note_dead(run, label)

    def _of_events(self, router: Router, run: RunRef) -> dict[str, Wrong]:
        """Return what is wrong with the boards' events; keeps the worst state for the run's record."""
        state = self._events.worst_of(router.sources, run)
        if state > self._synced.get(router.label, Sync.UNKNOWN):
            self._synced[router.label] = state
            self._closing.note_sync(run, router.label, state)
        return self._events.wrong(router.sources, run)

    def _note_dead(self) -> None:
        """Remember which routers have no data while others have some, or can have none any more.

        Where frames are read, these tell it.
        """
        flowing = any(router.flow in (Flow.FLOWING, Flow.LOW) for router in self._routers)
        self._dead = [
            router.label
            for router in self._routers
            if router.flow is Flow.DEAD
            and (flowing or router.cut)
            and self._events.host(router.label) is None
        ]
