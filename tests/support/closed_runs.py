"""The files of a run on simulated hosts: as they are written, and in their place once it is closed."""

from __future__ import annotations

from pathlib import Path

from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import alarm, shown
from tests.support.rig import Rig

DONE = int(CloseState.DONE)


def folder_of(it: Rig, host: DataHost, number: int) -> Path:
    return host.staging / it.run.experiment / f"run_{number:04d}"


def written(host: DataHost) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in host.staging.glob("*.graw")}


async def all_in_place(it: Rig, number: int) -> dict[str, dict[str, int]]:
    """Wait until every host is done, and return the files with their sizes by source."""
    hosts = list(it.fleet.data)

    def done() -> bool:
        return all(shown(it, f"{host.source}:Router:Close_RBV") == DONE for host in hosts) and all(
            f"run {number}:" in shown(it, f"{host.source}:Router:CloseMessage_RBV") for host in hosts
        )

    await it.until(done, 60.0, f"run {number} is closed")
    found: dict[str, dict[str, int]] = {}
    for host in hosts:
        place = folder_of(it, host, number)
        found[host.source] = {path.name: path.stat().st_size for path in place.glob("*.graw")}
        assert written(host) == {}
        assert alarm(it, f"{host.source}:Router:Close_RBV") == "NO_ALARM"
        if host.access is not Access.SENTRY:
            record = manifest.load((place / "manifest.json").read_bytes(), host.source)
            assert {file.name: file.size for file in record.files} == found[host.source]
            assert (record.run.experiment, record.run.number) == (it.run.experiment, number)
            assert record.sources == (host.source,)
    return found
