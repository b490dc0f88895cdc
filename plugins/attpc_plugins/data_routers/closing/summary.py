"""What is in the frames of a run's files, at its closing.

The live look has hopped over nearly all frames by then. What is known of them goes with the run's closing, so
that only the rest is looked at here, in the files where they are now: after a restart of the IOC, for a run
that is closed beside the next one, and for late data too. It takes a few requests for each sender, whatever
the files' size; what is not known then is said as unknown. No fault here keeps a closing from its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.events.streams import Stream
from attpc_plugins.data_routers.hosts.host import HostError, Source
from attpc_plugins.data_routers.model import FileEntry
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings
from attpc_plugins.data_routers.watch.poll import answered

from .closings import Closing
from .counting import Known, count_on, known_all, known_of
from .manifest import Manifest, StreamFrames

log = get_logger(__name__)

LIMIT_S = 10.0
"""A closing waits at most this long; usually it is milliseconds."""

Seen = Callable[[RunRef], Mapping[str, Stream]]
"""Returns what the live look knows of a run, by sender."""


def nothing_seen(_run: RunRef) -> Mapping[str, Stream]:
    """Return nothing: for a closing without a live look."""
    return {}


def summary_for(
    router: RouterSettings, host: object, settings: DataRoutersSettings, seen: Seen = nothing_seen
) -> Summary:
    """Return the summary of a router's runs; `host`: where its frames are looked at, if that shows files."""
    looked_at = host if isinstance(host, Source) and settings.events.enabled else None
    return Summary(router.label, looked_at, seen)


class Summary:
    """Counts the frames of one data router's runs; `host` is None where frames are not looked at."""

    def __init__(self, label: str, host: Source | None, seen: Seen = nothing_seen) -> None:
        self._label = label
        self._host = host
        self._seen = seen

    def known(self, run: RunRef) -> dict[str, Known]:
        """Return what the live look knows of a run's files, by sender."""
        return {sender: known_of(stream) for sender, stream in self._seen(run).items()}

    async def of(
        self, closing: Closing, files: Sequence[FileEntry], *, closed: bool = False
    ) -> tuple[StreamFrames, ...] | None:
        """Return what is in the files of a run that is being closed, by sender; None if it is not known."""
        known = self.known(closing.run) or closing.seen
        return await self._count(closing, files, known if not closing.accepted else {}, closed=closed)

    async def with_late(
        self, closing: Closing, record: Manifest, files: Sequence[FileEntry]
    ) -> tuple[StreamFrames, ...] | None:
        """Return what is in the files of a closed run, to which late data have come since its manifest."""
        return await self._count(closing, files, known_all(record.streams or (), record.files), closed=True)

    async def of_closed(self, closing: Closing) -> tuple[StreamFrames, ...] | None:
        """Return what is in the files of a run that another program has moved to its folder."""
        if self._host is None:
            return None
        try:
            files = await self._host.gathered(closing.run, closed=True, checksums=False)
        except HostError as error:
            self._say(closing, error)
            return None
        return await self.of(closing, files, closed=True)

    async def _count(
        self, closing: Closing, files: Sequence[FileEntry], known: Mapping[str, Known], *, closed: bool
    ) -> tuple[StreamFrames, ...] | None:
        if self._host is None:
            return None
        try:
            async with answered(LIMIT_S):
                return await count_on(partial(self._host.frames, closing.run, closed=closed), files, known)
        except HostError as error:
            self._say(closing, error)
            return None

    def _say(self, closing: Closing, error: HostError) -> None:
        log.warning(
            "frames of a run not counted at its closing", run=closing.run, router=self._label, reason=error
        )
