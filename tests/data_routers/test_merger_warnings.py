"""What would keep the merger from reading a run is said when it appears; it is no reason against a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import QUICK_DATA, data_rig, shown

SAID = "Plugin:data_routers:Message_RBV"


@pytest.mark.parametrize("access", [Access.LOCAL, Access.SSH])
async def test_a_name_that_the_merger_cannot_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: Access
) -> None:
    async with data_rig(tmp_path, monkeypatch, cobos=1, access=access) as it:
        name = "CoBo0_AsAd0_2026-03-01T12:00:00.123_0000.graw.sha256"
        (it.fleet.data["CoBo[0]"].staging / name).write_bytes(b"one")
        await it.until(
            lambda: f"{name}' has a data file's name in its own" in (shown(it, SAID) or ""),
            20.0,
            "the message names it",
        )
        assert not any("graw" in reason for reason in it.run.checklist)


async def test_a_path_that_spoils_the_mergers_search_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(QUICK_DATA, folder=tmp_path / "CoBo0_AsAd0_data")
    async with data_rig(tmp_path, monkeypatch, cobos=1, data=options) as it:
        await it.until(
            lambda: "the merger takes every file in" in (shown(it, SAID) or ""), 20.0, "the message says so"
        )
