"""What the rooms of this plugin tell each other: runs, files, readings of a host, how a closing ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

GRAW = ".graw"
"""What the names of a data router's files end with."""


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run as folders know it. The experiment's name is a folder's name, as the core allows it."""

    experiment: str
    number: int

    @property
    def folder(self) -> str:
        """The run's folder below its experiment's, such as `run_0042`."""
        return f"run_{self.number:04d}"

    @property
    def closing_folder(self) -> str:
        """Where files are gathered until all are there; it becomes `folder` by one rename."""
        return f".{self.folder}.closing"

    def __str__(self) -> str:
        return f"{self.experiment}/{self.folder}"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a run: its name (any bytes, undecodable ones as surrogate escapes), bytes and Unix time."""

    name: str
    size: int
    modified_s: float
    sha256: str = ""
    """In hexadecimal; empty where it was not asked for."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a host says of one data router at one moment.

    `files` and `data_bytes` are of the `*.graw` in its staging folder. `next_exists` tells whether the
    folder of the run that was asked about exists; None where the host cannot tell (a sentry).
    """

    process: bool
    files: int
    data_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int
    next_exists: bool | None = None
    note: str = ""
    """What the host adds in words, such as a sentry's `Inactive`; for people."""
    odd: str = ""
    """What is in the place of a data file and is none, such as a link: left alone, and told to people."""


class MoveOutcome(IntEnum):
    """What became of one file of a closing."""

    MOVED = 0
    """It is in the run's folder, also where an earlier attempt had moved it."""
    VANISHED = 1
    """It is neither in the staging folder nor in the run's."""
    GROWN = 2
    """It has another size than when it was listed; it stays where it is."""
    EXISTS = 3
    """Another file has this name in the run's folder; both stay where they are."""
    FAILED = 4
    """The host refused; the text tells why. It stays where it is."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One file of a closing and what became of it."""

    name: str
    outcome: MoveOutcome
    text: str = ""


class CloseState(IntEnum):
    """The values of `Router:Close_RBV`: where the files of the last run are."""

    NONE = 0
    """No run was closed on this host yet."""
    WAITING = 1
    """Files may still grow."""
    MOVING = 2
    DONE = 3
    """All files are in the run's folder, with a manifest."""
    INCOMPLETE = 4
    """Some files are not there; the message names them and where they are. It can be repeated."""
    FAILED = 5
    """Nothing, or nothing more, could be done; the message tells why. It can be repeated."""
    UNREACHABLE = 6
    """The host does not answer; it is tried again until it does."""

    @property
    def label(self) -> str:
        """The word shown to people."""
        return self.name.capitalize()
