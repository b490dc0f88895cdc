"""An index chooses what the list shows at that place, whatever order the servers offer their configs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.control import setpoints
from tests.support.rig import Rig, rig

ORDERS = [
    {"mutant": ("pulser",), "cobo0": ("pulser",), "cobo1": ("pulser",)},
    {"cobo0": ("pulser", "alpha")},
    {"mutant": ("pulser",), "cobo1": ("alpha",)},
    {"cobo0": ("beam", "e20009"), "cobo1": ("pulser", "beam"), "mutant": ("alpha", "pulser")},
]


async def offer(it: Rig, orders: dict[str, tuple[str, ...]]) -> None:
    """Start the IOC on servers that offer four experiments, each in an order of its own."""
    for name in ("alpha", "beam"):
        add(it, name)
    for server, first in orders.items():
        it.fleet[server].offers_first = first
    await it.start_ioc()
    await it.until(lambda: all(m.offered for m in it.snapshot.modules.values()), what="configs")


def add(it: Rig, experiment: str) -> None:
    """Add the files of one more experiment."""
    for part in ("describe", "configure"):
        file = it.fleet.xcfg.path / f"{part}-e20009.xcfg"
        file.with_name(f"{part}-{experiment}.xcfg").write_bytes(file.read_bytes())


async def shown(it: Rig, name: str) -> list[str]:
    """The entries of a list of strings; `caget` prints empty ones up to its greatest length."""
    _, *names = (await it.get(name, "-F", "|")).split("|")
    return [entry for entry in names if entry]


@pytest.mark.parametrize("orders", ORDERS, ids=lambda orders: ",".join(orders))
async def test_an_index_selects_what_the_list_shows_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orders: dict[str, tuple[str, ...]]
) -> None:
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await offer(it, orders)
        names = await shown(it, "ConfigNames_RBV")
        assert sorted(names) == ["alpha", "beam", "e20009", "pulser"]
        for index, name in enumerate(names):
            await it.ok("ConfigIndex", str(index))
            assert await it.get_text("Config_RBV") == name
            assert await it.get("ConfigIndex") == str(index)
        assert "there is no config 4" in await it.refused("ConfigIndex", "4")
        for module in it.fleet.servers:
            scope = f"Ecc:{module}:"
            listed = await shown(it, f"{scope}Configs_RBV")
            assert (await it.get_text(f"{scope}ConfigList_RBV")).split(r"\n") == listed
            assert await it.get(f"{scope}ConfigCount_RBV") == str(len(listed))
            for index, name in enumerate(listed):
                await it.ok(f"{scope}ConfigIndex", str(index))
                assert await it.get_text(f"{scope}Config_RBV") == name
                assert await it.get(f"{scope}ConfigIndex") == str(index)


async def test_the_list_keeps_to_the_first_enabled_server(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await offer(it, {"cobo0": ("pulser",), "cobo1": ("beam",)})
        assert (await shown(it, "ConfigNames_RBV"))[0] == "pulser"
        await it.ok("ConfigIndex", "0")
        await it.ok("Ecc:cobo0:Enable", "No")
        assert (await shown(it, "ConfigNames_RBV"))[0] == "beam"
        assert await it.get("ConfigIndex") == "3"
        assert await it.get_text("Config_RBV") == "pulser"


async def test_an_index_into_a_list_that_has_just_changed_is_refused(tmp_path, monkeypatch):
    """A click that was meant for the old list must not select what is there in the new one."""
    monkeypatch.setattr(setpoints, "LOOK_S", 600.0)
    async with rig(tmp_path, monkeypatch) as it:
        await it.ok("ConfigIndex", "1")
        add(it, "alpha")
        await it.ok("RefreshConfigs")
        assert await shown(it, "ConfigNames_RBV") == ["alpha", "e20009", "pulser"]
        assert await it.get("ConfigIndex") == "2"
        message = await it.refused("ConfigIndex", "1", because="the list has just changed")
        assert "config 1 was pulser and is e20009 now" in message
        was = "config 0 was cobo0/e20009/e20009 and is cobo0/alpha/alpha now"
        await it.refused("Ecc:cobo0:ConfigIndex", "0", because=was)
        assert await it.get_text("Config_RBV") == "pulser"
        # What is new there nobody can have meant otherwise, and a name is always what it says.
        await it.ok("Ecc:cobo0:ConfigIndex", "2")
        assert (await it.put_text("Config", "alpha")).code == 0
        monkeypatch.setattr(setpoints, "LOOK_S", 0.0)
        await it.ok("ConfigIndex", "1")
        assert await it.get_text("Config_RBV") == "e20009"


async def test_an_experiment_named_mixed_is_one_like_any_other(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        add(it, "mixed")
        await offer(it, {})
        index = str((await shown(it, "ConfigNames_RBV")).index("mixed"))
        await it.ok("ConfigIndex", index)
        assert (await it.get_text("Config"), await it.get("ConfigIndex")) == ("mixed", index)
        await it.ok("Ecc:cobo0:ConfigIndex", "0")
        assert (await it.get_text("Config_RBV"), await it.get("ConfigIndex")) == ("mixed", "-1")


async def test_a_list_that_is_too_long_is_said_to_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, start=False) as it:
        for number in range(1100):
            (it.fleet.xcfg.path / f"configure-n{number:04}.xcfg").write_bytes(b"")
        await it.start_ioc()
        await it.until(lambda: it.module("cobo0").offered, what="configs")
        count = len(it.module("cobo0").offered or ())
        assert count > 1024
        assert await it.get("Ecc:cobo0:ConfigCount_RBV") == str(count)
        assert len(await shown(it, "Ecc:cobo0:Configs_RBV")) == 1024
        text = f"{count} configs are on offer and Configs_RBV shows the first 1024"
        assert text in await it.get_text("Ecc:cobo0:Message_RBV")
        assert [r for r in caplog.records if text in str(getattr(r, "keys", {}).get("reason"))]
        # What is not shown can still be selected.
        last = str((it.module("cobo0").offered or ())[-1])
        ran = await it.put_text("Ecc:cobo0:Config", last)
        assert ran.code == 0, ran.both
        assert await it.get_text("Ecc:cobo0:Config_RBV") == last
