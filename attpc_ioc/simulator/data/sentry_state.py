"""The state and the faults of a simulated sentry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class SentryFaults:
    """The faults of one sentry."""

    old: bool = False
    """It is one from before 2025: it counts files of any name, and what the router wrote since its start."""
    wrong_disk: bool = False
    """It was given the name of a disk that does not exist: this has 0 bytes, and 0 are free."""
    deaf: bool = False
    """It answers no `/status` while it catalogues, the wait included."""
    kill: bool = False
    """Its next catalogue ends halfway, and the sentry with it."""
    term: bool = False
    """It got SIGTERM: it refuses connections, finishes a catalogue that is under way, and ends."""


@dataclass(slots=True)
class SentryState:
    """What others need to know of a sentry, and do to it."""

    faults: SentryFaults = field(default_factory=SentryFaults)
    catalogs: int = 0
    """Number of catalogues that are under way, the wait included."""
    gone: bool = False
    """Whether its process has ended, or is about to."""
    switch: Callable[[str, bool], Awaitable[None]] | None = None
    """Switches a field of `faults`, with its effects; None: there is no sentry."""
