"""The records as EPICS base's own programs see them, over real Channel Access."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from attpc_ioc.errors import Refused
from attpc_ioc.ioc.server import IocServer
from attpc_ioc.model.command import RUN, SYSTEM, Put, ResultCode, ScopeKind, ecc_scope
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.states import State
from attpc_ioc.pvs.row import Limits, Record, Row
from tests.support.ca import CaPlace, ca_place, caget, camonitor, caput
from tests.support.fakecontrol import FakeController
from tests.support.fleets import make_fleet, make_settings, table_of, with_module
from tests.support.patience import PATIENCE_S

LONG = ConfigName("describe-of-the-boards", "experiment-with-a-long-name", "experiment-with-a-long-name")
PLUGIN_ROWS = (
    Row(
        "Gas",
        ScopeKind.SYSTEM,
        Record.AO,
        "Wanted pressure",
        initial=0.0,
        setpoint="gas",
        plugin="gas",
        units="mbar",
        limits=Limits(drvl=0.0, drvh=1000.0),
    ),
)


@dataclass
class Ioc:
    place: CaPlace
    server: IocServer
    control: FakeController
    puts: list[Put] = field(default_factory=list)
    written: list[tuple[str, object]] = field(default_factory=list)

    async def get(self, name: str, *options: str) -> str:
        ran = await caget(self.place, "-t", *options, f"T:{name}")
        assert ran.code == 0, ran.both
        return ran.out.rstrip("\n")

    async def put(self, name: str, *value: str) -> int:
        """Put with completion and return the exit code."""
        return (await caput(self.place, "-c", "-w", str(PATIENCE_S), "-t", f"T:{name}", *value)).code

    async def put_text(self, name: str, text: str) -> int:
        return (await caput(self.place, "-c", "-w", str(PATIENCE_S), "-S", f"T:{name}", text)).code


@contextlib.asynccontextmanager
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ioc]:
    place = ca_place()
    place.put_into(monkeypatch)
    settings = make_settings(
        2, server_port=place.port, interfaces=["127.0.0.1"], engineer="Ann", location="Hall"
    )
    table = table_of(settings, PLUGIN_ROWS, ["gas"])
    fleet = with_module(make_fleet(settings), "cobo0", offered=(LONG,), selected=LONG)
    control = FakeController(fleet)
    ioc: Ioc

    async def write(entry, value, who):
        if value == 13.0:
            raise Refused("not that one")
        ioc.written.append((entry.name, value))

    server = IocServer(
        settings, table, control, on_put=lambda put: ioc.puts.append(put), write_plugin_row=write
    )
    ioc = Ioc(place, server, control)
    await server.start()
    live = asyncio.create_task(server.run())
    try:
        yield ioc
    finally:
        live.cancel()
        await asyncio.gather(live, return_exceptions=True)
        await server.stop()
        place.close()


@pytest.fixture
async def ioc(monkeypatch):
    async with serve(monkeypatch) as served:
        yield served


async def test_values_labels_and_fields(ioc):
    assert await ioc.get("State_RBV") == "Idle"
    assert await ioc.get("Ecc:cobo0:State_RBV", "-n") == "1"
    assert await ioc.get("Ecc:cobo0:State_RBV.RTYP") == "mbbi"
    assert await ioc.get("Ecc:cobo0:State_RBV.DESC") == "State of the ECC server"
    assert await ioc.get("Ecc:cobo0:State_RBV.ZRSV") == "MAJOR"
    assert await ioc.get("Run:MaxDuration.EGU") == "s"
    assert await ioc.get("Run:Title.RTYP") == "waveform"
    assert await ioc.get("MuTAnT:Id_RBV") == "Mutant[master]"


async def test_lists_are_cut_at_39_bytes_and_whole_in_their_twin(ioc):
    assert (await ioc.get("Ecc:cobo0:Configs_RBV", "-c")).strip() == str(LONG)[:39]
    assert await ioc.get("Ecc:cobo0:ConfigList_RBV", "-S") == str(LONG)
    assert await ioc.get("Ecc:cobo0:Config_RBV", "-S") == str(LONG)


async def test_a_client_sees_every_state_in_order_with_increasing_stamps(ioc):
    async with camonitor(ioc.place, "T:Ecc:cobo0:State_RBV") as monitor:
        await monitor.until_text("Idle")
        for state in (State.DESCRIBED, State.PREPARED, State.READY, State.OFFLINE):
            ioc.control.change_module("cobo0", state=state)
        lines = await monitor.until(5)
    fields = [line.split() for line in lines]
    assert [f[3] for f in fields] == ["Idle", "Described", "Prepared", "Ready", "Offline"]
    assert fields[-1][4:] == ["COMM", "INVALID"]
    stamps = [(f[1], f[2]) for f in fields]
    assert stamps == sorted(set(stamps))


async def test_a_command_completes_when_it_is_done_and_reads_busy_meanwhile(ioc):
    ioc.control.go.clear()
    putting = asyncio.create_task(ioc.put("Describe", "1"))
    async with camonitor(ioc.place, "T:Describe", "T:Result_RBV") as monitor:
        await monitor.until_text("Describe", 5)
        await monitor.until_text("Busy")
        assert await ioc.get("Describe") == "Busy"
        assert await ioc.get("Result_RBV") == "Busy"
        assert not putting.done()
        ioc.control.go.set()
        assert await putting == 0
    assert await ioc.get("Describe") == "Done"
    assert await ioc.get("Result_RBV") == "Done"
    assert await ioc.get("ResultCount_RBV") == "1"
    command = ioc.control.commands[0]
    assert (command.scope, str(command)) == (SYSTEM, "Describe")
    assert command.who.user
    assert command.who.address.startswith("127.0.0.1")
    assert [(p.pv, p.old, p.new, p.ok) for p in ioc.puts] == [("T:Describe", "Done", "Busy", True)]


async def test_writing_zero_or_none_to_a_command_does_nothing(ioc):
    assert await ioc.put("Describe", "0") == 0
    assert await ioc.put("GoTo", "None") == 0
    assert ioc.control.commands == []
    assert [put.ok for put in ioc.puts] == [True, True]


async def test_go_to_takes_its_target(ioc):
    assert await ioc.put("Ecc:mutant:GoTo", "Prepared") == 0
    command = ioc.control.commands[0]
    assert (command.scope, command.target) == (ecc_scope("mutant"), State.PREPARED)
    assert await ioc.get("Ecc:mutant:GoTo") == "None"


@pytest.mark.parametrize(
    "code", [ResultCode.REFUSED, ResultCode.FAILED, ResultCode.ABORTED, ResultCode.INCOMPLETE]
)
async def test_a_command_that_does_not_end_well_fails_the_put_without_an_alarm_on_it(ioc, code):
    ioc.control.code, ioc.control.text = code, "cobo0 is elsewhere"
    assert await ioc.put("Run:Start", "1") == 1
    assert await ioc.get("Run:Result_RBV") == code.label
    assert await ioc.get("Run:Message_RBV", "-S") == f"Run:Start {code.label}: cobo0 is elsewhere"
    assert await ioc.get("Run:Start.SEVR") == "NO_ALARM"
    assert await ioc.get("Run:Start") == "Done"
    assert [(p.ok, p.reason) for p in ioc.puts] == [(False, f"Run:Start {code.label}: cobo0 is elsewhere")]


async def test_setpoints_reach_the_controller_and_read_back(ioc):
    title = "Überprüfung αβγ " + "x" * 184
    assert await ioc.put_text("Run:Title", title) == 0
    assert await ioc.get("Run:Title", "-S") == title
    assert await ioc.put("Ecc:cobo1:Enable", "No") == 0
    assert await ioc.get("Ecc:cobo1:Enable") == "No"
    assert await ioc.get("Ecc:cobo1:Enable.SEVR") == "MINOR"
    assert await ioc.put("Run:Class", "Beam") == 0
    assert await ioc.put("Run:MaxDuration", "12.5") == 0
    assert await ioc.put("ConfigIndex", "2") == 0
    assert [(name, scope, value) for name, scope, value, _ in ioc.control.sets] == [
        ("title", RUN, title),
        ("enable", ecc_scope("cobo1"), 0),
        ("run_class", RUN, 2),
        ("max_duration", RUN, 12.5),
        ("config_index", SYSTEM, 2),
    ]
    assert [(p.old, p.new) for p in ioc.puts][:4] == [
        ("", title),
        ("Yes", "No"),
        ("Testing", "Beam"),
        ("0 s", "12 s"),
    ]


async def test_a_refused_setpoint_fails_the_put_and_changes_nothing(ioc):
    ioc.control.refuse = "a run is on"
    assert await ioc.put_text("Run:Experiment", "e2") == 1
    assert await ioc.get("Run:Experiment", "-S") == ""
    assert await ioc.get("Run:Experiment.SEVR") == "NO_ALARM"
    assert [(p.pv, p.new, p.ok, p.reason) for p in ioc.puts] == [
        ("T:Run:Experiment", "e2", False, "a run is on")
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Run:Class", "99"),
        ("GoTo", "9"),
        ("Run:MaxDuration", "-1"),
        ("Run:MaxDuration", "nan"),
        ("Run:MaxDuration", "soon"),
        ("ConfigIndex", "1.5"),
        ("Describe", "Perhaps"),
    ],
)
async def test_what_a_record_cannot_take_reaches_the_scope_and_the_put_log(ioc, name, value):
    assert await ioc.put(name, value) != 0
    assert ioc.control.sets == []
    assert ioc.control.commands == []
    told = [(scope, attempt) for scope, _, _, attempt in ioc.control.rejects]
    if told:  # what caput itself refuses to send never gets here
        assert told == [(RUN if name.startswith("Run:") else SYSTEM, True)]
        assert [(p.pv, p.ok) for p in ioc.puts] == [(f"T:{name}", False)]
        assert ioc.puts[0].reason


async def test_a_title_of_201_characters_is_refused(ioc):
    assert await ioc.put_text("Run:Title", "ü" * 201) == 1
    scope, text, who, attempt = ioc.control.rejects[0]
    assert (scope, attempt) == (RUN, True)
    assert text.startswith("Title: ")
    assert who.user
    assert ioc.control.sets == []


async def test_nobody_writes_a_read_back(ioc):
    assert await ioc.put("State_RBV", "Ready") != 0
    assert await ioc.get("State_RBV") == "Idle"


async def test_a_write_to_a_plugins_row_goes_to_its_owner(ioc):
    assert await ioc.put("Gas", "20.5") == 0
    assert await ioc.put("Gas", "13") == 1
    assert await ioc.put("Gas", "1001") == 1
    assert ioc.written == [("T:Gas", 20.5)]
    assert [(p.ok, p.reason) for p in ioc.puts][:2] == [(True, ""), (False, "not that one")]
    assert ioc.control.rejects == []


async def test_dev_ioc_stats_tell_the_truth(ioc):
    async with camonitor(ioc.place, "T:IOC:HEARTBEAT") as monitor:
        await monitor.until(3)
        beats = [float(line.split()[3]) for line in monitor.lines]
    assert beats[-1] - beats[0] == len(beats) - 1
    assert await ioc.get("IOC:ENGINEER") == "Ann"
    assert await ioc.get("IOC:LOCATION") == "Hall"
    assert int(await ioc.get("IOC:RECORD_CNT")) == len(ioc.server.pvs)
    assert float(await ioc.get("IOC:MEM_USED")) > 1e6
    assert await ioc.get("IOC:MEM_USED.EGU") == "byte"
    assert float(await ioc.get("IOC:FD_FREE")) > 20
    assert (await ioc.get("IOC:UPTIME")).startswith("00:00:")
    assert await ioc.get("IOC:ClockStep_RBV") == "0"


async def test_only_the_clocks_of_the_ioc_tick_while_nothing_happens(ioc):
    ticking = ("T:IOC:HEARTBEAT", "T:IOC:TOD", "T:IOC:UPTIME")
    # Rates come to rest a second after the last client did something.
    quiet = [name for name in ioc.server.pvs if name not in ticking and not name.endswith("_RATE")]
    async with camonitor(ioc.place, "T:IOC:HEARTBEAT") as monitor:
        await monitor.until(2)  # by now the client has been counted
        before = {name: ioc.server.pvs[name].stamp_ns for name in quiet}
        await monitor.until(4)
        assert [name for name in quiet if ioc.server.pvs[name].stamp_ns != before[name]] == []
        assert await ioc.get("IOC:CA_CLNT_CNT") in ("1", "2")


async def test_an_access_rule_withdraws_writing(ioc, monkeypatch):
    class Rule:
        def rights(self, entry, who, *, is_field):
            return True, entry.row.part != "Title" and bool(who.user)

    ioc.server._access = Rule()
    assert await ioc.put_text("Run:Operator", "Ann") == 0
    assert await ioc.put_text("Run:Title", "t") != 0
    assert [name for name, *_ in ioc.control.sets] == ["operator"]
    assert replace(ioc.puts[0], time_s=0.0).new == "Ann"


async def test_a_fault_of_the_program_fails_the_put_and_nothing_else(ioc, monkeypatch):
    async def broken(command):
        raise RuntimeError("a fault")

    monkeypatch.setattr(ioc.control, "submit", broken)
    assert await ioc.put("Describe", "1") == 1
    assert await ioc.get("Describe") == "Done"
    assert [(p.ok, p.reason) for p in ioc.puts] == [(False, "fault of the program: a fault")]


async def test_a_put_log_that_fails_does_not_fail_the_put(ioc):
    ioc.puts = None  # so that the recording of a put raises
    assert await ioc.put("Run:Class", "Junk") == 0
    assert [name for name, *_ in ioc.control.sets] == ["run_class"]


async def test_a_put_that_is_running_when_the_ioc_stops_is_recorded(ioc):
    ioc.control.go.clear()
    async with camonitor(ioc.place, "T:Describe") as monitor:
        putting = asyncio.create_task(ioc.put("Describe", "1"))
        await monitor.until_text("Busy")
        await ioc.server.stop()
        assert await putting != 0
    assert [(p.ok, p.reason) for p in ioc.puts] == [(False, "the IOC stopped before it was done")]
