"""Every alarm of the tree once: a fault of the simulated fleet, its severity and status at a client, its end.

`CORE` and `DATA` tell in which alarms each PV can be. The tests read the exported tree of a running IOC,
watch all of its PVs, bring about one fault after the other, and see in the end that nothing was left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from attpc_ioc.export.alarms import alarm_tree, whole_text
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin.status import PluginStatus
from attpc_ioc.pvs.row import Row
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.simulator.data.options import Access
from tests.export.alarm_reader import read_alarms
from tests.export.alarm_watch import GONE, OK, Watch, watching
from tests.support.data_rig import SECTION, data_rig, section, start_run, stop_run
from tests.support.others import other_server
from tests.support.rig import BRISK_POLL, SHORT_LIMITS, Rig, rig

MINOR, MAJOR, COMM = "STATE MINOR", "STATE MAJOR", "COMM INVALID"

CORE: dict[tuple[ScopeKind, str], set[str]] = {
    (ScopeKind.SYSTEM, "State_RBV"): {MINOR, MAJOR, COMM},
    (ScopeKind.SYSTEM, "Result_RBV"): {MINOR, MAJOR},
    (ScopeKind.ECC, "Online_RBV"): {"COMM MAJOR"},
    (ScopeKind.ECC, "PollTime_RBV"): {"HIGH MINOR", "HIHI MAJOR"},
    (ScopeKind.ECC, "Enable"): {MINOR},
    (ScopeKind.ECC, "Loaded_RBV"): {MINOR},
    (ScopeKind.ECC, "ClockStale_RBV"): {MAJOR},
    (ScopeKind.ECC, "Result_RBV"): {MINOR, MAJOR},
    (ScopeKind.RUN, "State_RBV"): {MAJOR, "STATE INVALID"},
    (ScopeKind.RUN, "Result_RBV"): {MINOR, MAJOR},
    (ScopeKind.IOC, "HEARTBEAT"): {GONE},
    (ScopeKind.IOC, "AccessFile_RBV"): {MAJOR},
    (ScopeKind.IOC, "OtherServers_RBV"): {MINOR},
    (ScopeKind.PLUGIN, "Status_RBV"): {MINOR, MAJOR},
}
"""The core's rows."""

DATA: dict[tuple[ScopeKind, str], set[str]] = {
    (ScopeKind.SOURCE, "Router:Online_RBV"): {MAJOR, COMM},
    (ScopeKind.SOURCE, "Router:Restarted_RBV"): {MAJOR, COMM},
    (ScopeKind.SOURCE, "Router:Flow_RBV"): {MINOR, MAJOR, COMM},
    (ScopeKind.SOURCE, "Router:DiskFree_RBV"): {"LOW MINOR", "LOLO MAJOR", COMM},
    (ScopeKind.SOURCE, "Router:TimeToFull_RBV"): {"LOW MINOR", "LOLO MAJOR", COMM},
    (ScopeKind.SOURCE, "Router:Close_RBV"): {MINOR, MAJOR},
    (ScopeKind.SOURCE, "Router:Sync_RBV"): {MINOR, MAJOR, COMM},
    (ScopeKind.SOURCE, "Router:Missing_RBV"): {"HIGH MINOR", "HIHI MAJOR", COMM},
    (ScopeKind.RUN, "Configs_RBV"): {MINOR},
}
"""The rows of the data routers."""

NEVER = {
    # Its clock is the one that the others are stale against.
    "Ecc:mutant:ClockStale_RBV": {MAJOR},
    # Only CoBos are compared with each other.
    "MuTAnT:Router:Flow_RBV": {MINOR},
}
"""Alarms that a PV of the MuTAnT cannot be in."""


def own_severities(row: Row) -> set[str]:
    """The severities that a row tells of itself, by labels and limits."""
    limits = row.limits
    found = {severity.name for severity in row.severities.values()}
    found |= {"MAJOR"} if limits.hihi is not None or limits.lolo is not None else set()
    return found | ({"MINOR"} if limits.high is not None or limits.low is not None else set())


def test_every_alarm_of_the_tree_has_its_place_here(table: tuple[PvEntry, ...]):
    rows = {(e.scope.kind, e.row.part): e.row for e in table if e.row.alarm_tree}
    assert rows.keys() == CORE.keys() | DATA.keys()
    for key, row in rows.items():
        severities = {alarm.partition(" ")[2] for alarm in (CORE | DATA)[key]}
        assert own_severities(row) <= severities, key


def expected(it: Rig, entries: list[PvEntry], alarms: Mapping[tuple[ScopeKind, str], set[str]]):
    return {
        e.name: alarms[e.scope.kind, e.row.part] - NEVER.get(e.name.removeprefix(it.prefix), set())
        for e in entries
    }


def exported(it: Rig, tmp_path: Path) -> list[PvEntry]:
    """The PVs of the IOC's exported tree."""
    file = tmp_path / "alarms.xml"
    file.write_text(whole_text(alarm_tree(it.app.table), "ATTPC"), encoding="utf-8")
    names = read_alarms(file).pvs
    found = [entry for entry in it.app.table if entry.name in names]
    assert len(found) == len(names)
    return found


# ---------------------------------------------------------------------------------------------- run control


class Core:
    """The faults of run control, one after the other."""

    def __init__(self, it: Rig, watch: Watch) -> None:
        self.it = it
        self.watch = watch
        self.servers = list(it.fleet.servers)
        self.cobos = [name for name in self.servers if name != "mutant"]

    def of(self, part: str, *servers: str) -> list[str]:
        return [f"{self.it.prefix}Ecc:{name}:{part}" for name in servers or self.servers]

    def pv(self, part: str) -> str:
        return self.it.prefix + part

    async def disabled(self) -> None:
        for name in self.servers:
            await self.it.ok(f"Ecc:{name}:Enable", "No")
        await self.watch.until(self.of("Enable"), MINOR)
        for name in self.servers:
            await self.it.ok(f"Ecc:{name}:Enable", "Yes")
        await self.watch.until(self.of("Enable"), OK)

    async def gone(self) -> None:
        for name in self.servers:
            self.it.fleet[name].faults.refuse()
            await self.watch.until(self.of("Online_RBV", name), "COMM MAJOR")
            alarm = COMM if name == self.servers[-1] else MAJOR
            await self.watch.until(self.pv("State_RBV"), alarm)
            # Of the server itself that is all, though its own PVs are INVALID now.
            assert await self.it.severity(f"Ecc:{name}:State_RBV") == "INVALID"
            assert self.watch.is_in(self.of("Enable", name) + self.of("Loaded_RBV", name), OK)
            assert self.watch.is_in(self.of("ClockStale_RBV", name) + self.of("Result_RBV", name), OK)
            assert self.watch.is_in(self.of("PollTime_RBV", name), OK)
        for name in self.servers:
            self.it.fleet[name].faults.clear()
        await self.watch.until([*self.of("Online_RBV"), self.pv("State_RBV")], OK)

    async def slow(self) -> None:
        for extra_s, alarm in ((0.7, "HIGH MINOR"), (1.5, "HIHI MAJOR")):
            for name in self.servers:
                self.it.fleet[name].faults.slow("GetState", extra_s=extra_s)
            await self.watch.until(self.of("PollTime_RBV"), alarm)
        for name in self.servers:
            self.it.fleet[name].faults.clear()
        await self.watch.until(self.of("PollTime_RBV"), OK)

    async def commands(self) -> None:
        for name in self.servers:
            await self.it.refused(f"Ecc:{name}:Start")
            await self.watch.until(self.of("Result_RBV", name), MINOR)
            self.it.fleet[name].faults.fail("Describe")
            assert (await self.it.put(f"Ecc:{name}:Describe")).code == 1
            await self.watch.until(self.of("Result_RBV", name), MAJOR)
            await self.it.ok(f"Ecc:{name}:Describe")
            await self.watch.until(self.of("Result_RBV", name), OK)
            if name == self.servers[0]:
                await self.watch.until(self.pv("State_RBV"), MINOR)
        await self.watch.until(self.pv("State_RBV"), OK)
        await self.it.refused("Configure")
        await self.watch.until(self.pv("Result_RBV"), MINOR)
        self.it.fleet[self.servers[0]].faults.fail("Prepare")
        assert (await self.it.put("Prepare")).code == 1
        await self.watch.until(self.pv("Result_RBV"), MAJOR)
        await self.it.ok("GoTo", "Ready")
        await self.watch.until([self.pv("Result_RBV"), self.pv("State_RBV")], OK)

    async def loaded(self) -> None:
        other = self.it.fleet.experiments[1]
        for name in self.servers:
            ran = await self.it.put_text(f"Ecc:{name}:Config", self.it.fleet.config(name, other))
            assert ran.code == 0, ran.both
            await self.watch.until(self.of("Loaded_RBV", name), MINOR)
            ran = await self.it.put_text(f"Ecc:{name}:Config", self.it.fleet.config(name))
            assert ran.code == 0, ran.both
            await self.watch.until(self.of("Loaded_RBV", name), OK)

    async def clock(self) -> None:
        for operation in ("Breakup", "Undo"):  # as a foreign client would: the IOC itself refuses to
            await self.it.fleet.call("mutant", operation)
        await self.watch.until(self.of("ClockStale_RBV", *self.cobos), MAJOR)
        await self.it.ok("GoTo", "Idle")
        await self.watch.until(self.of("ClockStale_RBV", *self.cobos), OK)

    async def run(self) -> None:
        result, state = self.pv("Run:Result_RBV"), self.pv("Run:State_RBV")
        await self.it.refused("Run:Start")
        await self.watch.until(result, MINOR)
        await self.it.ok("GoTo", "Ready")
        self.it.fleet["mutant"].faults.fail("Start")
        assert (await self.it.put("Run:Start")).code == 1
        await self.watch.until(result, MAJOR)
        await self.it.ok("GoTo", "Ready")
        await self.it.ok("Run:Start")
        await self.watch.until([result, state], OK)
        lost = self.it.fleet[self.cobos[0]]
        lost.faults.refuse()
        await self.watch.until(state, MAJOR)
        # The IOC ends, and begins again without knowing of one member whether it runs.
        await self.it.stop_ioc()
        await self.watch.until(self.watch.now.keys(), GONE)
        await self.it.start_ioc()
        await self.watch.until(state, "STATE INVALID")
        lost.faults.clear()
        await self.watch.until(state, OK)
        await self.it.ok("Run:Stop")
        await self.it.until_run(RunState.STOPPED)

    async def access(self) -> None:
        """The access security file is broken while the IOC runs, and mended."""
        for text, alarm in (("ASG(DEFAULT", MAJOR), (ANYBODY, OK)):
            (self.it.settings_file.parent / ACCESS_FILE).write_text(text)
            self.it.app.access.ask_again()
            await self.watch.until(self.pv("IOC:AccessFile_RBV"), alarm)

    async def others(self) -> None:
        """Another server answers for the prefix, and goes again."""
        pv = self.pv("IOC:OtherServers_RBV")
        async with other_server(self.it.prefix, self.it.place.port):
            await self.it.app.server.elsewhere.poll()
            await self.watch.until(pv, MINOR)
        await self.it.app.server.elsewhere.poll()
        await self.watch.until(pv, OK)

    async def plugins(self) -> None:
        host = self.it.app.host
        names = [plugin.name for plugin in host.active()]
        pvs = [self.pv(f"Plugin:{name}:Status_RBV") for name in names]
        for status, alarm in ((PluginStatus.DEGRADED, MINOR), (PluginStatus.FAILED, MAJOR)):
            for name in names:
                host.fault(name, "trial", "tried by a test", status)
            await self.watch.until(pvs, alarm)
        for name in names:
            host.clear(name, "trial")
        await self.watch.until(pvs, OK)


ACCESS_FILE = "access.acf"
ANYBODY = "ASG(DEFAULT) { RULE(1, WRITE) }"


@pytest.mark.timeout(300)
async def test_every_alarm_of_run_control(tmp_path, monkeypatch, dsn):
    (tmp_path / ACCESS_FILE).write_text(ANYBODY)
    # A restarted IOC waits for the member that it cannot see, for longer than a client takes to come back.
    limits = SHORT_LIMITS.replace("recovery_s = 2.0", "recovery_s = 60.0")
    sections: dict[str, Any] = {
        "access": f'file = "{tmp_path / ACCESS_FILE}"',
        "plugins.run_history": f'dsn = "{dsn}"',
    }
    poll = BRISK_POLL.replace("timeout_s = 0.4", "timeout_s = 3.0")
    async with rig(tmp_path, monkeypatch, cobos=1, limits=limits, poll=poll, **sections) as it:
        await it.select()
        entries = [entry for entry in exported(it, tmp_path) if not entry.row.plugin]
        async with watching(it.place, [entry.name for entry in entries]) as watch:
            core = Core(it, watch)
            await watch.until(watch.now.keys(), OK)
            for fault in (
                core.disabled,
                core.gone,
                core.slow,
                core.commands,
                core.loaded,
                core.clock,
                core.run,
            ):
                await fault()
            await core.access()
            await core.others()
            await core.plugins()
            assert watch.missing(expected(it, entries, CORE)) == {}
            await watch.until(watch.now.keys(), OK)


# ---------------------------------------------------------------------------------------------- data routers

LIMITS = {
    "dead_after_s": 1.0,
    "low_after_s": 0.5,
    "gone_after_s": 0.3,
    "disk_minor_gb": 100.0,
    "disk_major_gb": 20.0,
    "disk_after_s": 0.2,
    "full_minor_h": 2.0,
}
EVENTS = {"missing_after_s": 0.2, "missing_minor_percent": 1.0, "missing_major_percent": 30.0}


class Data:
    """The faults of the data routers, one after the other; each leaves the run as it found it."""

    def __init__(self, it: Rig, watch: Watch, backup: Path) -> None:
        self.it = it
        self.watch = watch
        self.backup = backup
        self.hosts = list(it.fleet.data)

    def of(self, part: str, *sources: str) -> list[str]:
        names = sources or tuple(host.source for host in self.hosts)
        return [f"{self.it.prefix}{name}:Router:{part}" for name in names]

    async def disks(self) -> None:
        for free_gb, alarm in ((90.0, "LOW MINOR"), (10.0, "LOLO MAJOR"), (500.0, OK)):
            for host in self.hosts:
                host.disk_free_gb = free_gb
            await self.watch.until(self.of("DiskFree_RBV"), alarm)

    async def routers(self) -> None:
        """Restart the routers in a run; then take the boards to where they need none."""
        await start_run(self.it)
        for router in self.it.fleet.routers.values():
            await router.stop()
        await self.watch.until(self.of("Online_RBV"), MAJOR)
        for router in self.it.fleet.routers.values():
            await router.start()
        await self.watch.until(self.of("Online_RBV"), OK)
        await self.watch.until(self.of("Restarted_RBV"), MAJOR)
        await stop_run(self.it)
        await self.it.take_to(State.PREPARED)
        await self.watch.until(self.of("Restarted_RBV"), OK)

    async def hosts_gone(self) -> None:
        parts = ("Online_RBV", "Restarted_RBV", "Flow_RBV", "DiskFree_RBV", "TimeToFull_RBV", "Sync_RBV")
        pvs = [pv for part in parts for pv in self.of(part)]
        await self._gates(is_open=False)
        await self.watch.until([*pvs, *self.of("Missing_RBV")], COMM)
        await self._gates(is_open=True)
        await self.watch.until(pvs, OK)

    async def _gates(self, *, is_open: bool) -> None:
        for host in self.hosts:
            assert host.gate is not None
            await (host.gate.open() if is_open else host.gate.close())

    async def flow(self) -> None:
        for host in self.hosts:
            host.faults.stopped = True
        await self.watch.until(self.of("Flow_RBV"), MAJOR)
        for host in self.hosts:
            host.faults.stopped = False
        await self.watch.until(self.of("Flow_RBV"), OK)
        for host in self.hosts:
            if not host.board.clock_master:
                host.faults.factor = 0.02
                await self.watch.until(self.of("Flow_RBV", host.source), MINOR)
                host.faults.factor = 1.0
                await self.watch.until(self.of("Flow_RBV"), OK)

    async def sync(self) -> None:
        for host in self.hosts:
            host.faults.pace = 0.05
            await self.watch.until(self.of("Sync_RBV", host.source), MINOR)
            host.faults.pace = 1.0
            await self.watch.until(self.of("Sync_RBV"), OK)
            host.faults.clock_s = 0.1
            await self.watch.until(self.of("Sync_RBV", host.source), MAJOR)
            host.faults.clock_s = 0.0
            await self.watch.until(self.of("Sync_RBV"), OK)

    async def time_to_full(self) -> None:
        for host in self.hosts:
            host.disk_free_gb = host.bytes_s * 1.5 * 3600 / 1e9
        await self.watch.until(self.of("TimeToFull_RBV"), "LOW MINOR")
        await self.it.ok("Run:MaxDuration", "36000")
        await self.watch.until(self.of("TimeToFull_RBV"), "LOLO MAJOR")
        await self.it.ok("Run:MaxDuration", "0")
        for host in self.hosts:
            host.disk_free_gb = 500.0
        await self.watch.until([*self.of("TimeToFull_RBV"), *self.of("DiskFree_RBV")], OK)

    async def missing(self) -> None:
        """Lose events; what is missing of the run stays an alarm until the next one."""
        for lost, alarm in ((0.1, "HIGH MINOR"), (0.9, "HIHI MAJOR"), (0.0, "HIHI MAJOR")):
            for host in self.hosts:
                host.faults.lost = lost
            await self.watch.until(self.of("Missing_RBV"), alarm)

    async def closing(self) -> None:
        """End the run with its folders in the way, and the next one with the hosts gone."""
        close = self.of("Close_RBV")
        folders = [h.staging / self.it.run.experiment / f"run_{self.it.run.number:04d}" for h in self.hosts]
        for folder in folders:
            folder.mkdir(parents=True)
        await stop_run(self.it)
        await self.watch.until(close, MAJOR)
        for folder in folders:
            folder.rmdir()
        await self.it.ok("Run:CloseAgain")
        await self.watch.until(close, OK)

    async def configs(self) -> None:
        configs = f"{self.it.prefix}Run:Configs_RBV"
        away = self.backup.rename(self.backup.with_name("not mounted"))
        await start_run(self.it)
        await self.watch.until(configs, MINOR)
        away.rename(self.backup)
        await self._gates(is_open=False)
        await stop_run(self.it)
        await self.watch.until(self.of("Close_RBV"), MINOR)
        await self._gates(is_open=True)
        await self.it.ok("Run:CloseAgain")
        await self.watch.until(self.of("Close_RBV"), OK)
        await start_run(self.it)
        await self.watch.until(configs, OK)
        await stop_run(self.it)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_alarm_of_the_data_routers(tmp_path, monkeypatch):
    text = section(watch={"timeout_s": 5.0}, limits=LIMITS, closing={"quiet_s": 0.4}, events=EVENTS)
    backup = tmp_path / "backup"
    backup.mkdir()
    text += f'\n[{SECTION}.backup]\nfolder = "{backup}"'
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH, text=text) as it:
        entries = [entry for entry in exported(it, tmp_path) if entry.row.plugin]
        async with watching(it.place, [entry.name for entry in entries]) as watch:
            data = Data(it, watch, backup)
            await watch.until(watch.now.keys(), OK)
            await data.disks()
            await start_run(it)
            await data.flow()
            await data.sync()
            await data.time_to_full()
            await data.hosts_gone()
            await data.missing()
            await data.closing()
            await data.configs()
            await data.routers()
            assert watch.missing(expected(it, entries, DATA)) == {}
            await watch.until(watch.now.keys(), OK)
