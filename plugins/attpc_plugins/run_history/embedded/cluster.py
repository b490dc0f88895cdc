"""The embedded server on disk: its folder, its data folder and its configuration.

If the IOC is root, the folder itself stays root's, so that the server's account cannot redirect what root
writes; that account owns only `data` and `run` in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.files import make_private, not_roots_own, private, read_theirs, refusal_for_root
from attpc_plugins.run_history.errors import EmbeddedError

from .binaries import Account, Binaries, barrier
from .root_base import made_root_base, root_base

DATABASE = "attpc_ioc"
"""The database of the embedded server."""

ROLE = "attpc_ioc"
"""The role that owns it, without password: only the account and root can reach the socket."""

MAKING = (
    *("--username", ROLE, "--encoding", "UTF8", "--no-locale", "--data-checksums"),
    *("--auth-local", "peer", "--auth-host", "reject", "--no-sync", "--no-instructions"),
)
"""Options for making the data folder; it is synced once, when complete."""

SINCE_16 = ("--set", "dynamic_shared_memory_type=sysv")
"""Before 16, `initdb` chooses by itself, and not /dev/shm if that is closed."""

MAKE_LIMIT_S = 60.0

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""Settings that keep every commit after a power cut; on the command line, where nothing overrides them."""

CONFIGURATION = """\
# Written by attpc-ioc at every start. To change a setting use ALTER SYSTEM: it is kept and takes precedence.
max_connections = 40
# In /dev/shm, PostgreSQL's default, a container or a hardened host may allow nothing, or 64 MB in total.
dynamic_shared_memory_type = 'sysv'
shared_buffers = '32MB'
max_wal_size = '256MB'
min_wal_size = '48MB'
wal_level = 'minimal'
max_wal_senders = 0
max_worker_processes = 4
max_parallel_workers_per_gather = 0
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
datestyle = 'iso, ymd'
default_text_search_config = 'pg_catalog.simple'
# A log for each day of the week, in data/log, overwritten a week later.
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

SINCE_18 = "io_method = 'sync'\n"
"""Saves three processes; the database is small enough for memory."""


@dataclass(frozen=True, slots=True)
class Home:
    """The server's folder; `note` says why it is not the expected one."""

    folder: Path
    note: str = ""


def home_for(wanted: Path, account: Account) -> Home:
    """Return the server's folder for a state directory: `wanted`, or one of root's.

    The latter only for a default folder that the account cannot reach. A folder with data is kept:
    history must not seem lost because a mode was changed. For root the path to `wanted` is made, since its
    modes decide. Raises `EmbeddedError` if another folder is needed and cannot be made.
    """
    if not account.other:
        return Home(wanted)
    # The parent folders are those of the state directory; root's umask may close them.
    with contextlib.suppress(OSError):
        if not_roots_own(wanted) is None:
            make_private(wanted.parent)
    if data_major(wanted / "data") is not None:
        return Home(wanted)
    digest = hashlib.sha256(os.fsencode(wanted.resolve())).hexdigest()[:16]
    name = f"postgres-{digest}"
    closed = barrier(wanted, account)
    if closed is None and data_major(root_base() / name / "data") is None:
        return Home(wanted)
    because = f"{account.name} may not enter {closed}" if closed else "its data were made there"
    try:
        base = made_root_base()
    except EmbeddedError as error:
        raise EmbeddedError(
            f"the database server cannot be in {wanted}, because {because}, nor elsewhere: {error}; give a "
            f"plugins.run_history.data_dir that {account.name} can reach"
        ) from error
    return Home(base / name, f"the database is in {base / name}, not in {wanted}: {because}")


def prepare_folder(folder: Path, account: Account) -> None:
    """Make the server's folder if missing, and check that the account can reach it.

    Raises `EmbeddedError` that names the obstructing folder; only the modes of a new folder, or of one
    for a shared account, are set.
    """
    try:
        if account.other and folder.is_dir() and folder.stat().st_uid == account.uid:
            raise EmbeddedError(_belongs(folder, account))
        if refusal := refusal_for_root(folder):
            raise EmbeddedError(f"database folder {folder}: {refusal}: plugins.run_history.data_dir")
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
        if account.shared and owner == os.geteuid():
            _guard(folder, account)
        elif account.other and owner == os.geteuid() and not any(folder.iterdir()):
            folder.chmod(0o711)
    except OSError as error:
        raise EmbeddedError(f"database folder {folder}: {error.strerror}") from error
    if owner not in (os.geteuid(), account.uid):
        raise EmbeddedError(
            f"database folder {folder} belongs to user number {owner}, and the server would run as "
            f"{account.name}; run attpc-ioc as before, or give a plugins.run_history.data_dir of its own"
        )
    if closed := barrier(folder, account):
        raise EmbeddedError(
            f"the database server runs as {account.name}, because PostgreSQL refuses to run as root, and "
            f"{account.name} may not enter {closed}, on the way to {folder}; give a "
            f"plugins.run_history.data_dir that it can reach, let it pass (chmod o+x {closed}), or run "
            "attpc-ioc as an ordinary user"
        )


def _belongs(folder: Path, account: Account) -> str:
    """Return why root does not use a folder of the server's account, and what to do."""
    if account.shared:
        return (
            f"database folder {folder} belongs to {account.name}, so every program of {account.name} "
            "could read the database; give the folder to root, or make an account for the database and name "
            "it in plugins.run_history.server_account"
        )
    return (
        f"database folder {folder} belongs to {account.name}, who could redirect what root writes "
        f"there; give the folder to root (chown root {folder} && chmod 711 {folder}; its data folder stays "
        f"{account.name}'s), or run attpc-ioc as {account.name}"
    )


def _guard(folder: Path, account: Account) -> None:
    """Let only root and the group of a shared account pass a folder of root."""
    os.chown(folder, -1, account.gid)
    folder.chmod(0o710)


def guarded_folder(folder: Path, account: Account) -> Path:
    """Make, if missing, a folder of root that only the group of a shared account may pass."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} is not a folder of root; remove it")
    _guard(folder, account)
    return folder


def own_folder(folder: Path, account: Account) -> None:
    """Make a new folder that only the account can use."""
    folder.mkdir(mode=0o700)
    if account.other:
        os.chown(folder, account.uid, account.gid)


def data_major(data: Path) -> int | None:
    """Return the major version of PostgreSQL that made the data folder; None without data."""
    with contextlib.suppress(OSError, ValueError):
        return int(read_theirs(data / "PG_VERSION", 16).strip())
    return None


def make_data(data: Path, binaries: Binaries, account: Account, lock: int) -> bool:
    """Make the data folder with its database if there is none; return whether it did.

    It is made under another name, synced and renamed. The programs that make it inherit `lock`, so
    that the next process knows when they have ended. Raises `EmbeddedError` with their message.
    """
    for left in data.parent.glob("data.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    if data_major(data) is not None:
        return False
    if data.exists() and any(data.iterdir()):
        raise EmbeddedError(f"{data} is not empty and not a PostgreSQL data folder; move it away")
    new = data.with_name(f"data.new-{os.urandom(4).hex()}")
    initdb, postgres = binaries.program("initdb"), binaries.program("postgres")
    single = (postgres, "--single", "-D", new, "-c", "fsync=off", "-c", "logging_collector=off", "postgres")
    own_folder(new, account)
    also = SINCE_16 if binaries.major >= 16 else ()
    _run((initdb, "--pgdata", new, *MAKING, *also), account, lock)
    _run(single, account, lock, f"CREATE DATABASE {DATABASE};\n")
    _run((initdb, "--pgdata", new, "--sync-only"), account, lock)
    new.replace(data)
    _sync_folder(data.parent)
    return True


def write_configuration(folder: Path, binaries: Binaries, account: Account) -> dict[str, str]:
    """Write the server's configuration files into its folder; returns the options that name them."""
    names = sorted({account.name, "root"} - ({account.name} if account.shared else set()))
    texts = {
        "config_file": ("postgresql.conf", CONFIGURATION + (SINCE_18 if binaries.major >= 18 else "")),
        "hba_file": ("pg_hba.conf", "local all all peer map=attpc\n"),
        "ident_file": ("pg_ident.conf", "".join(f'attpc "{name}" {ROLE}\n' for name in names)),
    }
    for name, text in texts.values():
        path = folder / name
        with open(path, "w", encoding="utf-8", opener=private) as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
    return {option: str(folder / name) for option, (name, _) in texts.items()}


def environment() -> dict[str, str]:
    """Return the environment of the programs: without PG* and the shell's locale."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **kept}


def _run(command: tuple[str | Path, ...], account: Account, lock: int, text: str = "") -> None:
    try:
        ran = subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=MAKE_LIMIT_S,
            check=False,
            start_new_session=True,
            pass_fds=(lock,),
            cwd="/",
            env=environment(),
            user=account.user,
            group=account.group,
            extra_groups=account.groups,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedError(f"{command[0]}: {error}") from error
    if ran.returncode:
        said = " ".join((ran.stderr or ran.stdout).split())[-400:]
        raise EmbeddedError(f"the database's data folder cannot be made: {command[0]}: {said}")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
