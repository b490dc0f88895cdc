"""The PV table against the contract: names, record types and enum numbers, written down by hand."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.command import COMMANDS, ScopeKind
from attpc_ioc.pvs.row import Record, Row
from attpc_ioc.pvs.table import CORE_ROWS, MAX_NAME
from attpc_ioc.pvs.tables import tables
from tests.support.fleets import make_settings, table_of
from tests.support.pages import ROOT

RESULT = """
Result_RBV mbbi
ResultCount_RBV longin
Message_RBV lsi
Allowed_RBV longin
"""

SYSTEM = f"""
Describe bo
Prepare bo
Configure bo
Reset bo
Abort bo
GoTo mbbo
RefreshConfigs bo
State_RBV mbbi
Alarm_RBV mbbi
AlarmText_RBV lsi
Refused_RBV lsi
Busy_RBV bi
Operation_RBV stringin
Progress_RBV ai
{RESULT}
Online_RBV longin
Enabled_RBV longin
Count_RBV longin
Config lsi
Config_RBV lsi
ConfigNames_RBV strings
ConfigIndex longout
"""

ECC = f"""
Describe bo
Prepare bo
Configure bo
Start bo
Stop bo
Breakup bo
Undo bo
Reset bo
GoTo mbbo
RefreshConfigs bo
State_RBV mbbi
Transition_RBV mbbi
Online_RBV bi
Enable bo
Config lsi
Config_RBV lsi
Configs_RBV strings
ConfigList_RBV lsi
ConfigCount_RBV longin
ConfigIndex longout
Loaded_RBV lsi
ClockStale_RBV bi
{RESULT}
ErrorCode_RBV longin
TransitionTime_RBV ai
PollTime_RBV ai
PollErrors_RBV longin
Url_RBV lsi
Sources_RBV lsi
"""

SOURCE = """
State_RBV mbbi
Ecc_RBV stringin
Id_RBV stringin
"""

RUN = f"""
Start bo
Stop bo
Adopt bo
State_RBV mbbi
{RESULT}
Ready_RBV bi
Checklist_RBV lsi
Modules_RBV longin
Expected_RBV longin
Lost_RBV lsi
Number_RBV longin
NextNumber_RBV longin
Experiment lsi
Experiment_RBV lsi
Title lsi
Operator lsi
Class mbbo
StartTime_RBV stringin
StopTime_RBV stringin
Duration_RBV ai
DurationText_RBV stringin
MaxDuration ao
"""

IOC = """
ACCESS mbbo
STARTTOD stringin
TOD stringin
HEARTBEAT calcout
UPTIME stringin
CA_CLNT_CNT ai
CA_CONN_CNT ai
CA_SUB_CNT ai
CA_QUEUED ai
CA_QUEUED_BYTES ai
CA_QUEUE_MAX ai
CA_DROPPED ai
CA_DISCON_CNT ai
CA_REFUSED ai
PVA_CLNT_CNT ai
PVA_PV_CNT ai
PVA_REFUSED ai
CA_EVENT_RATE ai
CA_GET_RATE ai
CA_PUT_RATE ai
CA_SEARCH_RATE ai
RECORD_CNT ai
FD_MAX ai
FD_CNT ai
FD_FREE calc
SYS_CPU_LOAD ai
IOC_CPU_LOAD ai
CPU_CNT ai
MEM_USED ai
MEM_FREE ai
MEM_MAX ai
KERNEL_VERS stringin
EPICS_VERS stringin
EPICS_VERSION lsi
HOSTNAME stringin
APP_DIR1 stringin
APP_DIR2 stringin
APP_DIR lsi
ENGINEER stringin
LOCATION stringin
PROCESS_ID ai
PARENT_ID ai
AccessFile_RBV mbbi
AccessText_RBV lsi
OtherServers_RBV lsi
PvAccess_RBV mbbi
PvAccessText_RBV lsi
ClockStep_RBV ai
"""

PLUGIN = """
Status_RBV mbbi
Message_RBV lsi
"""


def listed(prefix: str, text: str) -> dict[str, str]:
    return {prefix + line.split()[0]: line.split()[1] for line in text.splitlines() if line}


CONTRACT = {
    **listed("T:", SYSTEM),
    **listed("T:Ecc:cobo0:", ECC),
    **listed("T:Ecc:mutant:", ECC),
    **listed("T:CoBo0:", SOURCE),
    **listed("T:MuTAnT:", SOURCE),
    **listed("T:Run:", RUN),
    **listed("T:IOC:", IOC),
    **listed("T:Plugin:history:", PLUGIN),
}

LABELS = {
    "T:State_RBV": "Off Idle Described Prepared Ready Running Paused Offline Mixed",
    "T:Ecc:cobo0:State_RBV": "Off Idle Described Prepared Ready Running Paused Offline",
    "T:CoBo0:State_RBV": "Off Idle Described Prepared Ready Running Paused Offline",
    "T:Ecc:cobo0:Transition_RBV": "None Describe Prepare Configure Start Stop Pause Resume Breakup Undo",
    "T:GoTo": "None Idle Described Prepared Ready",
    "T:Ecc:cobo0:GoTo": "None Idle Described Prepared Ready",
    "T:Describe": "Done Busy",
    "T:Run:Start": "Done Busy",
    "T:Result_RBV": "None Busy Done Refused Failed Aborted TimedOut Incomplete",
    "T:Run:Result_RBV": "None Busy Done Refused Failed Aborted TimedOut Incomplete",
    "T:Ecc:cobo0:Result_RBV": "None Busy Done Refused Failed Aborted TimedOut Incomplete",
    "T:Alarm_RBV": "Ok Minor Major Invalid",
    "T:Busy_RBV": "Idle Busy",
    "T:Ecc:cobo0:Online_RBV": "Offline Online",
    "T:Ecc:cobo0:Enable": "No Yes",
    "T:Ecc:cobo0:ClockStale_RBV": "No Yes",
    "T:Run:State_RBV": "Stopped Starting Running Stopping Interrupted Orphan Unknown",
    "T:Run:Ready_RBV": "NotReady Ready",
    "T:Run:Class": "Testing Production Beam Junk Pulser",
    "T:Plugin:history:Status_RBV": "Off Ok Degraded Failed",
}

COMMON = "Describe Prepare Configure Reset GoTo RefreshConfigs Config ConfigIndex".split()  # noqa: SIM905
WRITABLE = {
    *(f"T:{part}" for part in (*COMMON, "Abort")),
    *(
        f"T:Ecc:{name}:{part}"
        for name in ("cobo0", "mutant")
        for part in (*COMMON, "Start", "Stop", "Breakup", "Undo", "Enable")
    ),
    *(f"T:Run:{part}" for part in ("Start", "Stop", "Adopt", "Class", "MaxDuration")),
    *(f"T:Run:{part}" for part in ("Experiment", "Title", "Operator")),
}


@pytest.fixture(scope="module")
def table():
    return {entry.name: entry for entry in table_of(make_settings(), plugins=["history"])}


def test_the_names_and_types_are_those_of_the_contract(table):
    assert {name: str(entry.row.record) for name, entry in table.items()} == CONTRACT


def test_the_labels_are_those_of_the_contract(table):
    assert {name: " ".join(table[name].row.labels) for name in LABELS} == LABELS


def test_every_enum_has_labels_and_nothing_else_has(table):
    enums = {Record.BI, Record.BO, Record.MBBI, Record.MBBO}
    assert [name for name, e in table.items() if bool(e.row.labels) != (e.row.record in enums)] == []


def test_what_clients_may_write(table):
    assert {name for name, entry in table.items() if entry.row.writable} == WRITABLE


def test_a_read_back_is_never_writable(table):
    assert not [name for name, entry in table.items() if name.endswith("_RBV") and entry.row.writable]


def test_each_command_of_a_scope_is_a_row_in_the_order_of_the_bits(table):
    for kind, commands in COMMANDS.items():
        rows = [
            e.row.command for e in table.values() if e.scope.kind is kind and e.scope.name in ("", "cobo0")
        ]
        assert tuple(c for c in rows if c is not None) == commands


def test_descriptions_fit_and_say_something(table):
    assert [name for name, e in table.items() if not 5 <= len(e.row.desc.encode()) <= 39] == []


def test_units_are_those_of_the_contract(table):
    units = {
        name.removeprefix("T:"): e.row.units
        for name, e in table.items()
        if e.row.units and ":IOC:" not in name
    }
    assert {k: v for k, v in units.items() if "mutant" not in k} == {
        "Progress_RBV": "%",
        "Ecc:cobo0:TransitionTime_RBV": "s",
        "Ecc:cobo0:PollTime_RBV": "ms",
        "Run:Duration_RBV": "s",
        "Run:MaxDuration": "s",
    }


def test_texts_of_the_run_take_200_characters(table):
    assert {table[f"T:Run:{part}"].row.max_chars for part in ("Title", "Operator")} == {200}


def test_long_texts_have_room_for_1024_elements_and_for_their_characters(table):
    texts = [e.row for e in table.values() if e.row.record is Record.LONG_TEXT]
    assert min(row.elements for row in texts) >= 1024


def test_what_is_in_the_alarm_tree_has_guidance_and_a_severity(table):
    rows = [e.row for e in table.values() if e.row.alarm_tree]
    assert rows
    assert all(row.guidance for row in rows)


def test_one_server_that_is_gone_is_one_row_of_the_alarm_tree(table):
    parts = {e.row.part for e in table.values() if e.row.alarm_tree and e.scope.kind is ScopeKind.ECC}
    assert parts == {"Online_RBV", "PollTime_RBV", "Enable", "Loaded_RBV", "ClockStale_RBV", "Result_RBV"}


def plugin_row(part: str, kind: ScopeKind, **more: object) -> Row:
    return Row(part, kind, Record.AI, "A row of a plugin", initial=0.0, plugin="wind", **more)  # type: ignore[arg-type]


def test_rows_of_plugins_are_made_in_every_scope_of_their_kind():
    rows = [
        plugin_row("Speed_RBV", ScopeKind.PLUGIN),
        plugin_row("Gas_RBV", ScopeKind.ECC),
        plugin_row("Router:Files_RBV", ScopeKind.SOURCE),
        plugin_row("Wind_RBV", ScopeKind.SYSTEM),
    ]
    own = {e.name for e in table_of(make_settings(), rows, ["wind"]) if e.row.plugin}
    assert own == {
        "T:Plugin:wind:Speed_RBV",
        "T:Ecc:cobo0:Gas_RBV",
        "T:Ecc:mutant:Gas_RBV",
        "T:CoBo0:Router:Files_RBV",
        "T:MuTAnT:Router:Files_RBV",
        "T:Wind_RBV",
    }


def test_a_row_of_one_plugin_is_not_made_for_another():
    names = {
        e.name for e in table_of(make_settings(), [plugin_row("Speed_RBV", ScopeKind.PLUGIN)], ["other"])
    }
    assert "T:Plugin:wind:Speed_RBV" in names
    assert "T:Plugin:other:Status_RBV" in names
    assert "T:Plugin:other:Speed_RBV" not in names


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            plugin_row("State_RBV", ScopeKind.SYSTEM),
            "T:State_RBV: there are two PVs of this name (plugin wind)",
        ),
        (plugin_row("L" * MAX_NAME, ScopeKind.SYSTEM), "at most 60 characters"),
        (replace(plugin_row("X_RBV", ScopeKind.RUN), desc="d" * 41), "at most 40 bytes"),
        (replace(plugin_row("X_RBV", ScopeKind.RUN), labels=("a" * 26,)), "at most 25 bytes"),
    ],
)
def test_rows_that_cannot_be_are_refused(row, says):
    with pytest.raises(SettingsError) as caught:
        table_of(make_settings(), [row])
    assert says in str(caught.value)


def test_a_name_of_60_characters_is_taken():
    part = "L" * (MAX_NAME - len("T:"))
    assert (
        len(
            next(
                e.name
                for e in table_of(make_settings(), [plugin_row(part, ScopeKind.SYSTEM)])
                if e.row.plugin
            )
        )
        == 60
    )


def test_the_names_of_the_cores_pvs_stand_once():
    """Only screens, which lay single PVs out, write them again; everything else takes them from the table."""
    names = {row.part for rows in CORE_ROWS.values() for row in rows if row.part.endswith("_RBV")}
    package = ROOT / "attpc_ioc"
    again = []
    for file in package.rglob("*.py"):
        if file.is_relative_to(package / "pvs") or file.is_relative_to(package / "export" / "screens"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                part = node.value.rpartition(":")[2]
                if part in names:
                    again.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.value}")
    assert not again


def faulty_tables(*rows: Row) -> str:
    with pytest.raises(SettingsError) as error:
        tables(table_of(make_settings(), rows))
    return str(error.value)


def test_rows_that_cannot_be_a_table_are_refused():
    row = Row("Temperature_RBV", ScopeKind.ECC, Record.AI, "", table="Fleet", plugin="mine")
    assert tables(table_of(make_settings(), [row]))[0].columns[-1].name == "Temperature_RBV"
    assert "no column of its own: State_RBV (plugin mine)" in faulty_tables(
        replace(row, part="My:State_RBV"), replace(row, scope=ScopeKind.SOURCE, part="Other_RBV")
    )
    assert "rows of all ECC servers" in faulty_tables(replace(row, scope=ScopeKind.SOURCE))
    assert "Fleet: List_RBV cannot be a column" in faulty_tables(
        replace(row, part="List_RBV", record=Record.STRINGS)
    )
    assert "its columns are arrays" in faulty_tables(
        replace(row, scope=ScopeKind.SYSTEM, part="Mine:One_RBV", table="Mine")
    )
    for name in ("Alarms", "State_RBV"):
        assert f"{name}: is not free" in faulty_tables(replace(row, table=name))
