"""A data router that was restarted after Configure: its board is not connected to it any more."""

from __future__ import annotations

import pytest
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.watch.links import Link

from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import ALL_ACCESS, alarm, data_rig, section, shown, start_run, stop_run
from tests.support.rig import Rig

RESTARTED = "it was restarted after its board was configured, so nothing of the board is written"


def polled(*pids: int, process: bool = True) -> Polled:
    return Polled(process, 0, 0, 0, 0, pids=pids)


def lost(*polls: Polled) -> list[bool]:
    """Whether the connection is lost after each poll; the first is that after Configure."""
    link, found = Link(polls[0].pids, lost=not polls[0].process), []
    for poll in polls:
        link = link.after(poll)
        found.append(link.lost)
    return found


def test_other_processes_do_not_have_the_connection():
    assert lost(polled(7), polled(7), polled(8), polled(8)) == [False, False, True, True]
    assert lost(polled(7), polled(process=False), polled(8)) == [False, True, True]
    # One of several is enough, and a list of processes that was wrong once does no harm.
    assert lost(polled(7, 9), polled(9, 11), polled(process=False), polled(9)) == [False, False, True, False]


def test_without_process_numbers_one_that_was_gone_is_another_one():
    assert lost(polled(), polled()) == [False, False]
    assert lost(polled(), polled(process=False), polled(), polled()) == [False, True, True, True]
    assert lost(polled(process=False), polled(7)) == [True, True]


def against(it: Rig, source: str) -> list[str]:
    return [line for line in it.run.checklist if source in line and RESTARTED in line]


@pytest.mark.parametrize("access", ALL_ACCESS[1:])
async def test_a_start_is_refused_until_its_board_was_configured_again(tmp_path, monkeypatch, access):
    # No time alone raises any of these alarms.
    text = section(closing={"enabled": False}, interlocks={"dirty": "warn"}, events={"behind_s": 600.0})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text, cobos=1) as it:
        router, restarted = it.fleet.routers["CoBo[0]"], "CoBo0:Router:Restarted_RBV"
        by_ssh = access is Access.SSH
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data")
        if by_ssh:
            await it.until(lambda: shown(it, "Run:Sync_RBV") == 1, what="in step")
        assert (shown(it, restarted), alarm(it, restarted)) == (0, "NO_ALARM")
        # Gone in the run: what was true before is not shown any more.
        await router.stop()
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 0, what="offline")
        assert (shown(it, "CoBo0:Router:Flow_RBV"), alarm(it, "CoBo0:Router:Flow_RBV")) == (3, "MAJOR")
        if by_ssh:
            await it.until(lambda: shown(it, "CoBo0:Router:Sync_RBV") == 0, what="not in step")
            assert shown(it, "CoBo0:Router:SyncText_RBV") == "CoBo0: its data router: its process was gone"
            assert shown(it, "Run:Sync_RBV") == 0
            assert "its process was gone" in shown(it, "Run:SyncText_RBV")
            assert shown(it, "MuTAnT:Router:Sync_RBV") == 1
        # Back, but without its board.
        await router.start()
        await it.until(lambda: alarm(it, restarted) == "MAJOR", what="restarted")
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 3, what="dead")
        assert RESTARTED in await it.get_text("AlarmText_RBV")
        await stop_run(it)
        await it.until(lambda: against(it, "CoBo0"), what=f"the checklist: {it.run.checklist}")
        assert "(Run:Override passes this)" in await it.refused("Run:Start", because=RESTARTED)
        # The MuTAnT is configured by each start. With process numbers no poll needs to see that it was gone.
        await it.fleet.routers["Mutant[master]"].stop()
        if not by_ssh:
            await it.until(lambda: shown(it, "MuTAnT:Router:Online_RBV") == 0, what="the MuTAnT's router")
        await it.fleet.routers["Mutant[master]"].start()
        await it.until(lambda: shown(it, "MuTAnT:Router:Restarted_RBV") == 1, what="it is back")
        assert alarm(it, "MuTAnT:Router:Restarted_RBV") == "NO_ALARM"
        assert not against(it, "MuTAnT")
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: against(it, "CoBo0"), what="known over a restart of the IOC")
        await it.ok("Ecc:cobo0:Reset")
        await it.ok("Ecc:cobo0:Configure")
        await it.until(lambda: alarm(it, restarted) == "NO_ALARM", what="connected again")
        await it.until(lambda: not it.run.checklist, what="nothing against a start")
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data again")
        await it.until(lambda: shown(it, "MuTAnT:Router:Flow_RBV") == 1, what="data of the MuTAnT")
        assert shown(it, "MuTAnT:Router:Restarted_RBV") == 0
        await stop_run(it)
