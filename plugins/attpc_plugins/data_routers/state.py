"""What this plugin keeps over restarts, in the core's state database, by topic."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Base64Bytes, TypeAdapter

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef

from .closing.closings import ClosingStore, State
from .closing.empty import EMPTY_FOLDER
from .events.watcher import RouterFrames, RunClocks
from .watch.flow import Count
from .watch.links import Link

log = get_logger(__name__)

ONLY = ""
"""The key of a topic that has one row."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The contents of each staging folder at the start of a run, for the counts of a restarted IOC."""

    run: RunRef
    counts: dict[str, Count]


@dataclass(frozen=True, slots=True)
class ConfigsRead:
    """The run whose configuration files were read last, and which could not be read.

    The files may have changed since, so a restarted IOC does not read them again.
    """

    run: RunRef
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A configuration file as an ECC server loaded it: the name of the configuration, and the content."""

    name: str
    content: Base64Bytes


@dataclass(frozen=True, slots=True)
class WaitingFiles:
    """The configuration files of a run that are still to be copied to the backup folder."""

    run: RunRef
    files: dict[str, Base64Bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Until:
    """The limits of runs: the number of events, and what is written in GB; 0: no limit."""

    events: float = 0.0
    written_gb: float = 0.0


BASELINE = TypeAdapter(Baseline)
CONFIGS_READ = TypeAdapter(ConfigsRead)
LOADED_FILE = TypeAdapter(LoadedFile)
WAITING_FILES = TypeAdapter(WaitingFiles)
ROUTER_FRAMES = TypeAdapter(RouterFrames)
RUN_CLOCKS = TypeAdapter(RunClocks)
LINK = TypeAdapter(Link)
UNTIL = TypeAdapter(Until)


class Records:
    """The topics of this plugin; make only one."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.closings = ClosingStore(state)
        self.baseline = state.kept("baseline", BASELINE)
        self.configs_read = state.kept("configs_read", CONFIGS_READ)
        self.loaded = state.kept("loaded", LOADED_FILE)
        """By ECC server and part, `cobo0.configure`."""
        self.waiting = state.kept("waiting", WAITING_FILES)
        """By run."""
        self.frames = state.kept("frames", ROUTER_FRAMES)
        """By router."""
        self.clocks = state.kept("clocks", RUN_CLOCKS)
        self.links = state.kept("links", LINK)
        """By source."""
        self.until = state.kept("until", UNTIL)
        self.empty = state.kept("empty_folders", EMPTY_FOLDER)
        """By run and router."""
        for kept in (
            self.baseline,
            self.configs_read,
            self.loaded,
            self.waiting,
            self.frames,
            self.clocks,
            self.links,
            self.until,
            self.empty,
        ):
            for key, reason in kept.bad.items():
                log.warning("stored value cannot be read and is ignored", key=key, reason=reason)
