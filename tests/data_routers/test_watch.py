"""Watching: what the PVs of each data router and of all together show, and when they are in alarm."""

from __future__ import annotations

import pytest

from tests.support.data_rig import ALL_ACCESS, alarm, data_rig, section, shown, start_run, stop_run

PARTS = {
    "Online_RBV": "bi",
    "Clean_RBV": "bi",
    "Files_RBV": "longin",
    "Written_RBV": "ai",
    "Rate_RBV": "ai",
    "DiskFree_RBV": "ai",
    "DiskUsed_RBV": "ai",
    "TimeToFull_RBV": "ai",
    "Flow_RBV": "mbbi",
}


@pytest.mark.parametrize("access", ALL_ACCESS)
async def test_a_run_is_counted(tmp_path, monkeypatch, access):
    text = section(closing={"enabled": False})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text) as it:
        await it.until(lambda: shown(it, "MuTAnT:Router:Online_RBV") == 1, what="MuTAnT's router online")
        for source in ("CoBo0", "CoBo1", "MuTAnT"):
            await it.until(lambda s=source: shown(it, f"{s}:Router:Online_RBV") == 1, what=f"{source} online")
            assert shown(it, f"{source}:Router:Clean_RBV") == 1
            assert shown(it, f"{source}:Router:Flow_RBV") == 0
            assert shown(it, f"{source}:Router:DiskFree_RBV") > 0
            assert alarm(it, f"{source}:Router:DiskFree_RBV") == "NO_ALARM"
        for part, rtyp in PARTS.items():
            assert await it.get(f"CoBo0:Router:{part}.RTYP") == rtyp, part
        await start_run(it)
        await it.until(lambda: 1.5 < shown(it, "CoBo0:Router:Rate_RBV") < 2.5, 10.0, "the rate of a CoBo")
        await it.until(lambda: 3.2 < shown(it, "Run:Rate_RBV") < 4.8, 10.0, "the rate of all")
        assert shown(it, "CoBo0:Router:Flow_RBV") == 1
        assert shown(it, "CoBo0:Router:Clean_RBV") == 0
        assert shown(it, "CoBo0:Router:Files_RBV") == 2
        await stop_run(it)
        hosts = it.fleet.data
        await it.until(lambda: all(not h.writer.is_open for h in hosts), what="all is written")
        there = {h.source: sum(f.stat().st_size for f in h.files()) / 1e9 for h in hosts}
        for source, written in there.items():
            await it.until(
                lambda s=source, w=written: (
                    shown(it, f"{s}:Router:Written_RBV") == pytest.approx(w, rel=1e-6)
                ),
                what=f"{source} wrote {written}",
            )
        await it.until(
            lambda: shown(it, "Run:Written_RBV") == pytest.approx(sum(there.values()), rel=1e-6),
            what="the sum of all",
        )
        await it.until(lambda: shown(it, "Run:Rate_RBV") == 0.0, 10.0, "no data any more")
        assert shown(it, "CoBo0:Router:Flow_RBV") == 0
