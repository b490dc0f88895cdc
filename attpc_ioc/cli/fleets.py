"""The simulated fleets of this account that run on this machine, found without a port number.

Each has a file, in a folder of the account below that for temporary files, and holds its lock: a fleet that
was killed holds none. So `attpc-ioc fault` never gives an order to the fleet of somebody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from pydantic import TypeAdapter, ValidationError

from attpc_ioc.shell import fail


@dataclass(frozen=True, slots=True)
class RunningFleet:
    """A fleet: the URL of its administration, and what it is, for people."""

    admin: str
    what: str


_FLEET = TypeAdapter(RunningFleet)


@contextlib.contextmanager
def shown_as_running(admin: str, what: str) -> Iterator[None]:
    """Let `running_fleets` find a fleet during a block; warns if its file cannot be written."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_file_of(RunningFleet(admin, what)))
        except OSError as error:
            typer.echo(f"`attpc-ioc fault` needs --admin {admin} for this fleet: {error}", err=True)
        yield


@contextlib.contextmanager
def _file_of(fleet: RunningFleet) -> Iterator[None]:
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} is not a folder of this account alone: remove it")
    path = folder / f"{os.getpid()}-{fleet.admin.rstrip('/').rpartition(':')[2]}.json"
    # Nobody finds it before it is locked.
    new = path.with_suffix(".part")
    try:
        with new.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(_FLEET.dump_json(fleet))
            file.flush()
            new.replace(path)
            yield
    finally:
        for left in (new, path):
            left.unlink(missing_ok=True)


def running_fleets() -> list[RunningFleet]:
    """Return the fleets that run, by URL; what killed ones have left is removed."""
    folder = _folder()
    if not _is_ours(folder):
        return []
    found = (_of(path) for path in folder.glob("*.json"))
    return sorted((fleet for fleet in found if fleet is not None), key=lambda fleet: fleet.admin)


def the_fleet() -> str:
    """Return the URL of the only fleet that runs; ends the command with a message if it is not alone."""
    fleets = running_fleets()
    if not fleets:
        fail(
            "no simulated fleet of this account runs on this machine: start one with `attpc-ioc demo` or "
            "`attpc-ioc simulate`, or name another one's URL with --admin"
        )
    if len(fleets) > 1:
        lines = [f"  --admin {fleet.admin}  {fleet.what}" for fleet in fleets]
        fail("\n".join(["several simulated fleets run, choose one:", *lines]))
    return fleets[0].admin


def _folder() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"attpc-ioc-fleets-{os.geteuid()}"


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and status.st_mode & 0o170077 == 0o040000


def _of(path: Path) -> RunningFleet | None:
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _FLEET.validate_json(file.read())
            path.unlink(missing_ok=True)
    except (OSError, ValidationError):
        pass
    return None
