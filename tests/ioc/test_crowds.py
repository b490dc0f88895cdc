"""A crowd of connections keeps no operator out: the run is stopped, screens stay connected."""

from __future__ import annotations

import caproto
import pytest

from attpc_ioc.model.run import RunState
from tests.ca.raw import raw_client
from tests.support.ca import eventually
from tests.support.crowd import crowd
from tests.support.rig import rig


@pytest.mark.parametrize(
    ("hosts", "what"), [(1, "channel"), (1, "nothing"), (7, "channel"), (2000, "nothing")]
)
async def test_an_operator_stops_the_run_in_spite_of_2000_connections(
    tmp_path, monkeypatch, hosts: int, what: str
):
    async with rig(tmp_path, monkeypatch) as it:
        await it.start_run()
        counts = it.app.server.ca
        async with raw_client(it.place.port, "screen") as screen:
            await screen.channel(f"{it.prefix}State_RBV")
            async with crowd(it.place.port, f"{it.prefix}State_RBV", hosts, what) as process:
                await eventually(lambda: counts.stats.disconnected > 0, "nobody is refused")
                refused = counts.stats.disconnected
                assert await it.get("Run:State_RBV", "-w", "15") == "Running"
                await it.ok("Run:Stop")
                await it.until_run(RunState.STOPPED)
                assert process.returncode is None
                assert counts.stats.disconnected > refused
                # Those that were just refused are counted until their connections have ended.
                await eventually(lambda: counts.stats.clients <= counts.limits.max_clients, "too many stay")
            assert not [m for m in await screen.echo() if isinstance(m, caproto.ServerDisconnResponse)]
