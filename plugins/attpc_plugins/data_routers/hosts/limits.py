"""Time limits of requests to a host."""

from __future__ import annotations

from dataclasses import dataclass

from attpc_plugins.data_routers.settings import DataRoutersSettings

FILES_S = 60.0
"""Enough for moving a few thousand files on a busy disk."""

READ_S = 10.0

SLOWEST_BYTES_S = 1e6
"""A disk from which a file is read slower than this is given up."""

CONNECT_S = 30.0
"""Time for connecting to a host over SSH, jump hosts and a slow login included."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of one call, in seconds. Over SSH they exclude the time for connecting, except for polls."""

    poll_s: float = 3.0
    """Includes connecting; a connection attempt continues after the poll has timed out."""
    read_s: float = READ_S
    """For reading the end of a log or a configuration file."""
    files_s: float = FILES_S
    """For operations on a run's files, without checksums."""
    checksums_s: float = 1800.0
    """For the checksums of all files of a run, and for a sentry's whole work after a run."""

    def copy_s(self, size: int) -> float:
        """Return the limit for reading a file of `size` bytes."""
        return self.files_s + size / SLOWEST_BYTES_S

    @classmethod
    def of(cls, settings: DataRoutersSettings) -> CallLimits:
        """Return the limits that the settings give."""
        return cls(
            poll_s=settings.timeout_s,
            read_s=max(READ_S, settings.timeout_s),
            files_s=max(FILES_S, settings.timeout_s),
            checksums_s=max(FILES_S, settings.closing.limit_s),
        )


def in_seconds(limit_s: float) -> str:
    """Return a limit as text, such as `3 s` or `0.25 s`, rounded because what is left of one is 2.99998 s."""
    return f"{round(limit_s, 2):g} s"
