"""Options of the simulated data hosts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Access(StrEnum):
    """How a simulated host is reached, in the words of the IOC's settings."""

    LOCAL = "local"
    """Its folder is on this machine."""
    SSH = "ssh"
    SENTRY = "sentry"


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What the data routers write, and how their hosts are reached.

    - `folder`: each host gets its own folder in it; None means a temporary directory.
    - `access`: for each host in the order of the boards; the last one applies to all others.
    - `cobo_bytes_s`, `mutant_bytes_s`: bytes per second of one router while its board is Running.
    - `spread`: rates differ between hosts by up to this fraction.
    - `drain_s`: how long a router keeps writing after Stop, in seconds; real ones take tens of seconds.
    - `asads`: number of AsAd boards of a CoBo, each with its own file.
    - `file_limit_bytes`: a file of this size is followed by another one.
    - `real_bytes`: every byte is random and on disk. Otherwise files are sparse: random blocks at
      the start and every `block_every_bytes` make checksums differ, and almost no disk space is used.
    - `tick_s`: time between two writes of a router, in seconds.
    - `catalog_wait_s`: how long a sentry waits before it moves the files, in seconds.
    - `disk_total_gb`, `disk_free_gb`: the disk of each host (1 GB = 1e9 bytes) as a sentry and `df` over
      SSH report it; what a router writes is subtracted. With `local` the IOC sees the real disk.
    - `keep_runs`: when the fleet starts, all but the newest `keep_runs` run folders of each experiment are
      removed; None keeps all.
    """

    folder: Path | None = None
    access: tuple[Access, ...] = (Access.LOCAL,)
    cobo_bytes_s: float = 2e6
    mutant_bytes_s: float = 2e4
    spread: float = 0.0
    drain_s: float = 3.0
    asads: int = 4
    file_limit_bytes: int = 1_000_000_000
    real_bytes: bool = False
    block_every_bytes: int = 64_000_000
    tick_s: float = 0.2
    catalog_wait_s: float = 30.0
    disk_total_gb: float = 1000.0
    disk_free_gb: float = 500.0
    keep_runs: int | None = None

    def __post_init__(self) -> None:
        if not self.access:
            raise ValueError("'access' must name at least one way to reach a host")
        if self.asads < 1 or self.tick_s <= 0:
            raise ValueError("'asads' and 'tick_s' must be greater than 0")

    def access_of(self, number: int) -> Access:
        """Return how the host of the board `number` is reached."""
        return self.access[min(number, len(self.access) - 1)]
