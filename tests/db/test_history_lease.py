"""An IOC that could not renew its lease commands nothing any more, and stops what it must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.store.model.leases import Holder

from attpc_ioc.model.states import State
from tests.db.test_history_trouble import own_server
from tests.support.history import connected, history_rig, message, reading, service
from tests.support.rig import Rig

LEASE = "lease_s = 3"
REASON = "could not renew its lease of the fleet in the database for 3 s"

SYSTEM = ("Describe", "Prepare", "Configure", "Reset")
MODULE = ("Describe", "Prepare", "Configure", "Start", "Breakup", "Undo", "Reset")


async def fenced(it: Rig) -> None:
    await it.until(lambda: service(it).lease.fenced, 20.0, "the lease has run out")
    await it.until(lambda: REASON in message(it), what="the plugin says it")


@pytest.mark.timeout(180)
async def test_without_its_lease_it_moves_nothing_and_still_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    async with (
        own_server(postgres_place) as (server, dsn),
        history_rig(tmp_path, monkeypatch, dsn, section=LEASE) as it,
    ):
        await it.start_run()
        await server.stop_soon()
        await fenced(it)
        assert "the run that is on here is still recorded" in message(it)
        await it.ok("Run:Stop")
        await it.until_all(State.READY)
        for name in SYSTEM:
            await it.refused(name, because=REASON)
        for name in MODULE:
            await it.refused(f"Ecc:cobo1:{name}", because=REASON)
        for name in ("GoTo", "Ecc:mutant:GoTo"):
            await it.refused(name, "Idle", because=REASON)
        for name in ("Run:Start", "Run:Adopt"):
            await it.refused(name, because=REASON)
        assert REASON in " ".join(it.run.checklist)
        assert set(it.states().values()) == {"Ready"}, "nothing was sent"
        assert REASON not in await it.refused("Ecc:cobo1:Stop"), "it is not Running, and that is all"
        await it.ok("Run:Stop")

        await server.start_soon()
        await connected(it)
        await it.until(lambda: not it.run.checklist, 20.0, "ready again")
        assert REASON not in message(it)
        await it.ok("GoTo", "Prepared")
        await it.start_run()
        await it.ok("Run:Stop")


async def test_an_ioc_that_never_had_it_is_fenced_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    async with own_server(postgres_place) as (server, dsn):
        await server.stop_soon()
        async with history_rig(tmp_path, monkeypatch, dsn, section=LEASE, ready=False) as it:
            await fenced(it)
            await it.refused("GoTo", "Idle", because=REASON)
            await server.start_soon()
            await connected(it)
            await it.ok("GoTo", "Idle")


async def test_it_stays_passive_when_another_took_the_lease_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    async with (
        own_server(postgres_place) as (server, dsn),
        history_rig(tmp_path, monkeypatch, dsn, section=LEASE) as it,
    ):
        fleet = service(it).lease.fleet
        # As where this IOC alone is cut off from the database: the other one's watch goes on.
        monkeypatch.setattr(service(it).lease, "renew", _cut_off)
        await fenced(it)
        await it.refused("GoTo", "Idle", because=REASON)
        async with reading(dsn) as store:
            lease = await store.acquire_lease(fleet, Holder("OTHER:", "console2", "its boot"), ttl_s=60.0)
            assert lease.ours
        monkeypatch.undo()
        await it.until(lambda: "OTHER: on console2" in message(it), what="the other named")
        await it.refused("GoTo", "Idle", because="OTHER: on console2 commands this fleet")
        assert server.running


async def _cut_off(_store: object) -> None:
    """Reach nothing, and say nothing: as a network that drops every packet."""


@pytest.mark.timeout(120)
async def test_a_server_of_its_own_is_shared_with_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    """No other IOC can take a lease there: with that server broken the fleet can still be moved."""
    section = f'data_dir = "{postgres_place()}"\nprograms_dir = "/nowhere"\n{LEASE}'
    async with history_rig(tmp_path, monkeypatch, "", section=section, ready=False) as it:
        await it.until(lambda: service(it).lease.fenced, 20.0, "the lease would have run out")
        await it.ok("GoTo", "Idle")
        assert REASON not in message(it)
        await it.refused("Run:Start", because="/nowhere")
