"""Each fault of a board's data is seen at a libca client within 3 s and the delay of the settings."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime

import pytest

from attpc_ioc.simulator.data.options import Access
from attpc_ioc.simulator.data.orders import Amounts, HostFault, switch
from tests.support.ca import camonitor
from tests.support.data_rig import alarm, data_rig, section, shown, start_run
from tests.support.pace import Stopwatch
from tests.support.rig import Rig

SEEN_S = 3.0
PERIOD_S = 2.0
"""That of the settings' default."""
DELAYS = {"behind_s": 3.0, "out_of_step_after_s": 0.2, "torn_after_s": 0.5}

SYNC = "Router:Sync_RBV"
STATES = {"InStep": 1, "Behind": 2, "OutOfStep": 3, "Reset": 4, "Torn": 5}
NONE = Amounts()
SENDERS = {"CoBo0": "CoBo[0]", "CoBo1": "CoBo[1]", "CoBo2": "CoBo[2]", "MuTAnT": "Mutant[master]"}


@dataclass(frozen=True)
class Case:
    """A fault of one board, what is shown of it, and after which delay; `ends` when it is switched off."""

    board: str
    fault: HostFault
    state: str
    says: str
    delay_s: float = 0.0
    amounts: Amounts = NONE
    ends: bool = False


def behind(board: str, fault: HostFault, amounts: Amounts = NONE) -> Case:
    # A board that is slow falls behind by less than the time that passes.
    delay_s = DELAYS["behind_s"] / (1.0 - (amounts.factor or 0.0))
    return Case(board, fault, "Behind", "behind the others since", delay_s, amounts, ends=True)


def out(board: str, fault: HostFault, says: str, amounts: Amounts, *, ends: bool = False) -> Case:
    return Case(board, fault, "OutOfStep", says, DELAYS["out_of_step_after_s"], amounts, ends)


def clock(board: str) -> Case:
    return out(board, HostFault.DATA_CLOCK, "10 us later", Amounts(extra_s=1e-5), ends=True)


def reset(board: str) -> Case:
    return Case(board, HostFault.DATA_RESET, "Reset", "its event counter was reset after event")


def torn(board: str) -> Case:
    return Case(board, HostFault.DATA_TORN, "Torn", "torn frame in ")


def full(board: str) -> Case:
    return Case(board, HostFault.DISK_FULL, "Torn", "torn frame at the end of ", DELAYS["torn_after_s"])


CASES = {
    "partial readout": (
        clock("CoBo1"),
        behind("CoBo1", HostFault.DATA_BEHIND, Amounts(factor=0.1)),
        behind("CoBo1", HostFault.DATA_STOP),
        behind("CoBo1", HostFault.DATA_LATE, Amounts(extra_s=60.0)),
        out("CoBo1", HostFault.DATA_SHIFT, "earlier than at the other boards", Amounts(events=1)),
        out("CoBo2", HostFault.DATA_SHIFT, "events ahead of the others", Amounts(events=100_000)),
    ),
    "MuTAnT": (
        clock("MuTAnT"),
        behind("MuTAnT", HostFault.DATA_STOP),
        reset("CoBo1"),
        torn("CoBo2"),
        out("MuTAnT", HostFault.DATA_SHIFT, "earlier than at the other boards", Amounts(events=1)),
        full("CoBo0"),
    ),
    "full readout": (
        clock("CoBo1"),
        behind("CoBo1", HostFault.DATA_STOP),
        reset("CoBo1"),
        torn("CoBo2"),
        full("CoBo0"),
        torn("MuTAnT"),
    ),
}


async def seen(it: Rig, case: Case) -> float:
    """Bring a fault about; return how much longer than allowed it took until a client had its state."""
    name = f"{it.prefix}{case.board}:{SYNC}"
    async with camonitor(it.place, "-tc", name) as monitor:
        await monitor.until_text("InStep")
        began_s, taking = time.time(), Stopwatch(programs=True)
        await switch(it.fleet.data[SENDERS[case.board]], case.fault, amounts=case.amounts)
        line = await monitor.until_text(case.state)
        waited_s = taking.waited_s
    stamp = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6})\)", line)
    assert stamp is not None, line
    took_s = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S.%f").timestamp() - began_s
    assert took_s > 0.0, line
    return took_s - case.delay_s - SEEN_S - waited_s


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
async def test_each_fault_of_a_board_is_seen_in_time(tmp_path, monkeypatch, kind):
    access = Access.LOCAL if kind == "partial readout" else Access.SSH
    text = section(watch={"period_s": PERIOD_S, "timeout_s": 20.0}, events=DELAYS)
    async with data_rig(tmp_path, monkeypatch, access=access, text=text, cobos=3) as it:
        if kind == "full readout":
            for number in range(3):
                await switch(it.fleet.data[f"CoBo[{number}]"], HostFault.DATA_FULL)
        await start_run(it)
        sound = set(SENDERS)
        for case in CASES[kind]:
            for board in sound:
                await it.until(lambda b=board: shown(it, f"{b}:{SYNC}") == 1, what=f"{board} in step")
            await it.until(lambda: shown(it, "Run:Events_RBV") > 50, what="some events compared")
            late_s = await seen(it, case)
            assert late_s <= 0.0, (case, late_s)
            state = STATES[case.state]
            assert case.says in shown(it, f"{case.board}:Router:SyncText_RBV")
            assert case.board in shown(it, f"{case.board}:Router:SyncText_RBV")
            assert alarm(it, f"{case.board}:{SYNC}") == ("MINOR" if state == 2 else "MAJOR")
            await it.until(lambda s=state: shown(it, "Run:Sync_RBV") >= s, what="the run shows it")
            assert f"{case.board}" in shown(it, "Run:SyncText_RBV")
            for board in sound - {case.board}:
                # A busy machine may look so late at one that it seems to be behind for a moment.
                await it.until(lambda b=board: shown(it, f"{b}:{SYNC}") == 1, what=f"{board} in step")
            if case.ends:
                await switch(it.fleet.data[SENDERS[case.board]], case.fault, on=False)
            else:
                sound.discard(case.board)
