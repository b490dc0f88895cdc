"""A PostgreSQL server of the plugin's own: made when first needed, a child of the IOC, on a Unix socket only.

The folder, which belongs to the account that the server runs as, holds

- `owner.lock`: held by the process that may start and stop the server; the kernel frees it with the process.
- `server.lock`: inherited by every process of the server; free means that none of them lives.
- `data`: the data folder; made beside it under another name and renamed, so that it is whole or absent.
- `run`: the socket; elsewhere, in a private folder, when this path is too long for one.

An IOC that was killed leaves its server running. The next one to take `owner.lock` ends that server, in good
order, and starts one that is its own child again. `postmaster.pid` is never believed: see `processes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from attpc_ioc.log import get_logger

from .binaries import Account, Binaries, account_for, barrier, find_binaries
from .errors import EmbeddedBusy, EmbeddedError
from .processes import FolderLock, end, servers_in
from .socket_place import PORT, socket_folder

log = get_logger(__name__)

DATABASE = "attpc_ioc"
"""The database of the embedded server."""

ROLE = "attpc_ioc"
"""The role that owns it; there is no password: only the account and root can reach the socket."""

START_LIMIT_S = 60.0
"""How long a start may take; after a crash the server first replays at most `max_wal_size` of its log."""

FAST_S = 5.0
QUICK_S = 3.0
"""How long an orderly end may take before the server is told to end at once, and that before it is killed."""

CONFIGURATION = """\
# Written by attpc-ioc at every start; what ALTER SYSTEM sets is kept and wins, but for the last three lines'
# subjects, durability and the socket, which are given on the command line.
max_connections = 40
shared_buffers = '32MB'
dynamic_shared_memory_type = 'posix'
max_wal_size = '256MB'
min_wal_size = '48MB'
checkpoint_timeout = '5min'
max_wal_senders = 0
wal_level = 'minimal'
max_worker_processes = 4
max_parallel_workers_per_gather = 0
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
datestyle = 'iso, ymd'
default_text_search_config = 'pg_catalog.simple'
idle_in_transaction_session_timeout = '60s'
password_encryption = 'scram-sha-256'
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = '1d'
log_rotation_size = 0
log_min_messages = 'warning'
log_checkpoints = off
log_line_prefix = '%m [%p] %q%u@%d '
"""

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class EmbeddedServer:
    """The server of one folder; see the module for how it is kept.

    `start` and `stop` block and may be called from any thread; `start_soon` and `stop_soon` are the same for
    asyncio. `options` are PostgreSQL's own settings on top of the usual ones.
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
        self._binaries: Binaries | None = None
        self._account: Account | None = None

    @property
    def running(self) -> bool:
        """Whether the server that this object started lives."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The number of the server's first process, while it lives."""
        return self._child.pid if self._child and self.running else None

    @property
    def owned(self) -> bool:
        """Whether this object holds the folder."""
        return self._owner.fd is not None

    @property
    def socket(self) -> Path:
        """The folder of the server's socket, where clients connect; see `found_socket` for another's."""
        if self._socket is None:
            raise EmbeddedError(f"the PostgreSQL server of {self.folder} was not started")
        return self._socket

    @property
    def binaries(self) -> Binaries:
        """The programs that the server runs from; raises `EmbeddedError` where there are none."""
        if self._binaries is None:
            self._binaries = find_binaries(self.account, self._wanted_binaries, self._data_major())
        return self._binaries

    @property
    def account(self) -> Account:
        """Whom the server runs as; raises `EmbeddedError` where there is nobody."""
        if self._account is None:
            self._account = account_for(self._wanted_account)
        return self._account

    async def start_soon(self, limit_s: float = START_LIMIT_S, wait_s: float = 5.0) -> None:
        """`start` in a thread; a cancelled wait leaves the start to end by itself, and `stop` waits for it."""
        await asyncio.to_thread(self.start, limit_s, wait_s)

    async def stop_soon(self, fast_s: float = FAST_S) -> None:
        """`stop` in a thread."""
        await asyncio.to_thread(self.stop, fast_s)

    def start(self, limit_s: float = START_LIMIT_S, wait_s: float = 5.0) -> None:
        """Start the server, making it when there is none; returns when it takes connections.

        Waits `wait_s` at most for another process of attpc-ioc to let go of the folder. Does nothing when the
        server runs. Raises `EmbeddedBusy`, or `EmbeddedError` with the reason and what to do.
        """
        with self._busy:
            if self.running:
                return
            begun = time.monotonic()
            self._prepare_folder()
            self._own(wait_s)
            try:
                self._end_orphan()
                made = self._make_data()
                self._launch(limit_s)
            except BaseException:
                self._end_child(FAST_S)
                self._owner.release()
                raise
            log.info(
                "database server started",
                folder=self.folder,
                version=self.binaries.version,
                account=self.account.name,
                socket=self.socket,
                made=made,
                duration_s=time.monotonic() - begun,
            )

    def stop(self, fast_s: float = FAST_S) -> None:
        """End the server, in order and within `fast_s`, else at once, else by SIGKILL; frees the folder."""
        with self._busy:
            if self._child is not None:
                self._end_child(fast_s)
                log.info("database server stopped", folder=self.folder)
            self._owner.release()

    def found_socket(self) -> Path | None:
        """Return where a server of this folder that another process runs takes connections, or None.

        The place is read from the server's own file; whether one answers there only connecting tells.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        if len(lines) < 5 or not lines[4]:
            return None
        folder = Path(lines[4])
        return folder if (folder / f".s.PGSQL.{PORT}").exists() else None

    def _prepare_folder(self) -> None:
        account = self.account
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = self.folder.stat()
            if account.other and info.st_uid == os.geteuid() and not any(self.folder.iterdir()):
                os.chown(self.folder, account.uid, account.gid)
                info = self.folder.stat()
        except OSError as error:
            raise EmbeddedError(f"database folder {self.folder}: {error.strerror}") from error
        if info.st_uid != account.uid:
            raise EmbeddedError(
                f"database folder {self.folder} belongs to user number {info.st_uid}, but the server runs as "
                f"{account.name}; run the IOC as before, or set plugins.run_history.account"
            )
        if closed := barrier(self.folder, account):
            raise EmbeddedError(
                f"the database server runs as {account.name}, because PostgreSQL refuses to run as root, and "
                f"{account.name} may not enter {closed}, on the way to {self.folder}; put "
                "plugins.run_history.data_dir where it may, let it pass (chmod o+x), or run the IOC as an "
                "ordinary user"
            )

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
        """End a server that lost its IOC, and clear away what would hinder the next start."""
        processes = servers_in(self.data, self._server.path)
        if foreign := [process for process in processes if not process.ours]:
            raise EmbeddedError(
                f"a PostgreSQL server that attpc-ioc did not start (process {foreign[0].pid}) runs on "
                f"{self.data}; end it first"
            )
        if processes:
            log.warning("ending the database server of an IOC that is gone", process=processes[0].pid)
            end(processes, self.data, self._server.path, fast_s=FAST_S, quick_s=QUICK_S)
        if not self._server.wait(QUICK_S):
            raise EmbeddedError(
                f"a process of a former database server still holds {self._server.path}, and it cannot be "
                "found or ended from here (another container?); end it first"
            )
        # No process of a server lives, so that the number in this file is nobody's, or a stranger's.
        with contextlib.suppress(FileNotFoundError):
            (self.data / "postmaster.pid").unlink()

    def _make_data(self) -> bool:
        if (self.data / "PG_VERSION").exists():
            return False
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedError(f"{self.data} is not empty and no PostgreSQL data folder; move it away")
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        initdb = self.binaries.program("initdb")
        self._run(
            [
                initdb,
                "--pgdata",
                new,
                "--username",
                ROLE,
                "--encoding",
                "UTF8",
                "--no-locale",
                "--data-checksums",
            ]
            + ["--auth-local", "peer", "--auth-host", "reject", "--no-sync", "--no-instructions"]
        )
        self._configure(new)
        postgres = self.binaries.program("postgres")
        self._run(
            [postgres, "--single", "-D", new, "-c", "fsync=off", "-c", "logging_collector=off", "postgres"],
            f"CREATE DATABASE {DATABASE};\n",
        )
        self._run([initdb, "--pgdata", new, "--sync-only"])
        new.replace(self.data)
        _sync_folder(self.folder)
        return True

    def _configure(self, data: Path) -> None:
        names = {self.account.name, "root"}
        mapping = "".join(f"attpc {name} {ROLE}\n" for name in sorted(names))
        self._write(data / "postgresql.conf", CONFIGURATION)
        self._write(data / "pg_hba.conf", "local all all peer map=attpc\n")
        self._write(data / "pg_ident.conf", mapping)

    def _write(self, path: Path, text: str) -> None:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        new = path.with_name(path.name + ".new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        if self.account.other:
            os.chown(new, self.account.uid, self.account.gid)
        new.replace(path)

    def _launch(self, limit_s: float) -> None:
        self._configure(self.data)
        self._socket = socket_folder(self.folder, self.account)
        options = {
            **self._options,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._socket),
            "unix_socket_permissions": "0700",
        }
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        fd = self._server.fd
        assert fd is not None
        errors = self.folder / "start.log"
        with errors.open("wb") as stream:
            self._child = subprocess.Popen(
                [self.binaries.program("postgres"), "-D", self.data, *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                pass_fds=(fd,),
                cwd="/",
                env=_environment(),
                **self._as_account(),
            )
        # From here on the server's processes alone hold this lock: it is free when they are gone.
        self._server.close()
        self._await_ready(limit_s, errors)

    def _await_ready(self, limit_s: float, errors: Path) -> None:
        assert self._child is not None
        end_at = time.monotonic() + limit_s
        while time.monotonic() < end_at:
            if self._child.poll() is not None:
                raise EmbeddedError(
                    f"the database server of {self.folder} ended at once: {self._why(errors)}"
                )
            with contextlib.suppress(OSError, UnicodeDecodeError):
                lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                if len(lines) > 7 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready":
                    return
            time.sleep(0.005)
        raise EmbeddedError(
            f"the database server of {self.folder} took no connections within {limit_s:g} s: {self._why(errors)}"
        )

    def _why(self, errors: Path) -> str:
        """Return the last that the server said, of what it wrote before and after it had a log."""
        logs = sorted(self.data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)
        for path in (*logs[-1:], errors):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
            if telling:
                return f"{telling[-1][-300:]} (see {path})"
        return f"see {errors} and {self.data / 'log'}"

    def _end_child(self, fast_s: float) -> None:
        child, self._child = self._child, None
        if child is None:
            self._server.close()
            return
        for number, limit_s in (
            (signal.SIGINT, fast_s),
            (signal.SIGQUIT, QUICK_S),
            (signal.SIGKILL, QUICK_S),
        ):
            child.send_signal(number)
            try:
                child.wait(limit_s)
                break
            except subprocess.TimeoutExpired:
                log.warning("database server did not end in time", process=child.pid, signal=number.name)
        # A postmaster that was killed leaves its others behind for a moment; the lock tells when they are gone.
        if self._server.wait(QUICK_S):
            self._server.release()

    def _run(self, command: list[str | Path], text: str = "") -> None:
        try:
            ran = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                timeout=START_LIMIT_S,
                check=False,
                cwd="/",
                env=_environment(),
                **self._as_account(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedError(f"{command[0]}: {error}") from error
        if ran.returncode:
            said = " ".join((ran.stderr or ran.stdout).split())[-400:]
            raise EmbeddedError(f"{command[0]} failed, making {self.data}: {said}")

    def _as_account(self) -> dict[str, object]:
        account = self.account
        return {"user": account.uid, "group": account.gid, "extra_groups": []} if account.other else {}

    def _data_major(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.data / "PG_VERSION").read_text(encoding="utf-8").strip())
        return None


def _environment() -> dict[str, str]:
    """Return what the server needs of the environment: nothing of PG* or the shell's locale reaches it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
