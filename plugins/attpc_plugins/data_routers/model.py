"""Data types shared in this plugin: files, results of polls, states of closings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from attpc_ioc.model.names import Labelled
from attpc_ioc.model.run import RunRef

GRAW = ".graw"
"""The suffix of a data router's files."""


def closing_folder(run: RunRef) -> str:
    """Return the folder in which a run's files are gathered; at the end it is renamed to the run's own."""
    return f".{run.folder}.closing"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a run: its name (any bytes, undecodable ones as surrogate escapes), bytes and Unix time."""

    name: str
    size: int
    modified_s: float
    sha256: str = ""
    """In hexadecimal; empty unless it was asked for."""


@dataclass(frozen=True, slots=True)
class Polled:
    """A host's answer to one poll of a data router.

    `files` and `data_bytes` are of the `*.graw` in its staging folder. `next_exists`: whether the folder of
    the requested run exists; None if the host cannot tell (a sentry).
    """

    process: bool
    files: int
    data_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int
    next_exists: bool | None = None
    note: str = ""
    """The host's own text, such as a sentry's `Inactive`, for messages."""
    pids: tuple[int, ...] = ()
    """The process numbers of the router's program; empty also where the host does not report them."""
    place: str = ""
    """Host and staging folder, as a sentry reports them; empty of others."""
    odd: str = ""
    """An entry that has the name of a data file but is not one, such as a link: left alone, and reported."""


class MoveOutcome(IntEnum):
    """The result of moving one file."""

    MOVED = 0
    """It is in the run's folder; an earlier attempt may have moved it."""
    VANISHED = 1
    """It is neither in the staging folder nor in the run's."""
    GROWN = 2
    """Its size has changed since it was listed; it stays where it is."""
    EXISTS = 3
    """Another file has this name in the run's folder, and no name beside it is free or wanted."""
    FAILED = 4
    """The host refused, for the reason in the text. The file stays where it is."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One file of a closing and the result of moving it."""

    name: str
    outcome: MoveOutcome
    text: str = ""
    kept_as: str = ""
    """Its name in the run's folder where another file has its own name there: it is late data."""


class CloseState(Labelled):
    """The values of `Router:Close_RBV`: the state of the closing of the last run."""

    NONE = 0
    """No run has been closed on this host yet."""
    WAITING = 1
    """Files may still grow."""
    MOVING = 2
    DONE = 3
    """All files are in the run's folder, with a manifest."""
    INCOMPLETE = 4
    """Some files are missing; the message names them and says where they are. It can be repeated.

    Or a sentry has moved the files of an earlier run into the same folder.
    """
    FAILED = 5
    """No step, or no further step, was possible, for the reason in the message. It can be repeated."""
    UNREACHABLE = 6
    """The host does not answer; the closing is tried again until it does."""
