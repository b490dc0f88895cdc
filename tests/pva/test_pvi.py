"""PVI: ophyd-async makes a device of the IOC by itself, and uses it."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Record
from tests.support.data_rig import data_rig
from tests.support.pva import pvget

SCOPES = (ScopeKind.SYSTEM, ScopeKind.RUN, ScopeKind.ECC, ScopeKind.SOURCE)


async def test_ophyd_async_makes_a_device_by_itself(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch) as it:
        await it.until(lambda: it.run.next_number >= 0, what="the number of the next run")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.pva.pvi_child", it.prefix,
            env={**os.environ, **it.place.env}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await child.communicate()
        assert child.returncode == 0
        seen = json.loads(out)
        assert seen["states"] == ["Ready"] * 3
        assert seen["run"] == ["Running", "by ophyd-async"]
        assert "Run:Start Refused: run 0 is on" in seen["refused"]
        assert seen["stopped"] == "Stopped"
        assert seen["fleet"] == ["cobo0", "cobo1", "mutant"]
        assert seen["units"] == "s"

        table = [entry for entry in it.app.table if entry.scope.kind in SCOPES and entry.used]
        names = {entry.name for entry in table}
        expected = {f"{it.prefix}{name}": "r" for name in ("Fleet", "Routers", "Alarms")}
        for entry in table:
            if entry.row.command is not None and entry.row.record is Record.BO:
                expected[entry.name] = "x"
            elif entry.row.writable:
                # A signal's source is its readback.
                expected[f"{entry.name}_RBV" if f"{entry.name}_RBV" in names else entry.name] = "w"
            else:
                expected.setdefault(entry.name, "r")
        assert seen["children"] == expected

        ran = await pvget(it.place, it.prefix + "PVI", "-M", "raw")
        assert ran.code == 0, ran.both
        assert f"string x = {it.prefix}Abort" in ran.out or f"string x {it.prefix}Abort" in ran.out, ran.out
