"""What a killed IOC had done is its own doing after the restart too, and no time is shown that cannot be."""

from __future__ import annotations

import asyncio
import datetime
import time
from pathlib import Path

import pytest

from attpc_ioc.model.states import State
from tests.rules.test_run_recovery import SECOND_LIMITS, take_to_ready
from tests.support.ca import eventually
from tests.support.iocprocess import IocProcess, ioc_process
from tests.support.rig import Rig, rig
from tests.support.runs import call_of, outside
from tests.support.state_dir import kept


async def sent_on_disk(tmp_path: Path, module: str, operation: str) -> None:
    """Wait until the state directory has the operation; it is written beside its sending."""

    def written() -> bool:
        sent = kept(tmp_path / "state", "modules")[module]["unseen_end"]
        return sent is not None and sent["operation"] == operation

    await eventually(written, f"{operation} of {module} on disk")


async def killed_in(it: Rig, ioc: IocProcess, tmp_path: Path, put: str, value: str, operation: str) -> None:
    """Give a command of which one operation of cobo0 hangs, and kill the IOC in it."""
    it.fleet["cobo0"].faults.hang(operation)
    task = asyncio.create_task(it.put(put, value, limit_s=0.5))
    await call_of(it, "cobo0", operation)
    await sent_on_disk(tmp_path, "cobo0", operation)
    await ioc.kill()
    await task


def external(ioc: IocProcess) -> list[str]:
    return [line for line in ioc.log if "external change" in line and "cobo0" in line]


@pytest.mark.parametrize(
    ("put", "value", "operation", "seen"),
    [
        ("GoTo", "Prepared", "Undo", "Described"),
        ("Ecc:cobo0:Breakup", "1", "Breakup", "Prepared"),
        ("Run:Start", "1", "Start", "Running"),
    ],
)
async def test_our_own_operation_before_a_kill_is_not_external(
    tmp_path, monkeypatch, put, value, operation, seen
):
    async with (
        rig(tmp_path, monkeypatch, cobos=1, start=False, limits=SECOND_LIMITS) as it,
        ioc_process(it) as ioc,
    ):
        await take_to_ready(it)
        if operation == "Undo":
            await it.ok("GoTo", "Prepared")
            put, value = "GoTo", "Idle"
        await killed_in(it, ioc, tmp_path, put, value, operation)
        # Killed again before the end was seen: it is still our own.
        await ioc.start()
        await ioc.shows("Ecc:cobo0:Transition_RBV", operation)
        await ioc.kill()
        await ioc.start()
        await ioc.shows("Ecc:cobo0:Transition_RBV", operation)
        it.fleet["cobo0"].faults.clear()
        await ioc.shows("Ecc:cobo0:State_RBV", seen)
        text = f"Late: {operation}, sent before a restart of the IOC, arrived in {seen}"
        await ioc.shows("Ecc:cobo0:Message_RBV", text)
        assert external(ioc) == []
        # What it explained is over: what somebody else does now is somebody else's.
        back, where = {
            "Described": ("Undo", "Idle"),
            "Prepared": ("Undo", "Described"),
            "Running": ("Stop", "Ready"),
        }[seen]
        await outside(it, back, "cobo0")
        await ioc.shows("Ecc:cobo0:Message_RBV", f"External: {seen} -> {where} by no command of this IOC")


async def test_another_operation_than_ours_before_a_kill_is_external(tmp_path, monkeypatch):
    """The killed IOC's Breakup never took place, and another client took the board elsewhere."""
    async with (
        rig(tmp_path, monkeypatch, cobos=1, start=False, limits=SECOND_LIMITS) as it,
        ioc_process(it) as ioc,
    ):
        await take_to_ready(it)
        await killed_in(it, ioc, tmp_path, "Ecc:cobo0:Breakup", "1", "Breakup")
        it.fleet["cobo0"].faults.clear()
        await eventually(lambda: it.fleet["cobo0"].state is State.PREPARED)
        await outside(it, "Configure", "cobo0")
        await ioc.start()
        await ioc.shows("Ecc:cobo0:State_RBV", "Ready")
        await outside(it, "Start", "cobo0")
        await ioc.shows("Ecc:cobo0:Message_RBV", "External: Ready -> Running by no command of this IOC")


@pytest.mark.parametrize("stage", ["in the stop", "in the roll-back of a start"])
async def test_an_interrupted_run_never_ends_before_its_stop_was_commanded(tmp_path, monkeypatch, stage):
    async with (
        rig(tmp_path, monkeypatch, cobos=1, start=False, limits=SECOND_LIMITS) as it,
        ioc_process(it) as ioc,
    ):
        await take_to_ready(it)
        if stage == "in the stop":
            await it.ok("Run:Start")
        else:
            it.fleet["mutant"].faults.hang("Start")
            start = asyncio.create_task(it.put("Run:Start", limit_s=5.0))
            await call_of(it, "mutant", "Start")
        began_s = time.time()
        await eventually(lambda: time.time() > began_s + 2.5, "time for the difference to show")
        it.fleet["cobo0"].faults.hang("Stop")
        commanded_s = time.time()
        stop = asyncio.create_task(it.put("Run:Stop", limit_s=0.5))
        await call_of(it, "cobo0", "Stop")
        await eventually(lambda: _asked_s(tmp_path) >= commanded_s, "the stop on disk")
        await ioc.kill()
        await stop
        if stage != "in the stop":
            await start
            it.fleet["mutant"].faults.fail("Start")
        it.fleet["cobo0"].faults.clear("hang")
        it.fleet["mutant"].faults.clear("hang")
        await eventually(lambda: not any(s.transition for s in it.fleet), "the transitions ended")
        if it.fleet["mutant"].state is State.RUNNING:
            await outside(it, "Stop", "mutant")
        await ioc.start()
        await ioc.shows("Run:State_RBV", "Interrupted")
        stopped_s = datetime.datetime.fromisoformat(await it.get("Run:StopTime_RBV")).timestamp()
        # The PV has whole seconds.
        assert int(commanded_s) <= stopped_s <= time.time()


def _asked_s(tmp_path: Path) -> float:
    return float(kept(tmp_path / "state", "run")[""]["stop_asked_s"])
