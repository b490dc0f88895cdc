"""The configuration files of a run: on record with their text, and copied to the backup folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attpc_plugins.data_routers.configs.gather import NO_HOST, gather
from attpc_plugins.data_routers.configs.loading import LoadedFiles
from attpc_plugins.data_routers.configs.spool import BackupFault, Spool
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.state import (
    ONLY,
    Baseline,
    ConfigsRead,
    LoadedFile,
    Records,
    WaitingFiles,
)
from attpc_plugins.data_routers.watch.flow import Count
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.events import RunConfigs
from attpc_ioc.model.run import RunInfo, RunRef
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access
from tests.support.closings import records_in
from tests.support.data_rig import SECTION, data_rig, section, shown, start_run, stop_run
from tests.support.probe import Probe
from tests.support.rig import Rig
from tests.support.state_dir import change

MEMBERS = ("cobo0", "cobo1", "mutant")


def backup_section(folder: Path) -> str:
    return section() + f'\n[{SECTION}.backup]\nfolder = "{folder}"'


def told(probe: Probe) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Name, source and text (or fault) by member and part."""
    return {
        (c.module, c.part): (c.name, c.source, c.text or c.fault)
        for event in probe.of(RunConfigs)
        for c in event.configs
    }


async def start_again(it: Rig) -> None:
    """Start the IOC again, and a run of what is loaded."""
    await it.start_ioc()
    await it.until(lambda: not it.run.checklist, 10.0, f"a start is possible: {it.run.checklist}")
    await it.ok("Run:Start")


async def test_what_a_run_used_is_recorded_and_copied(tmp_path, monkeypatch):
    backup = tmp_path / "backup folder"
    backup.mkdir()
    probe = Probe()
    async with data_rig(
        tmp_path, monkeypatch, access=Access.LOCAL, text=backup_section(backup), plugins=[("probe", probe)]
    ) as it:
        await start_run(it)
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 2, what="all is kept")
        xcfg = it.fleet.xcfg.path
        names = {member: str(it.app.controller.fleet.modules[member].loaded).split("/") for member in MEMBERS}
        expected = {
            (member, part): (name, "file", (xcfg / f"{part}-{name}.xcfg").read_text(encoding="utf-8"))
            for member, (describe, _, configure) in names.items()
            for part, name in (("describe", describe), ("configure", configure))
        }
        assert told(probe) == expected
        folder = backup / "unnamed" / "run_0000"
        used = {f"{part}-{name}.xcfg" for (_, part), (name, _, _) in expected.items()}
        assert {file.name for file in folder.iterdir()} == used
        assert all((folder / name).read_bytes() == (xcfg / name).read_bytes() for name in used)
        assert await it.get_text("Run:ConfigsMessage_RBV") == ""
        await stop_run(it)


async def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, plugins=[("probe", probe)]) as it:
        await it.take_to(State.READY)
        await it.stop_ioc()
        # As for an IOC that did not see it being loaded.
        change(tmp_path / "state", "DELETE FROM kept WHERE topic = 'data_routers/loaded'")
        describe = it.fleet.xcfg.path / "describe-cobo0.xcfg"
        text = (it.fleet.xcfg.path / "configure-e20009.xcfg").read_text(encoding="utf-8")
        describe.unlink()
        probe.told.clear()
        await start_again(it)
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 3, what="something is missing")
        found = told(probe)
        assert found["cobo0", "configure"] == ("e20009", "file", text)
        name, source, fault = found["cobo0", "describe"]
        assert (name, source) == ("cobo0", "")
        assert "describe-cobo0.xcfg" in fault
        message = await it.get_text("Run:ConfigsMessage_RBV")
        assert message.startswith("cobo0: there is no ")
        assert await it.severity("Run:Configs_RBV") == "MINOR"
        describe.write_text("later", encoding="utf-8")
        await it.ok("Run:Stop")
        assert await it.get("Run:Configs_RBV") == "Incomplete", "it is told of the last run until the next"


async def test_a_backup_folder_that_is_not_there_is_waited_for(tmp_path, monkeypatch):
    backup = tmp_path / "not mounted"
    async with data_rig(tmp_path, monkeypatch, text=backup_section(backup)) as it:
        await start_run(it)
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 4, what="the copies wait")
        message = (await it.get_text("Run:ConfigsMessage_RBV")).replace("\\", "")
        assert message == f"the backup folder '{backup}' does not exist: make it, or mount its disk"
        assert not backup.exists(), "it would be on the wrong disk"
        await stop_run(it)
        backup.mkdir()
        await it.until(lambda: not it.run.checklist, 10.0, "a start is possible")
        await it.ok("Run:Start")
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 2, what="all is kept")
        copies = {run.name: len(list(run.iterdir())) for run in (backup / "unnamed").iterdir()}
        assert copies == {"run_0000": 4, "run_0001": 4}
        await stop_run(it)


async def test_a_file_that_is_edited_after_it_was_loaded(tmp_path, monkeypatch):
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, plugins=[("probe", probe)]) as it:
        await it.take_to(State.READY)
        configure = it.fleet.xcfg.path / "configure-e20009.xcfg"
        describe = it.fleet.xcfg.path / "describe-cobo1.xcfg"
        loaded = configure.read_text(encoding="utf-8"), describe.read_text(encoding="utf-8")
        await it.stop_ioc()
        configure.write_text(loaded[0].replace("</", " </", 1), encoding="utf-8")
        describe.unlink()
        await start_again(it)
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 2, what="all is kept")
        found = told(probe)
        assert found["cobo0", "configure"][2] == loaded[0]
        assert found["cobo1", "describe"][2] == loaded[1], "also where the file is gone"
        # The MuTAnT was configured anew by the start: it has the file as it is now.
        assert found["mutant", "configure"][2] == configure.read_text(encoding="utf-8") != loaded[0]
        message = await it.get_text("Run:ConfigsMessage_RBV")
        assert message == (
            "configure-e20009.xcfg was changed after cobo0, cobo1 loaded it: the run has it as it was before"
        )
        await stop_run(it)


# ---------------------------------------------------------------------- reading


class Folder:
    """A host with files; the rest it does not have."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.read_names: list[str] = []

    async def read(self, name: str) -> bytes:
        self.read_names.append(name)
        key = name.removesuffix(".xcfg").replace("-", "_")
        if key not in self.files:
            raise HostFault(f"there is no {name}")
        return self.files[key]

    async def tail(self, lines: int) -> bytes:
        raise HostFault("there is no log")

    async def disconnect(self) -> None:
        pass


def nothing(records: Records) -> LoadedFiles:
    """What is known of loaded files by an IOC that saw nothing being loaded."""
    return LoadedFiles(records.loaded, {})


def run_of(**loaded: str) -> RunInfo:
    return RunInfo(7, "e1", tuple(loaded), loaded=dict(loaded))


async def test_hosts_with_different_files_of_one_name(records):
    one, other = Folder(describe_a=b"1", configure_e=b"same"), Folder(describe_a=b"2", configure_e=b"same")
    found = await gather(run_of(x="a/e/e", y="a/e/e"), {"x": one, "y": other}, nothing(records), {})
    assert found.files == {"describe-a.xcfg": b"1", "describe-a.y.xcfg": b"2", "configure-e.xcfg": b"same"}
    assert [(c.module, c.part, c.text) for c in found.configs] == [
        ("x", "describe", "1"),
        ("x", "configure", "same"),
        ("y", "describe", "2"),
        ("y", "configure", "same"),
    ]
    assert found.faults == ()


async def test_a_shared_file_is_read_once_and_what_is_not_loaded_never(records):
    host = Folder(describe_a=b"1", configure_e=b"\xff\x00")
    hosts = dict.fromkeys(("x", "y", "z"), host)
    found = await gather(run_of(x="a/e/e", y="a/e/?", z="-"), hosts, nothing(records), {})
    assert sorted(host.read_names) == ["configure-e.xcfg", "describe-a.xcfg", "prepare-e.xcfg"]
    assert [(c.module, c.part) for c in found.configs] == [
        ("x", "describe"),
        ("x", "configure"),
        ("y", "describe"),
    ]
    assert found.configs[1].text == "ÿ\x00", "what is not UTF-8 loses nothing"


async def test_without_a_host_there_is_the_reply(records):
    found = await gather(run_of(x="a/e/e"), {}, nothing(records), {"x": "<Configuration/>"})
    assert [(c.part, c.source, c.text, c.fault) for c in found.configs] == [
        ("describe", "", "", NO_HOST),
        ("configure", "reply", "<Configuration/>", ""),
    ]
    assert found.files == {"reply-to-configure.x.xml": b"<Configuration/>"}
    assert found.faults == (f"x: {NO_HOST}",)


# ---------------------------------------------------------------------- copying

RUN = RunRef("e1", 7)


def spool(records: Records, tmp_path: Path) -> tuple[Spool, Path]:
    backup = tmp_path / "backup"
    backup.mkdir()
    return Spool(records, backup), backup / "e1" / "run_0007"


async def test_nothing_in_the_backup_folder_is_written_over(records, tmp_path):
    copies, target = spool(records, tmp_path)
    target.mkdir(parents=True)
    (target / "a.xcfg").write_bytes(b"somebody's")
    (target / "b.xcfg").write_bytes(b"2")
    await copies.put(RUN, {"a.xcfg": b"1", "b.xcfg": b"2"})
    (renamed,) = await copies.flush()
    assert renamed == f"{target / 'a.xcfg'} was another file: the run's is a.1.xcfg"
    assert {f.name: f.read_bytes() for f in target.iterdir()} == {
        "a.xcfg": b"somebody's",
        "b.xcfg": b"2",
        "a.1.xcfg": b"1",
    }
    # Repeated, it ends the same.
    await copies.put(RUN, {"a.xcfg": b"1", "b.xcfg": b"2"})
    await copies.flush()
    assert len(list(target.iterdir())) == 3
    assert copies.waiting() == []


async def test_what_waits_survives_until_the_folder_can_be_written(records, tmp_path):
    copies, target = spool(records, tmp_path)
    (tmp_path / "backup" / "e1").write_text("a file where the folder is to be")
    await copies.put(RUN, {"a.xcfg": b"1"})
    with pytest.raises(BackupFault, match=r"the files of e1/run_0007 cannot be copied to '.*run_0007'"):
        await copies.flush()
    assert copies.waiting() == [RUN]
    (tmp_path / "backup" / "e1").unlink()
    await copies.flush()
    assert copies.waiting() == []
    assert (target / "a.xcfg").read_bytes() == b"1"


async def test_what_a_killed_program_left_half_does_not_count(records, tmp_path):
    copies, target = spool(records, tmp_path)
    (target).mkdir(parents=True)
    (target / ".a.xcfg.part").write_bytes(b"h")
    assert copies.waiting() == []
    await copies.put(RUN, {"a.xcfg": b"half"})
    await copies.flush()
    assert {f.name: f.read_bytes() for f in target.iterdir()} == {"a.xcfg": b"half"}


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}\.xcfg", fullmatch=True), st.binary(max_size=20), max_size=3)
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_files_twice(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    target = folder / "backup" / "e1" / "run_0007"

    async def twice() -> None:
        async with records_in(folder / "state") as records:
            copies, _ = spool(records, folder)
            for _ in range(2):
                await copies.put(RUN, files)
                await copies.flush()

    asyncio.run(twice())
    assert {f.name: f.read_bytes() for f in target.iterdir()} == files


async def test_what_was_kept_is_there_after_a_restart(tmp_path):
    content = bytes(range(256)) * 9
    async with records_in(tmp_path) as records:
        records.loaded.keep("cobo0.configure", LoadedFile("e1", content))
        records.configs_read.keep(ONLY, ConfigsRead(RUN, ("one", "two")))
        records.baseline.keep(ONLY, Baseline(RUN, {"CoBo0": Count(3, 2**40)}))
        records.waiting.keep(str(RUN), WaitingFiles(RUN, {"a.xcfg": content, "b.xcfg": b""}))
    async with records_in(tmp_path) as records:
        assert LoadedFiles(records.loaded, {}).get("cobo0", "configure", "e1") == content
        assert records.configs_read.values == {ONLY: ConfigsRead(RUN, ("one", "two"))}
        assert records.baseline.values == {ONLY: Baseline(RUN, {"CoBo0": Count(3, 2**40)})}
        backup = tmp_path / "backup"
        backup.mkdir()
        copies = Spool(records, backup)
        assert copies.waiting() == [RUN]
        await copies.flush()
        assert (backup / "e1" / "run_0007" / "a.xcfg").read_bytes() == content
