"""What the plugin asks of a host; `local`, `ssh` and `sentry` answer it.

Every method is bounded by the limit that its maker was given, leaves the host as it was when it fails, and
raises a `HostError` whose text is for operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.outside import text
from attpc_plugins.data_routers.model import FileEntry, Moved, Polled, RunKey


class HostError(AttpcError):
    """A host could not do what it was asked.

    HostError
    ├── HostUnreachable    no connection, or it broke
    ├── HostTimeout        connected, and no answer in time
    ├── HostRefused        it will not let us in: unknown or changed host key, no key of ours accepted
    └── HostFault          it answered that it cannot: no such folder, permission denied, disk full
        ├── RunFolderExists
        └── RouterGone     a sentry whose router does not run, and which can tell nothing else then

    Much of a text may be the host's own words: it is cut where it is too long, and has no control characters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(text(reason))


class HostUnreachable(HostError):
    """No connection, or it broke."""


class HostTimeout(HostError):
    """Connected, and no answer in time."""


class HostRefused(HostError):
    """The host will not let us in, or is not who it was; the text says what to do."""


class HostFault(HostError):
    """The host answered that it cannot."""


class RunFolderExists(HostFault):
    """The run's folder exists already; nothing was touched."""


class RouterGone(HostFault):
    """The sentry answers that the router does not run; it can tell nothing else of the host then.

    From `catalog`, the files may have been moved: a sentry looks for the router after it has moved them.
    """


class Host(Protocol):
    """One data router's host: what every back end can do."""

    async def connect(self) -> None:
        """Connect where a connection is kept, which may take longer than a look; a look does so by itself."""
        ...

    async def poll(self, next_run: RunKey | None) -> Polled:
        """Return how the router, its staging folder and its disk are; one round trip."""
        ...

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the router's log, however long it is; at most 1 MiB."""
        ...

    async def disconnect(self) -> None:
        """Let go of every connection and process, within a second."""
        ...


@runtime_checkable
class FileHost(Host, Protocol):
    """A host whose files the plugin moves itself: `local` and `ssh`.

    All of a run's folders are below `<staging>/<experiment>/`, on the staging folder's file system.
    """

    async def list_staging(self) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the staging folder, by name; regular files only, no links."""
        ...

    async def begin(self, run: RunKey) -> None:
        """Make the run's closing folder, or find the one of an earlier attempt.

        Raises `RunFolderExists` where the run's own folder is there.
        """
        ...

    async def move(self, run: RunKey, files: Sequence[FileEntry]) -> tuple[Moved, ...]:
        """Move files from the staging to the closing folder; never over another, never half.

        One round trip for all of them. A file is moved only with the size that is given.
        """
        ...

    async def gathered(self, run: RunKey, *, closed: bool, checksums: bool) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the run's folder (`closed`) or of its closing folder, by name."""
        ...

    async def finish(self, run: RunKey, manifest: bytes) -> None:
        """Write the manifest into the closing folder, bring it to the disk, and give the folder its name.

        Raises `RunFolderExists` where the run's own folder has come to be there meanwhile.
        """
        ...

    async def manifest(self, run: RunKey) -> bytes | None:
        """Return the manifest of a closed run; None where there is no run folder or none in it."""
        ...


@runtime_checkable
class SentryHost(Host, Protocol):
    """A host on which an `attpc_sentry` moves the files when it is told."""

    async def catalog(self, run: RunKey) -> Polled:
        """Have the sentry move the run's files, and return what it answers; takes half a minute and more.

        Raises `RunFolderExists` where the sentry says so.
        """
        ...


class ConfigHost(Protocol):
    """Where the configuration files of an ECC server are read: a shared folder, or its host over SSH."""

    async def read(self, name: str) -> bytes:
        """Return one file of the folder, at most 16 MiB; raises `HostFault` where it is not there."""
        ...

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the ECC server's log; at most 1 MiB."""
        ...

    async def disconnect(self) -> None:
        """Let go of every connection and process, within a second."""
        ...
