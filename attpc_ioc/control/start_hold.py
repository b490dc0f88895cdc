"""What the start of a run waits for before the first module begins to write: that plugins are prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from attpc_ioc.log import get_logger
from attpc_ioc.model.plan import Stage
from attpc_ioc.model.states import Operation

log = get_logger(__name__)

LIMIT_S = 1.0
"""How long the first Start is held back at most, counted from when the plugins were told."""


class StartHold:
    """Holds back the first Start of a run until all of `prepared` are done, for a second, or until `abort`.

    What comes before it, such as the re-zero of the MuTAnT, goes on meanwhile; a plugin that is late or fails
    never refuses a run.
    """

    def __init__(self, prepared: Iterable[asyncio.Future[bool]], abort: asyncio.Event) -> None:
        self._prepared = [future for future in prepared if not future.done()]
        self._abort = abort
        self._deadline_s = asyncio.get_running_loop().time() + LIMIT_S

    async def before(self, stage: Stage) -> None:
        """Return when this stage may go out."""
        if not self._prepared or all(step.operation is not Operation.START for step in stage.steps):
            return
        prepared = asyncio.gather(*self._prepared)
        self._prepared = []
        loop = asyncio.get_running_loop()
        aborted = loop.create_task(self._abort.wait(), name="abort")
        left_s = max(0.0, self._deadline_s - loop.time())
        try:
            await asyncio.wait((prepared, aborted), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            aborted.cancel()
        if not prepared.done() and not self._abort.is_set():
            log.info("start goes on before every plugin is prepared", limit_s=LIMIT_S)
