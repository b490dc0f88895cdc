"""Hosts of data routers for tests: a folder, reached as this machine's own or over a real `sshd`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attpc_plugins.data_routers.hosts.host import FileHost
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.local.host import LocalConfigHost, LocalHost
from attpc_plugins.data_routers.hosts.ssh.host import SshConfigHost, SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.model import closing_folder
from attpc_plugins.data_routers.settings import Access, EccHostSettings, RouterSettings

from attpc_ioc.model.run import RunRef
from tests.support.patience import PATIENCE_S
from tests.support.sshd import Sshd

LIMITS = CallLimits(poll_s=20, read_s=20, files_s=60, checksums_s=60)
"""For tests in which nothing is to be late, on a busy machine."""

RUN = RunRef("e20009", 42)


@dataclass
class Place:
    """A staging folder and a way to it."""

    staging: Path
    server: Sshd | None
    hosts: list[LocalHost | SshHost | LocalConfigHost | SshConfigHost] = field(default_factory=list)
    stations: Stations = field(default_factory=Stations)

    @property
    def closing(self) -> Path:
        """The closing folder of `RUN`."""
        return self.staging / RUN.experiment / closing_folder(RUN)

    @property
    def closed(self) -> Path:
        """The folder of `RUN`."""
        return self.staging / RUN.experiment / RUN.folder

    def target(self, server: Sshd) -> Target:
        """Return the SSH server as the settings would name it."""
        return Target("127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts))

    def host(
        self,
        *,
        limits: CallLimits = LIMITS,
        process: str | None = "",
        log: str | None = None,
        staging: str | None = None,
    ) -> LocalHost | SshHost:
        """Return another host for the folder."""
        router = RouterSettings(
            access=Access.LOCAL if self.server is None else Access.SSH,
            host="" if self.server is None else "127.0.0.1",
            sources=("CoBo0",),
            staging=staging or str(self.staging),
            process=process,
            log=log,
        )
        host = (
            LocalHost(router, limits)
            if self.server is None
            else SshHost(router, self.target(self.server), limits, self.stations)
        )
        self.hosts.append(host)
        return host

    def config_host(self, folder: Path, log: str | None = None) -> LocalConfigHost | SshConfigHost:
        """Return where the configuration files of a folder are read."""
        ecc = EccHostSettings(
            access=Access.LOCAL if self.server is None else Access.SSH,
            host="" if self.server is None else "127.0.0.1",
            xcfg=str(folder),
            log=log,
        )
        host = (
            LocalConfigHost(ecc, LIMITS)
            if self.server is None
            else SshConfigHost(ecc, self.target(self.server), LIMITS, self.stations)
        )
        self.hosts.append(host)
        return host


@contextlib.asynccontextmanager
async def place(staging: Path, server: Sshd | None) -> AsyncIterator[Place]:
    """Give a place for the length of a block; its hosts are let go of at the end."""
    staging.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    made = Place(staging, server)
    try:
        yield made
    finally:
        for host in made.hosts:
            await host.disconnect()


def write_files(folder: Path, names: Iterable[str | bytes], size: int = 100) -> dict[bytes, str]:
    """Write a file for each name, each with bytes of its own; return their checksums."""
    sums: dict[bytes, str] = {}
    for number, name in enumerate(names):
        raw = name if isinstance(name, bytes) else name.encode()
        data = (b"%d " % number + raw).ljust(size, b".")
        with open(bytes(folder) + b"/" + raw, "wb") as file:
            file.write(data)
        sums[raw] = hashlib.sha256(data).hexdigest()
    return sums


def sums_of(folder: Path) -> dict[bytes, str]:
    """Return the checksums of the data files in a folder."""
    return {
        bytes(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name.endswith(".graw")
    }


async def closed_run(host: FileHost, run: RunRef, manifest: bytes = b"{}") -> None:
    """Close a run in the plain way."""
    files = await host.list_staging()
    await host.begin(run)
    await host.move(run, files)
    await host.finish(run, manifest)


async def until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds that only looking can tell."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.002)
