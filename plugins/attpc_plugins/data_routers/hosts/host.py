"""The interface of a data router's host; `local`, `ssh` and `sentry` implement it.

Every method has a time limit, leaves the host unchanged when it fails, and raises a `HostError` whose text is
for operators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.outside import text
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.model import FileEntry, Moved, Polled

from .frames import SAMPLES_MOST, Cursor, Piece


class HostError(AttpcError):
    """A host could not carry out a request.

    HostError
    ├── HostUnreachable    no connection, or it broke
    ├── HostTimeout        connected, but no answer in time
    ├── HostRefused        the login failed: unknown or changed host key, or none of the IOC's keys accepted
    └── HostFault          the host reports an error: no such folder, permission denied, disk full
        ├── RunFolderExists
        └── RouterGone     a sentry whose router is not running, so that it reports nothing else

    The text may quote the host: it is shortened where it is too long, and has no control characters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(text(reason))


class HostUnreachable(HostError):
    """No connection, or it broke."""


class HostTimeout(HostError):
    """Connected, but no answer in time."""


class HostRefused(HostError):
    """The host rejects the login, or its host key has changed; the text says what to do."""


class HostFault(HostError):
    """The host reports an error."""


class RunFolderExists(HostFault):
    """The run's folder exists already; nothing was changed."""


class RouterGone(HostFault):
    """The sentry reports that the router does not run, and nothing else.

    After `catalog`, the files may have been moved: a sentry moves them before it looks for the router.
    """


class Host(Protocol):
    """One data router's host, by any kind of access."""

    async def connect(self) -> None:
        """Make the connection, if one is kept. It may take longer than a poll, which also makes it."""
        ...

    async def poll(self, next_run: RunRef | None) -> Polled:
        """Return the state of the router, its staging folder and its disk; one round trip."""
        ...

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the router's log; at most 1 MiB."""
        ...

    async def disconnect(self) -> None:
        """Close every connection and process, within a second."""
        ...


@runtime_checkable
class FileHost(Host, Protocol):
    """A host whose files the plugin moves itself: `local` and `ssh`.

    All of a run's folders are below `<staging>/<experiment>/`, on the staging folder's file system.
    """

    async def list_staging(self) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the staging folder, by name; regular files only, no links."""
        ...

    async def begin(self, run: RunRef) -> None:
        """Make the run's closing folder, or find the one of an earlier attempt.

        Raises `RunFolderExists` if the run's folder exists.
        """
        ...

    async def move(
        self, run: RunRef, files: Sequence[FileEntry], *, closed: bool = False, late: bool = True
    ) -> tuple[Moved, ...]:
        """Move files from the staging to the closing folder, or to the run's own (`closed`).

        Never over another file, never partly. One round trip for all files. A file is moved only if it still
        has the given size. With `late`, a file whose name is taken there is kept beside the one that has it,
        as `a_0000.late1.graw`.
        """
        ...

    async def gathered(
        self, run: RunRef, *, closed: bool, checksums: bool, known: Collection[str] = ()
    ) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the run's folder (`closed`) or of its closing folder, by name.

        The files in `known` get no checksums: they have theirs already.
        """
        ...

    async def finish(self, run: RunRef, manifest: bytes) -> None:
        """Write the manifest into the closing folder, sync it, and rename the folder to the run's folder.

        Raises `RunFolderExists` if the run's folder exists by then.
        """
        ...

    async def amend(self, run: RunRef, manifest: bytes) -> None:
        """Replace the manifest of a closed run, in one step, and sync the run's folder."""
        ...

    async def manifest(self, run: RunRef) -> bytes | None:
        """Return the manifest of a closed run; None if the run's folder or its manifest does not exist."""
        ...


@runtime_checkable
class FrameHost(Protocol):
    """A host on which the frames of growing files can be looked at: `local` and `ssh`."""

    async def look(self, cursors: Sequence[Cursor], step: int) -> tuple[Piece, ...]:
        """Hop over the new frames of the staging folder's files, each sender's from its cursor on.

        One round trip, in the time limit of a poll. `step`: samples are of events whose number is a multiple
        of it. A look at a sender without a cursor begins at its first file, or near the end of its last
        file where that is too much.
        """
        ...

    async def disconnect(self) -> None:
        """Close every connection and process, within a second."""
        ...


@runtime_checkable
class SourceHost(Protocol):
    """A host from which the files of a closed run can be read: `local` and `ssh`."""

    async def send(self, run: RunRef, file: FileEntry, sink: Callable[[bytes], None]) -> None:
        """Read a file of a closed run; `sink` is called with each piece, in a thread.

        Its time limit is one without bytes, or one for the file's size. Raises what `sink` raises, which must
        be no `OSError`.
        """
        ...

    async def frames(
        self,
        run: RunRef,
        name: str,
        offset: int,
        most: int,
        before: int = -1,
        *,
        closed: bool = True,
        samples: int = SAMPLES_MOST,
    ) -> Piece:
        """Hop over at most `most` frames of a file of a closed run, from an offset or `NEAR_END` on.

        What is torn at the end of the file is so for good. A file is read whole by repeated calls, each with
        `offset` and `before` of the last piece. If not
        `closed`, the file is in the run's closing folder. `samples`: see `Piece`.
        """
        ...

    async def link(self, run: RunRef, file: FileEntry, to: Path) -> bool:
        """Make a hard link `to` a file of a closed run; return False where that is not possible."""
        ...


@runtime_checkable
class Source(FileHost, SourceHost, Protocol):
    """A host that has the files of closed runs, and shows them."""


@runtime_checkable
class SentryHost(Host, Protocol):
    """A host on which an `attpc_sentry` moves the files on request."""

    async def catalog(self, run: RunRef) -> Polled:
        """Have the sentry move the run's files, and return its answer; takes half a minute or more.

        Raises `RunFolderExists` if the sentry reports that.
        """
        ...


class ConfigHost(Protocol):
    """The host of an ECC server's configuration files: a folder of this machine, or its host over SSH."""

    async def read(self, name: str) -> bytes:
        """Return one file of the folder, at most 16 MiB; raises `HostFault` where it is not there."""
        ...

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the ECC server's log; at most 1 MiB."""
        ...

    async def disconnect(self) -> None:
        """Close every connection and process, within a second."""
        ...
