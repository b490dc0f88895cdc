"""Each host has the folder of a closed run, also where no board took part, for the merger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import empty, manifest

from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access
from tests.data_routers.test_check_boards import told
from tests.support.closed_runs import DONE, folder_of, written
from tests.support.data_rig import QUICK_DATA, data_rig, shown, start_run, stop_run
from tests.support.rig import Rig
from tests.support.sshd import Sshd


def is_empty(it: Rig, host: DataHost, number: int) -> bool:
    place = folder_of(it, host, number)
    if not (place / "manifest.json").exists():
        return False
    record = manifest.load((place / "manifest.json").read_bytes(), host.source)
    assert [path.name for path in place.iterdir()] == ["manifest.json"]
    assert (record.run.number, record.sources, record.files) == (number, (host.source,), ())
    return True


@pytest.fixture(params=[Access.LOCAL, "sshd"])
def files_way(request: pytest.FixtureRequest) -> Access | Sshd:
    return request.param if isinstance(request.param, Access) else request.getfixturevalue("shared_sshd")


async def test_a_host_whose_board_took_no_part_has_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_way: Access | Sshd
) -> None:
    monkeypatch.setattr(empty, "RETRY_S", 0.2)
    async with data_rig(tmp_path, monkeypatch, access=files_way) as it:
        out, within = it.fleet.data["CoBo[1]"], it.fleet.data["CoBo[0]"]
        await it.ok("Ecc:cobo1:Enable", "No")
        stray = out.staging / "stray.graw"
        stray.write_bytes(b"of somebody")
        await start_run(it)
        number = it.run.number
        assert not folder_of(it, out, number).exists()
        await stop_run(it)
        await it.until(lambda: is_empty(it, out, number), 30.0, "its folder is there")
        assert stray.read_bytes() == b"of somebody"
        await it.until(lambda: folder_of(it, within, number).exists(), 30.0, "the run is closed")
        await it.until(
            lambda: shown(it, "Run:ClosingMessage_RBV").startswith("2 of 2 data routers done"),
            30.0,
            "what took no part does not count",
        )


async def test_a_host_that_is_away_or_a_sentrys_is_known_to_have_taken_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the manifests of the others, for a check and for gathering; its folder is made when it is back."""
    monkeypatch.setattr(empty, "RETRY_S", 0.2)
    ways = replace(QUICK_DATA, access=(Access.LOCAL, Access.LOCAL, Access.SENTRY, Access.LOCAL))
    async with data_rig(tmp_path, monkeypatch, access=None, data=ways, cobos=3) as it:
        out = it.fleet.data["CoBo[1]"]
        for ecc in ("cobo1", "cobo2"):
            await it.ok(f"Ecc:{ecc}:Enable", "No")
        away = out.staging.with_name("away")
        out.staging.rename(away)
        await start_run(it)
        number = it.run.number
        await it.until(lambda: all(written(it.fleet.data[board]) for board in ("CoBo[0]", "Mutant[master]")))
        await stop_run(it)
        within = ("CoBo0", "MuTAnT")
        await it.until(
            lambda: all(shown(it, f"{board}:Router:Close_RBV") == DONE for board in within),
            30.0,
            "the run is closed",
        )
        code, said = await told(it.settings_file, "files", "check", number)
        assert code == 0, said
        for label in ("CoBo1", "CoBo2"):
            assert f"{label}: no file: no board of this data router took part\n" in said
        assert "not checked" not in said
        code, said = await told(it.settings_file, "files", "gather", number, "--to", tmp_path / "to")
        assert code == 0, said
        assert "; took no part: CoBo1, CoBo2\n" in said
        assert not list((tmp_path / "to" / f"run_{number:04d}" / "mm2").iterdir())
        await it.stop_ioc()
        await it.start_ioc()
        away.rename(out.staging)
        await it.until(lambda: is_empty(it, out, number), 30.0, "its folder is there")
