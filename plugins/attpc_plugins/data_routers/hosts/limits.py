"""How long a host's answers may take."""

from __future__ import annotations

from dataclasses import dataclass

from attpc_plugins.data_routers.settings import DataRoutersSettings

FILES_S = 60.0
"""Time for moving a few thousand files on a busy disk; well below what a person takes for 'it hangs'."""

READ_S = 10.0

CONNECT_S = 30.0
"""Time for connecting to a host over SSH, jump hosts and a slow login included."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of one call, in seconds. Of calls over SSH, but for looks, connecting does not count."""

    poll_s: float = 3.0
    """All included; connecting goes on when a look is over."""
    read_s: float = READ_S
    """Of a log's end or a configuration file."""
    files_s: float = FILES_S
    """Of what is done to a run's files, besides checksums."""
    checksums_s: float = 1800.0
    """Of the checksums of all files of a run, and of a sentry's whole work after a run."""

    @classmethod
    def of(cls, settings: DataRoutersSettings) -> CallLimits:
        """Take from the plugin's settings what they say."""
        return cls(
            poll_s=settings.timeout_s,
            read_s=max(READ_S, settings.timeout_s),
            files_s=max(FILES_S, settings.timeout_s),
            checksums_s=max(FILES_S, settings.closing.limit_s),
        )


def in_seconds(limit_s: float) -> str:
    """Return a limit for people, such as `3 s` or `0.25 s`: what is left of one is 2.99998 s."""
    return f"{round(limit_s, 2):g} s"
