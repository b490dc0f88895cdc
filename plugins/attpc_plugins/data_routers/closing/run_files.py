"""The files of the last closed run on all hosts, as one JSON text, for programs that read them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Sequence

from attpc_ioc.model.run import RunRef
from attpc_ioc.printable import json_text
from attpc_plugins.data_routers.settings import Access, RouterSettings

from .closings import Closing, Phase

MOST_BYTES = 2**18
"""Bytes of the PV: some 1400 files with checksums."""

Closed = tuple[RouterSettings, Closing]


class RunFilesText:
    """Makes the text, anew only where a closing has changed."""

    def __init__(self) -> None:
        self._of: tuple[tuple[str, str], ...] = ()
        self._text = ""

    def text(self, known: Iterable[tuple[RouterSettings, Sequence[Closing]]]) -> str | None:
        """Return the text of the newest run that has ended; None while its files are open."""
        closings = [(router, closing) for router, of in known for closing in of]
        ended = [closing for _, closing in closings if closing.phase is not Phase.RUNNING]
        if not ended:
            return None
        run = max(ended, key=lambda closing: closing.began_s).run
        own = [(router, closing) for router, closing in closings if closing.run == run]
        if any(closing.open for _, closing in own):
            return None
        of = tuple((closing.token, closing.manifest) for _, closing in own)
        if of != self._of:
            self._of, self._text = of, text_of(run, own)
        return self._text


def text_of(run: RunRef, closed: Sequence[Closed]) -> str:
    """Return a run's files by data router; `files` has the manifest's own entries.

    It is null, as `folder` is, where there is no manifest: behind a sentry, and for a closing that was given
    up. If all together are too long for the PV, `routers` is null and `reason` says so.
    """
    head = {"experiment": run.experiment, "run": run.number}
    text = json_text({**head, "routers": [_router(*one) for one in closed]}, allow_nan=False)
    if (size := len(text.encode())) < MOST_BYTES:
        return text
    files = sum(closing.files for _, closing in closed)
    reason = f"{files} files need {size} bytes, and this PV has {MOST_BYTES}: read the manifests"
    return json_text({**head, "routers": None, "reason": reason}, allow_nan=False)


def _router(router: RouterSettings, closing: Closing) -> dict[str, object]:
    has = bool(closing.manifest)
    return {
        "router": router.label,
        "sources": list(closing.sources),
        "host": socket.gethostname() if router.access is Access.LOCAL else router.host,
        "folder": closing.location if has else None,
        "files": json.loads(closing.manifest)["files"] if has else None,
    }
