"""Options of the simulated data hosts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PROCESS = "dataRouter"
"""What the router's program is called, unless it is called otherwise."""


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
    - `trigger_hz`: events per second; each AsAd board and the MuTAnT have a frame for each event.
    - `cobo_bytes_s`: bytes per second of one CoBo, which the length of its frames gives.
    - `spread`: rates differ between CoBos by up to this fraction.
    - `drain_s`: how long data stay in buffers before they are written, in seconds: how much later than the
      events files begin, and how long after Stop they grow; with real ones it is tens of seconds. Hosts
      differ: with some it is up to 30 % less.
    - `asads`: number of AsAd boards of a CoBo, each with its own file.
    - `file_limit_bytes`: a part ends with the frame that takes it above this.
    - `real_bytes`: all samples are on disk, and can be decoded. Otherwise files are sparse: the samples are
      holes, that read as zero, and a frame of more than 4 kB uses one block of the disk.
    - `process`: the name of the router's program among the processes of its host.
    - `tick_s`: time between two writes of a router, in seconds.
    - `catalog_wait_s`: how long a sentry waits before it moves the files, in seconds.
    - `disk_total_gb`, `disk_free_gb`: the disk of each host (1 GB = 1e9 bytes) as a sentry and `df` over
      SSH report it; what a router writes is subtracted. With `local` the IOC sees the real disk.
    - `keep_runs`: when the fleet starts, all but the newest `keep_runs` run folders of each experiment are
      removed; None keeps all.
    """

    folder: Path | None = None
    access: tuple[Access, ...] = (Access.LOCAL,)
    trigger_hz: float = 50.0
    cobo_bytes_s: float = 2e6
    spread: float = 0.0
    drain_s: float = 3.0
    asads: int = 4
    file_limit_bytes: int = 1 << 30
    real_bytes: bool = False
    process: str = PROCESS
    tick_s: float = 0.2
    catalog_wait_s: float = 30.0
    disk_total_gb: float = 1000.0
    disk_free_gb: float = 500.0
    keep_runs: int | None = None

    def __post_init__(self) -> None:
        if not self.access:
            raise ValueError("'access' must name at least one way to reach a host")
        if self.asads < 1 or self.tick_s <= 0 or self.trigger_hz <= 0:
            raise ValueError("'asads', 'tick_s' and 'trigger_hz' must be greater than 0")

    def access_of(self, number: int) -> Access:
        """Return how the host of the board `number` is reached."""
        return self.access[min(number, len(self.access) - 1)]
