"""The small log files that simulated programs write, for those who read the tail of a log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from attpc_ioc.log import get_logger

log = get_logger(__name__)

_LIMIT_BYTES = 4_000_000


class LogFile:
    """The log of one program: a time and a text per line.

    A file that has reached 4 MB becomes `NAME.1`. A failure to write stops nothing and is
    logged once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._complained = False

    def write(self, text: str) -> None:
        """Append a line; line ends within `text` become spaces."""
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        try:
            if self.path.exists() and self.path.stat().st_size > _LIMIT_BYTES:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{now} {' '.join(text.split())}\n")
        except OSError as fault:
            if not self._complained:
                log.warning("simulated log cannot be written", file=str(self.path), reason=str(fault))
                self._complained = True
