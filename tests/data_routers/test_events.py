"""Events: what the frames of a run show at a client, with faults of the boards switched while it runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tomlkit
from attpc_plugins.data_routers.service import Service
from attpc_plugins.data_routers.watch.router import Router

from attpc_ioc.model.events import RunFiles
from attpc_ioc.model.run import RunState
from attpc_ioc.settings import load_settings
from attpc_ioc.simulator.data.frames import cobo_frame
from attpc_ioc.simulator.data.options import Access
from attpc_ioc.simulator.data.orders import Amounts, HostFault, switch
from tests.rules.test_run_recovery import take_to_ready
from tests.support.ca import camonitor, eventually
from tests.support.data_rig import alarm, data_rig, section, shown, start_run, stop_run
from tests.support.iocprocess import ioc_process
from tests.support.probe import Probe
from tests.support.rig import Rig
from tests.support.state_dir import change, kept

LOOKED_AT = [pytest.param(Access.LOCAL, id="local"), pytest.param(Access.SSH, id="ssh")]

CLOCKS = "data_routers/clocks"

BOARDS = ("CoBo0", "CoBo1", "CoBo2", "MuTAnT")

PARTS = {
    "Router:Events_RBV": "ai",
    "Router:EventRate_RBV": "ai",
    "Router:Streams_RBV": "longin",
    "Router:Missing_RBV": "longin",
    "Router:Resets_RBV": "longin",
    "Router:Sync_RBV": "mbbi",
    "Router:SyncText_RBV": "waveform",
}
RUN_PARTS = {
    "Run:Events_RBV": "ai",
    "Run:EventRate_RBV": "ai",
    "Run:Missing_RBV": "ai",
    "Run:Triggers_RBV": "waveform",
    "Run:Sync_RBV": "mbbi",
    "Run:SyncText_RBV": "waveform",
    "Run:MaxEvents": "ao",
    "Run:MaxWritten": "ao",
}


async def in_step(it: Rig, boards: tuple[str, ...] = BOARDS) -> None:
    """Wait until all boards have events and are in step."""
    for board in boards:
        await it.until(
            lambda b=board: shown(it, f"{b}:Router:Sync_RBV") == 1,
            what=f"{board} in step: {shown(it, f'{board}:Router:SyncText_RBV')}",
        )


@pytest.mark.parametrize("access", LOOKED_AT)
async def test_a_run_whose_boards_are_in_step(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access) as it:
        for part, rtyp in PARTS.items():
            assert await it.get(f"CoBo0:{part}.RTYP") == rtyp, part
        for name, rtyp in RUN_PARTS.items():
            assert await it.get(f"{name}.RTYP") == rtyp, name
            # A host may miss its two short periods on a busy machine, and then another.
            await it.until(lambda name=name: alarm(it, name) == "NO_ALARM", what=f"{name} is in no alarm")
        assert shown(it, "Run:Sync_RBV") == 0
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await it.until(lambda: shown(it, "Run:Events_RBV") > 60, what="events of the run")
        await it.until(lambda: 40 < shown(it, "Run:EventRate_RBV") < 60, what="rate of the run")
        for board in ("CoBo0", "CoBo1", "MuTAnT"):
            await it.until(
                lambda b=board: 40 < shown(it, f"{b}:Router:EventRate_RBV") < 60, what=f"rate of {board}"
            )
            assert shown(it, f"{board}:Router:Streams_RBV") == (1 if board == "MuTAnT" else 2)
            assert shown(it, f"{board}:Router:Missing_RBV") == shown(it, f"{board}:Router:Resets_RBV") == 0
        assert shown(it, "Run:Missing_RBV") == 0
        assert shown(it, "Run:Sync_RBV") == 1
        await stop_run(it)
        await it.until(
            lambda: all(shown(it, f"{b}:Router:Close_RBV") == 3 for b in ("CoBo0", "CoBo1", "MuTAnT")),
            what="files closed",
        )
        counts = {board: shown(it, f"{board}:Router:Events_RBV") for board in ("CoBo0", "CoBo1", "MuTAnT")}
        assert len(set(counts.values())) == 1, counts
        assert shown(it, "Run:Events_RBV") == counts["CoBo0"] + 1
        assert list(shown(it, "Run:Triggers_RBV")) == 4 * [counts["CoBo0"] + 1]
        assert shown(it, "Run:Sync_RBV") == 1
        # The next run begins anew.
        await start_run(it)
        await it.until(lambda: shown(it, "Run:Events_RBV") < counts["CoBo0"], what="the next run's events")
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        assert shown(it, "CoBo0:Router:Resets_RBV") == 0


async def test_what_was_wrong_with_a_board_is_in_the_runs_record(tmp_path, monkeypatch, caplog):
    probe = Probe()

    def done(number: int) -> str:
        files = (e for e in probe.of(RunFiles) if (e.number, e.router) == (number, "CoBo1"))
        return next((f"{e.message}, {e.sync}" for e in files if e.state == "Done"), "")

    begin = Service._begin

    def polled_just_before(self: Service, *about: Any) -> Any:
        """A poll may be answered when the next run is begun and its events are not looked at yet."""
        for router in self.routers:
            self._on_poll(router)
        return begin(self, *about)

    monkeypatch.setattr(Service, "_begin", polled_just_before)
    async with data_rig(tmp_path, monkeypatch, plugins=[("probe", probe)]) as it:
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_RESET)
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 4, what="the reset")
        await it.until(
            lambda: any("counter was reset" in str(vars(record)) for record in caplog.records), what="the log"
        )
        assert alarm(it, "CoBo1:Router:Sync_RBV") == alarm(it, "Run:Sync_RBV") == "MAJOR"
        await stop_run(it)
        await it.until(lambda: done(0), what="files closed")
        # The state stays until the next run, and is no alarm for ever.
        for pv in ("CoBo1:Router:Sync_RBV", "Run:Sync_RBV"):
            await it.until(lambda pv=pv: alarm(it, pv) == "NO_ALARM", what=f"{pv} is no alarm")
            assert shown(it, pv) == 4
        said = shown(it, "CoBo1:Router:SyncText_RBV")
        assert said.endswith("_0000.graw begins"), "nothing is to be done any more"
        assert "Reset: CoBo1 AsAd0, AsAd1: its event counter was reset" in done(0)
        assert re.search(r"after event \d+, where \S+ begins \(seen at [\d:]+\)", done(0)), done(0)
        assert done(0).endswith(", Reset")
        # The next run has nothing of it.
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_RESET, on=False)
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await stop_run(it)
        await it.until(lambda: done(1), what="files of the next run closed")
        assert "event counter" not in done(1)
        assert done(1).endswith(", ")


@pytest.mark.parametrize("access", LOOKED_AT)
async def test_missing_events_are_counted(tmp_path, monkeypatch, access):
    soon = section(events={"missing_after_s": 0.5})
    async with data_rig(tmp_path, monkeypatch, access=access, text=soon) as it:
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_LOSE, amounts=Amounts(factor=0.5))
        await it.until(lambda: shown(it, "CoBo1:Router:Missing_RBV") > 40, what="missing events")
        await it.until(lambda: alarm(it, "CoBo1:Router:Missing_RBV") == "MAJOR", what="its alarm")
        await it.until(lambda: alarm(it, "Run:Missing_RBV") == "MAJOR", what="the run's alarm")
        assert shown(it, "Run:Missing_RBV") > 10
        text = await it.get_text("AlarmText_RBV")
        assert re.search(r"CoBo1 AsAd0(, CoBo1 AsAd1)?: more than 10 % of the events of the", text), text
        assert shown(it, "CoBo0:Router:Missing_RBV") == 0
        assert alarm(it, "CoBo0:Router:Missing_RBV") == "NO_ALARM"
        assert shown(it, "CoBo1:Router:Sync_RBV") == 1


UNTIL = [
    pytest.param("MaxEvents", "40", r"stopped: it has \d+ events, Run:MaxEvents is 40", id="events"),
    pytest.param(
        "MaxWritten", "0.001", r"stopped: it has 0\.\d+ GB, Run:MaxWritten is 0.001 GB", id="written"
    ),
]


@pytest.mark.parametrize(("pv", "value", "reason"), UNTIL)
async def test_a_run_is_stopped_where_it_has_as_much_as_it_should(tmp_path, monkeypatch, pv, value, reason):
    async with data_rig(tmp_path, monkeypatch) as it:
        assert (await it.put(f"Run:{pv}", value)).code == 0
        assert (await it.put(f"Run:{pv}", "-1")).code != 0
        assert await it.get(f"Run:{pv}") == value
        await start_run(it)
        await it.until_run(RunState.STOPPED)
        await it.until(lambda: re.search(reason, shown(it, "Run:Message_RBV")), what="the message says why")
        await it.until(lambda: shown(it, "Plugin:data_routers:Status_RBV") == 1, what="nothing is wrong")
        assert await it.get(f"Run:{pv}") == value  # of the next run too
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: shown(it, f"Run:{pv}") == float(value), what="kept over a restart")


@pytest.mark.parametrize("access", LOOKED_AT)
async def test_a_restarted_ioc_goes_on_with_what_it_knew(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access) as it:
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_RESET)
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 4, what="the reset")
        before = shown(it, "CoBo0:Router:Events_RBV")
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: shown(it, "CoBo0:Router:Events_RBV") > before, what="events go on")
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 4, what="the reset, once more")
        assert shown(it, "CoBo1:Router:Resets_RBV") == 2  # of each AsAd
        assert shown(it, "CoBo0:Router:Missing_RBV") == 0
        assert shown(it, "CoBo0:Router:Sync_RBV") == 1


async def test_a_clock_that_jumps_while_the_ioc_is_away_is_seen(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, start=False) as it, ioc_process(it) as ioc:
        await take_to_ready(it)

        async def starts() -> bool:
            return (await it.put("Run:Start")).code == 0

        await eventually(starts, "the run")

        def against_the_mutant() -> int:
            """Of how many senders it is kept; before its first frame it is against another one's clock."""
            learned = kept(tmp_path / "state", CLOCKS).get("last", {}).get("learned", ())
            return sum(pair.startswith("MuTanT ") for pair in learned)

        await eventually(lambda: against_the_mutant() == 4, "the differences are on disk")
        await ioc.kill()
        # Nothing is known but the differences: no frame from before.
        change(tmp_path / "state", "DELETE FROM kept WHERE topic = 'data_routers/frames'")
        host = it.fleet.data["CoBo[1]"]
        for file in host.staging.glob("*.graw"):
            file.write_bytes(b"")
        await switch(host, HostFault.DATA_CLOCK, amounts=Amounts(extra_s=1e-5))
        await ioc.start()
        await ioc.shows("CoBo1:Router:Sync_RBV", "OutOfStep")
        assert "10 us later" in await it.get_text("CoBo1:Router:SyncText_RBV")
        await ioc.shows("CoBo0:Router:Sync_RBV", "InStep")


async def test_boards_that_are_not_looked_at_are_named_and_the_text_says_what_to_do(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, start=False) as it:
        document = tomlkit.parse(it.settings_file.read_text(encoding="utf-8"))
        routers: Any = document["plugins"]["data_routers"]  # type: ignore[index]
        sentry = tomlkit.table()
        sentry.update({"sources": ["CoBo1"], "access": "sentry", "host": "127.0.0.1", "port": 9})
        routers["router"][1] = sentry
        routers["interlocks"] = {"router_down": "warn"}
        it.settings_file.write_text(tomlkit.dumps(document), encoding="utf-8")
        it.settings = load_settings(it.settings_file)
        await it.start_ioc()
        await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()), what="fleet")
        await start_run(it)
        await in_step(it, ("CoBo0", "MuTAnT"))
        said = "2 of 3 boards are in step; not looked at: CoBo1"
        await it.until(lambda: shown(it, "Run:SyncText_RBV") == said, what="the others are in step")
        assert shown(it, "Run:Sync_RBV") == 0, "whether all are is not known"
        assert "'staging' and 'frames' in its [[plugins.data_routers.router]]" in shown(
            it, "CoBo1:Router:SyncText_RBV"
        )
        await switch(it.fleet.data["CoBo[0]"], HostFault.DATA_RESET)
        await it.until(lambda: shown(it, "Run:Sync_RBV") == 4, what="the reset")
        assert (
            "; not looked at: CoBo1 -- its data from then on cannot be merged: stop the run, GoTo Idle"
            in shown(it, "Run:SyncText_RBV")
        )
        await stop_run(it)


async def test_the_events_of_a_run_go_on_over_a_reset(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch) as it:
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await it.until(lambda: shown(it, "Run:Events_RBV") > 100, what="events")
        async with camonitor(it.place, f"{it.prefix}Run:Events_RBV") as monitor:
            await monitor.until(1)
            before = shown(it, "Run:Events_RBV")
            await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_RESET)
            await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 4, what="the reset")
            await it.until(lambda: shown(it, "CoBo1:Router:Events_RBV") < before, what="its own number")
            await it.until(lambda: shown(it, "Run:Events_RBV") > before + 20, what="more events")
            seen = [float(line.split()[3]) for line in monitor.lines]
        assert seen == sorted(seen)
        assert shown(it, "CoBo1:Router:Events_RBV") < shown(it, "Run:Events_RBV")
        await stop_run(it)


async def test_a_host_that_does_not_answer_makes_its_figures_invalid(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH) as it:
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        host = it.fleet.data["CoBo[1]"]
        await switch(host, HostFault.DOWN)
        await it.until(lambda: alarm(it, "CoBo1:Router:Sync_RBV") == "INVALID", what="INVALID")
        assert alarm(it, "CoBo1:Router:Events_RBV") == "INVALID"
        assert "cannot be looked at" in shown(it, "CoBo1:Router:SyncText_RBV")
        await it.until(
            lambda: alarm(it, "CoBo0:Router:Sync_RBV") == alarm(it, "Run:Events_RBV") == "NO_ALARM",
            what="the others are looked at",
        )
        for other in it.fleet.data:
            await switch(other, HostFault.DOWN)
        await it.until(lambda: alarm(it, "Run:Events_RBV") == "INVALID", what="the run's are INVALID too")
        for other in it.fleet.data:
            await switch(other, HostFault.DOWN, on=False)
        await it.until(lambda: alarm(it, "Run:Events_RBV") == "NO_ALARM", what="the run's are valid again")
        await it.until(lambda: alarm(it, "CoBo1:Router:Sync_RBV") == "NO_ALARM", what="it answers again")
        assert shown(it, "CoBo1:Router:Missing_RBV") == 0


async def test_boards_are_compared_with_those_whose_hosts_answer(tmp_path, monkeypatch):
    text = section(events={"behind_s": 3.0})
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH, text=text, cobos=3) as it:
        await start_run(it)
        await in_step(it)
        for number in (0, 1):
            await switch(it.fleet.data[f"CoBo[{number}]"], HostFault.DOWN)
            name = f"CoBo{number}:Router:Sync_RBV"
            await it.until(lambda n=name: alarm(it, n) == "INVALID", what=f"{name} INVALID")
        await in_step(it, ("CoBo2", "MuTAnT"))
        await switch(it.fleet.data["Mutant[master]"], HostFault.DATA_STOP)
        await it.until(lambda: shown(it, "MuTAnT:Router:Sync_RBV") == 2, what="MuTAnT behind")
        assert shown(it, "CoBo2:Router:Sync_RBV") == 1


async def test_streams_from_before_the_run_are_not_looked_at(tmp_path, monkeypatch):
    def grow(part: int) -> None:
        path = host.staging / f"CoBo1_AsAd0_2020-01-01T00:00:00.000_{part:04d}.graw"
        frames = [cobo_frame(event, event, 1, 0, 10) for event in range(9)]
        with path.open("ab") as file:
            file.write(b"".join(frame.head.ljust(frame.length, b"\0") for frame in frames))

    async with data_rig(tmp_path, monkeypatch) as it:
        host = it.fleet.data["CoBo[1]"]
        grow(0)
        await it.until(lambda: shown(it, "CoBo1:Router:Clean_RBV") == 0, what="the stray file")
        assert (await it.put("Run:Override", "Yes")).code == 0
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        grow(0)
        grow(1)
        events = shown(it, "CoBo1:Router:Events_RBV")
        await it.until(lambda: shown(it, "CoBo1:Router:Events_RBV") > events + 40, what="more events")
        assert shown(it, "CoBo1:Router:Resets_RBV") == 0
        assert shown(it, "CoBo1:Router:Streams_RBV") == 2
        assert shown(it, "CoBo1:Router:Sync_RBV") == 1


async def test_nothing_is_looked_at_where_the_settings_say_so(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, text=section(events={"enabled": False})) as it:
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo1:Router:Files_RBV") == 2, what="files of the run")
        await it.until(lambda: shown(it, "CoBo1:Router:Flow_RBV") == 1, what="data")
        assert shown(it, "CoBo1:Router:Sync_RBV") in (None, 0)
        assert "switched off by events.enabled" in shown(it, "CoBo1:Router:SyncText_RBV")
        assert shown(it, "Run:Events_RBV") in (None, 0)


@pytest.mark.parametrize("frames", ["local", "ssh"])
async def test_frames_beside_a_sentry_are_looked_at(tmp_path, monkeypatch, shared_sshd, frames):
    """The sentries are simulated; their hosts' folders are reached through a real server too."""
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, start=False) as it:
        document = tomlkit.parse(it.settings_file.read_text(encoding="utf-8"))
        routers: Any = document["plugins"]["data_routers"]  # type: ignore[index]
        routers |= {"ssh_config": str(shared_sshd.config), "known_hosts": str(shared_sshd.known_hosts)}
        for router, host in zip(routers["router"], it.fleet.data, strict=True):
            router |= {"staging": str(host.staging), "frames": frames}
            if frames == "ssh":
                router |= {"frames_port": shared_sshd.port, "user": shared_sshd.user}
        it.settings_file.write_text(tomlkit.dumps(document), encoding="utf-8")
        it.settings = load_settings(it.settings_file)
        await it.start_ioc()
        await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()), what="fleet")
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await it.until(lambda: shown(it, "Run:Events_RBV") > 20, what="events")
        await stop_run(it)


async def test_what_was_seen_since_the_last_poll_of_a_host_is_in_the_record_of_the_run(tmp_path, monkeypatch):
    """The run is stopped as soon as the board is shown as out of step, before its router is polled again."""
    probe, polled = Probe(), Service._on_poll
    rigs: list[Rig] = []

    def on_poll(service: Service, router: Router) -> None:
        if not any(it.run.on and shown(it, "CoBo1:Router:Sync_RBV") == 3 for it in rigs):
            polled(service, router)

    monkeypatch.setattr(Service, "_on_poll", on_poll)
    async with data_rig(tmp_path, monkeypatch, plugins=[("probe", probe)]) as it:
        rigs.append(it)
        await start_run(it)
        await in_step(it, ("CoBo0", "CoBo1", "MuTAnT"))
        await it.until(lambda: shown(it, "Run:Events_RBV") > 50, what="some events compared")
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_CLOCK)
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 3, what="it is out of step")
        await stop_run(it)

        def done() -> dict[str, RunFiles]:
            return {event.router: event for event in probe.of(RunFiles) if event.state == "Done"}

        await it.until(lambda: len(done()) == 3, what="all closed")
        assert {router: event.sync for router, event in done().items()} == {
            "CoBo0": "",
            "CoBo1": "OutOfStep",
            "MuTAnT": "",
        }
        remark = r"; OutOfStep: CoBo1 AsAd0, AsAd1: out of step .* since [\d:]+ until the run's end"
        assert re.search(remark, done()["CoBo1"].message), done()["CoBo1"].message
