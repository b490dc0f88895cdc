"""The plugin's own PostgreSQL server: made when first needed, a child of the IOC, on a Unix socket only.

Its folder has

- `owner.lock`: held by the process that may start and stop the server; the kernel frees it with that process.
- `server.lock`: inherited by every process of the server; if free, none of them is alive.
- `data`: the data folder, with the server's logs in `data/log`.
- `run`: the socket; it is in another private folder if this path is too long.
- the server's configuration, written at every start, and `start.log`, its output before it has a log.

An IOC that was killed leaves its server running. The next process to take `owner.lock` ends that server in an
orderly way and starts its own. `postmaster.pid` is never trusted: see `processes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from attpc_ioc.files import as_owner, private, read_theirs
from attpc_ioc.log import get_logger
from attpc_plugins.run_history.errors import EmbeddedBusy, EmbeddedError

from .binaries import Account, Binaries, account_for, find_binaries
from .cluster import (
    DATABASE,
    DURABLE,
    ROLE,
    data_major,
    environment,
    make_data,
    prepare_folder,
    write_configuration,
)
from .processes import FolderLock, end, servers_in
from .socket_folder import PORT, socket_folder

__all__ = ["DATABASE", "PORT", "ROLE", "EmbeddedServer"]

log = get_logger(__name__)

START_LIMIT_S = 60.0
"""Time limit of a start; after a crash the server first replays up to `max_wal_size` of its log."""

OWNER_WAIT_S = 5.0
"""How long to wait for another process of attpc-ioc to release the folder."""

FAST_S = 5.0
QUICK_S = 3.0
"""Time limits of an orderly shutdown, and of an immediate one after that, before the server is killed."""

_POLL_S = 0.005

PID_BYTES = 4096
LOG_BYTES = 1 << 20
"""Maximum bytes read of files that the server's account can write."""


class EmbeddedServer:
    """The server of one folder; see the module's description.

    `start` and `stop` block and may be called from any thread; `start_soon` and `stop_soon` are the same for
    asyncio. `binaries` and `account` are as in `find_binaries` and `account_for`; `options` are PostgreSQL's
    own settings in addition to the usual ones; `purpose` tells others who holds the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: str | None = None,
        account: str | None = None,
        options: dict[str, str] | None = None,
        purpose: str = "attpc-ioc",
    ) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self._wanted_binaries = binaries
        self._wanted_account = account
        self._options = {**DURABLE, **(options or {})}
        self._purpose = purpose
        self._owner = FolderLock(self.folder / "owner.lock")
        self._server = FolderLock(self.folder / "server.lock")
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = threading.Lock()
        self._socket: Path | None = None
        self._account: Account | None = None

    @property
    def running(self) -> bool:
        """Whether the server that this object started is running."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The number of the server's first process, while it is running."""
        return self._child.pid if self._child and self.running else None

    @property
    def socket(self) -> Path:
        """The socket folder of the server that this object started."""
        if self._socket is None:
            raise EmbeddedError(f"the database server of {self.folder} was not started")
        return self._socket

    @property
    def account(self) -> Account:
        """The account that runs the server; raises `EmbeddedError` if there is none."""
        if self._account is None:
            self._account = account_for(self._wanted_account)
        return self._account

    def binaries(self) -> Binaries:
        """Return the programs that fit the data folder; raises `EmbeddedError` if there are none."""
        return find_binaries(self.account, self._wanted_binaries, data_major(self.data))

    async def start_soon(self, limit_s: float = START_LIMIT_S, wait_s: float = OWNER_WAIT_S) -> None:
        """`start` in a thread; if the wait is cancelled the start goes on, and `stop` waits for its end."""
        await asyncio.to_thread(self.start, limit_s, wait_s)

    async def stop_soon(self, fast_s: float = FAST_S) -> None:
        """`stop` in a thread."""
        await asyncio.to_thread(self.stop, fast_s)

    def start(self, limit_s: float = START_LIMIT_S, wait_s: float = OWNER_WAIT_S) -> None:
        """Start the server, making it if there is none; returns when it accepts connections.

        Waits at most `wait_s` for another process of attpc-ioc to release the folder. Does nothing if the
        server is running. Raises `EmbeddedBusy`, or `EmbeddedError` with the reason and what to do.
        """
        with self._busy:
            if self.running:
                return
            begun = time.monotonic()
            prepare_folder(self.folder, self.account)
            binaries = self.binaries()
            self._own(wait_s)
            try:
                self._end_orphan()
                made = make_data(self.data, binaries, self.account, self._lock_fd())
                self._launch(binaries)
                self._await_ready(limit_s)
            except BaseException:
                self._end_child(FAST_S)
                self._owner.release()
                raise
            log.info(
                "database server started",
                folder=self.folder,
                version=binaries.version,
                programs=binaries.folder,
                account=self.account.name,
                socket=self.socket,
                made=made,
                duration_s=time.monotonic() - begun,
            )

    def stop(self, fast_s: float = FAST_S) -> None:
        """End the server, orderly within `fast_s`, else at once, else by SIGKILL; releases the folder."""
        with self._busy:
            if self._child is not None:
                self._end_child(fast_s)
                log.info("database server stopped", folder=self.folder)
            self._owner.release()

    def found_socket(self) -> Path | None:
        """Return the socket folder of this folder's server if another process runs it, or None.

        It is read from the server's own file; only connecting shows whether a server answers there. Raises
        `EmbeddedError` if this user may not read it.
        """
        try:
            lines = self._postmaster()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise EmbeddedError(
                f"{self.data}: {error.strerror}; run this as the IOC's user or as root"
            ) from error
        if len(lines) < 5 or not lines[4]:
            return None
        folder = Path(lines[4])
        return folder if (folder / f".s.PGSQL.{PORT}").exists() else None

    def _own(self, wait_s: float) -> None:
        try:
            taken = self._owner.wait(wait_s)
        except OSError as error:
            raise EmbeddedError(f"{self._owner.path}: {error.strerror}") from error
        if not taken:
            raise EmbeddedBusy(
                f"database folder {self.folder} is in use by {self._owner.read() or 'another process'}; "
                "end that first"
            )
        self._owner.write(f"{self._purpose} (process {os.getpid()})\n")

    def _end_orphan(self) -> None:
        """End a server that lost its IOC, and remove what would prevent the next start."""
        end_at = time.monotonic() + FAST_S + 2 * QUICK_S
        while True:
            processes = servers_in(self.data, self._server.path)
            if foreign := [process for process in processes if not process.ours]:
                raise EmbeddedError(
                    f"a PostgreSQL server that attpc-ioc did not start (process {foreign[0].pid}) runs on "
                    f"{self.data}; end it first"
                )
            if processes:
                log.warning("ending the database server of an IOC that is gone", process=processes[0].pid)
                end(processes, self.data, self._server.path, fast_s=FAST_S, quick_s=QUICK_S)
            # A process just forked is not a server yet; the next round finds it.
            if self._server.wait(0.1):
                break
            if time.monotonic() > end_at:
                raise EmbeddedError(
                    f"a process of a former database server still holds {self._server.path}, and it cannot "
                    "be found or ended from here (another container?); end it first"
                )
        # No server process is alive, so the number in this file is unused or another program's.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _lock_fd(self) -> int:
        fd = self._server.fd
        assert fd is not None
        return fd

    def _launch(self, binaries: Binaries) -> None:
        self._socket = socket_folder(self.folder, self.account)
        options = {
            **self._options,
            **write_configuration(self.folder, binaries, self.account),
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._socket),
            "unix_socket_permissions": "0700",
        }
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        postgres = binaries.program("postgres")
        try:
            with open(self._said(), "wb", opener=private) as stream:
                self._child = subprocess.Popen(
                    [postgres, "-D", self.data, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                    pass_fds=(self._lock_fd(),),
                    cwd=self.data,
                    env=environment(),
                    user=self.account.user,
                    group=self.account.group,
                    extra_groups=self.account.groups,
                )
        except OSError as error:
            raise EmbeddedError(f"{error.filename or postgres}: {error.strerror}") from error
        # From now on only the server's processes hold this lock: it is free when they have ended.
        self._server.close()

    def _await_ready(self, limit_s: float) -> None:
        assert self._child is not None
        end_at = time.monotonic() + limit_s
        while time.monotonic() < end_at:
            if self._child.poll() is not None:
                raise EmbeddedError(f"the database server of {self.folder} ended at once: {self._why()}")
            with contextlib.suppress(OSError):
                lines = self._postmaster()
                if len(lines) > 7 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready":
                    return
            time.sleep(_POLL_S)
        raise EmbeddedError(
            f"the database server of {self.folder} accepted no connection in {limit_s:g} s: {self._why()}"
        )

    def _postmaster(self) -> list[str]:
        return read_theirs(self.data / "postmaster.pid", PID_BYTES).splitlines()

    def _said(self) -> Path:
        return self.folder / "start.log"

    def _why(self) -> str:
        """Return the last failure that the server reported, in its log or before it had one."""
        try:
            with as_owner(self.data):
                logs = sorted(self.data.glob("log/*.log"), key=lambda path: path.lstat().st_mtime)
                texts = {path: read_theirs(path, LOG_BYTES) for path in logs[-1:]}
            texts = {self._said(): read_theirs(self._said(), LOG_BYTES)} | texts
        except OSError as error:
            return f"its log cannot be read: {error}"
        for path, text in texts.items():
            telling = [line for line in text.splitlines() if "FATAL:" in line or "PANIC:" in line]
            if telling:
                return f"{telling[-1][-300:]} (in {path})"
        return f"see {self._said()} and {self.data / 'log'}"

    def _end_child(self, fast_s: float) -> None:
        child, self._child = self._child, None
        if child is None:
            self._server.close()
            return
        limits = ((signal.SIGINT, fast_s), (signal.SIGQUIT, QUICK_S), (signal.SIGKILL, QUICK_S))
        for number, limit_s in limits:
            child.send_signal(number)
            try:
                child.wait(limit_s)
                break
            except subprocess.TimeoutExpired:
                log.warning("database server did not end in time", process=child.pid, signal=number.name)
        # A killed postmaster leaves other processes for a moment; the lock shows when they have ended.
        if self._server.wait(QUICK_S):
            self._server.release()
