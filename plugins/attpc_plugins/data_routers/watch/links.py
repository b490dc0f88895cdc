"""Whether a router is still the process to which its boards are connected: they connect in Configure only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from attpc_ioc.eventlog import Kept
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import LIVE, State
from attpc_plugins.data_routers.model import Polled

from .poll import Seen

CONNECTED = frozenset((State.READY, *LIVE))
"""The states of a board that is connected to its router."""

NOTHING_WRITTEN = (
    "it was restarted after its board was configured, so nothing of the board is written: "
    "Reset and Configure the board first"
)
"""The reason against a start."""


@dataclass(frozen=True, slots=True)
class Link:
    """A board's connection to its router, made in its last Configure.

    `pids`: the router's processes then; empty where the host does not report them. `lost`: these are gone,
    and another process does not have the connection.
    """

    pids: tuple[int, ...] = ()
    lost: bool = False

    def after(self, polled: Polled) -> Link:
        """Return it after another poll. Where only `process` is reported, what was lost stays so."""
        if self.pids and (polled.pids or not polled.process):
            return replace(self, lost=set(self.pids).isdisjoint(polled.pids))
        return replace(self, lost=self.lost or not polled.process)


class Links:
    """The connections of all sources' boards, kept over restarts. Times are monotonic seconds.

    What happens between two polls is seen only on hosts that report process numbers.
    """

    def __init__(self, kept: Kept[Link]) -> None:
        self._kept = kept
        self._made_s: dict[str, float] = {}
        """By source: when a connection was seen to be made, until the first poll after that."""

    def lost(self, source: str) -> bool:
        """Return whether the process to which a source's board was connected is gone."""
        link = self._kept.values.get(source)
        return link is not None and link.lost

    def configured(self, fleet: Fleet, module: str, now_s: float) -> list[str]:
        """Note that the boards of an ECC server have just connected; return their sources."""
        sources = [source.name for source, view in fleet.sources() if view.name == module]
        for source in sources:
            self._made(source, now_s)
        return sources

    def _made(self, source: str, now_s: float) -> None:
        self._made_s[source] = now_s
        self._kept.drop(source)

    def see_fleet(self, fleet: Fleet, now_s: float) -> None:
        """Note which boards have a connection, whoever configured them."""
        for source, module in fleet.sources():
            if module.state in CONNECTED:
                if source.name not in self._made_s and source.name not in self._kept.values:
                    self._made(source.name, now_s)
            elif module.state is not State.OFFLINE:
                self._made_s.pop(source.name, None)
                self._kept.drop(source.name)

    def see_router(self, sources: Iterable[str], seen: Seen) -> None:
        """Take an answer about the router of these sources."""
        polled = seen.polled
        for source in sources:
            made_s, link = self._made_s.get(source), self._kept.values.get(source)
            if made_s is not None and seen.asked_s >= made_s:
                del self._made_s[source]
                self._kept.keep(source, Link(polled.pids, lost=not polled.process))
            elif link is not None and (new := link.after(polled)) != link:
                self._kept.keep(source, new)
