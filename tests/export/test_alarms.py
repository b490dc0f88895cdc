"""The alarm tree, read by the rules of the alarm server's reader."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from attpc_ioc.errors import AttpcError
from attpc_ioc.export.alarms import (
    alarm_tree,
    config_fault,
    default_config,
    fragment_text,
    screens_fault,
    whole_text,
)
from attpc_ioc.export.screens import screens
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.table import PvEntry
from tests.export.alarm_reader import ReadConfig, read_alarms
from tests.export.bobfiles import table_of
from tests.support.pages import ROOT

FACILITY = """<?xml version="1.0" encoding="UTF-8"?>
<config name="Facility">
  <component name="Vacuum"><pv name="V:Pressure"><description>Vacuum</description></pv></component>
  <xi:include href="{file}" xpointer="ATTPC" xmlns:xi="http://www.w3.org/2001/XInclude"/>
</config>
"""


@pytest.fixture
def whole(table: tuple[PvEntry, ...], tmp_path: Path) -> ReadConfig:
    file = tmp_path / "alarms.xml"
    file.write_text(whole_text(alarm_tree(table, "/srv/our screens"), "ATTPC"), encoding="utf-8")
    return read_alarms(file)


def test_the_root_is_as_named_and_every_alarm_row_is_in_it_once(whole, table):
    assert whole.name == "ATTPC"
    assert sorted(whole.pvs) == sorted(entry.name for entry in table if entry.row.alarm_tree)


def test_each_is_told_of_in_words_and_shown_on_a_screen_that_there_is(whole, table):
    files = screens(table)
    for pv in whole.pvs.values():
        assert pv.enabled
        assert pv.description
        assert "_RBV" not in pv.description
        ((title, details),) = pv.guidance
        assert title == "What to do"
        assert len(details) > 20
        ((_, display),) = pv.displays
        url = urlsplit(display)
        path = Path(unquote(url.path))
        assert (url.scheme, path.parent) == ("file", Path("/srv/our screens"))
        assert path.name in files
        assert parse_qs(url.query)["P"] == ["T:"]


def test_each_has_its_rows_latching_speaking_and_delay(whole, table):
    for entry in table:
        if entry.row.alarm_tree:
            pv, use = whole.pvs[entry.name], entry.row.alarm
            assert (pv.latching, pv.annunciating, pv.delay_s) == (use.latching, use.annunciating, use.delay_s)
    assert {pv.latching for pv in whole.pvs.values()} == {True, False}
    assert whole.pvs["T:Ecc:cobo0:Online_RBV"].delay_s > 0


def test_the_expert_screens_are_told_what_they_are_of(whole):
    def macros(name: str) -> dict[str, list[str]]:
        return parse_qs(urlsplit(whole.pvs[name].displays[0][1]).query)

    assert macros("T:Ecc:cobo1:Online_RBV") == {"P": ["T:"], "ECC": ["cobo1"]}
    assert macros("T:CoBo2:Router:Flow_RBV") == {"P": ["T:"], "SOURCE": ["CoBo2"]}
    assert macros("T:Run:State_RBV") == {"P": ["T:"]}


def test_where_they_are_in_the_tree(whole):
    assert whole.pvs["T:Run:State_RBV"].path == "/ATTPC/Run/T:Run:State_RBV"
    assert whole.pvs["T:Ecc:cobo1:Online_RBV"].path == "/ATTPC/ECC/cobo1/T:Ecc:cobo1:Online_RBV"
    assert whole.pvs["T:IOC:HEARTBEAT"].path == "/ATTPC/IOC/T:IOC:HEARTBEAT"


def test_a_server_that_is_gone_is_one_alarm(table):
    of_one = {
        entry.row.part: entry.row.severities
        for entry in table
        if entry.row.alarm_tree and entry.scope.kind is ScopeKind.ECC and entry.scope.name == "cobo0"
    }
    ours = {"Enable", "Loaded_RBV", "ClockStale_RBV", "Result_RBV", "PollTime_RBV"}
    assert set(of_one) == {"Online_RBV"} | ours
    assert not [entry for entry in table if entry.row.alarm_tree and entry.row.part == "PollErrors_RBV"]


@pytest.mark.parametrize("routers", [0, 2])
def test_a_source_without_a_data_router_has_no_alarms_of_one(tmp_path, routers):
    """Its PVs never get a value, so they would be INVALID for ever."""
    table = table_of(tmp_path, routers=routers)
    file = tmp_path / "alarms.xml"
    file.write_text(whole_text(alarm_tree(table), "ATTPC"), encoding="utf-8")
    told = {name for name in read_alarms(file).pvs if ":Router:" in name}
    assert {name.split(":")[1] for name in told} == {f"CoBo{number}" for number in range(routers)}
    assert len(told) == 8 * routers
    assert "T:CoBo2:Router:Online_RBV" in {entry.name for entry in table}, "the PVs are there all the same"


def test_without_a_place_of_the_screens_there_are_no_displays(table, tmp_path):
    file = tmp_path / "alarms.xml"
    file.write_text(whole_text(alarm_tree(table), "ATTPC"), encoding="utf-8")
    assert not any(pv.displays for pv in read_alarms(file).pvs.values())


@pytest.mark.parametrize(
    ("where", "begins"),
    [
        ("http://host/opi/", "http://host/opi/main.bob?P=T:"),
        ("$(SCREENS)", "$(SCREENS)/main.bob?P=T:"),
        ("/srv/opi", "file:///srv/opi/main.bob?P=T:"),
    ],
)
def test_screens_may_be_anywhere(table, where, begins):
    assert alarm_tree(table, where)[0].pvs[0].display == begins


def test_a_place_that_only_this_directory_knows_is_none(table):
    assert "absolute" in screens_fault("screens")
    with pytest.raises(AttpcError, match="absolute"):
        alarm_tree(table, "screens")


def test_the_fragment_goes_into_a_facilitys_configuration(table, whole, tmp_path):
    fragment = tmp_path / "fragment.xml"
    fragment.write_text(fragment_text(alarm_tree(table), "ATTPC"), encoding="utf-8")
    facility = tmp_path / "facility.xml"
    facility.write_text(FACILITY.format(file=fragment), encoding="utf-8")
    read = read_alarms(facility)
    assert read.name == "Facility"
    assert set(read.pvs) == {"V:Pressure", *whole.pvs}
    assert read.pvs["T:Run:State_RBV"].path == "/Facility/ATTPC/Run/T:Run:State_RBV"


def test_a_fragment_that_is_imported_by_mistake_names_nobodys_configuration(table, tmp_path):
    file = tmp_path / "fragment.xml"
    file.write_text(fragment_text(alarm_tree(table), "ATTPC"), encoding="utf-8")
    assert read_alarms(file).name == "ATTPC-fragment"


@pytest.mark.parametrize("make", [whole_text, fragment_text])
def test_the_file_says_at_its_top_what_an_import_does(table, make):
    head = make(alarm_tree(table), "AT--TPC").partition("<config")[0]
    assert "An import first deletes" in head or "an import first deletes" in head
    assert "AT- -TPC" in head


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("DEMO:", "DEMO"), ("FRIB:ATTPC:", "FRIB_ATTPC"), ("1:", "_1"), ("T-1:", "T-1"), ("_", "_")],
)
def test_a_name_is_made_from_the_prefix(prefix, name):
    assert default_config(prefix) == name
    assert not config_fault(name)


@pytest.mark.parametrize("name", ["", "1x", "a b", "a/b", "a:b", "ä", "x" * 300])
def test_a_name_that_the_server_could_not_have_is_refused(table, name):
    assert config_fault(name)
    with pytest.raises(AttpcError):
        whole_text(alarm_tree(table), name)


HEADS = {
    ScopeKind.SYSTEM: "",
    ScopeKind.ECC: "Ecc:<ecc>:",
    ScopeKind.SOURCE: "<source>:",
    ScopeKind.RUN: "Run:",
    ScopeKind.IOC: "IOC:",
    ScopeKind.PLUGIN: "Plugin:<name>:",
}


def test_the_how_to_describes_every_alarm(table):
    page = (ROOT / "docs" / "how-to" / "alarms.md").read_text(encoding="utf-8")
    told = {line for line in page.splitlines() if line.startswith("| `")}
    yes_no = ("no", "yes")
    expected = {
        f"| `{HEADS[entry.scope.kind]}{entry.row.part}` | {entry.row.alarm.says} | "
        f"{yes_no[entry.row.alarm.latching]} | {yes_no[entry.row.alarm.annunciating]} | "
        f"{entry.row.alarm.delay_s} |"
        for entry in table
        if entry.row.alarm_tree
    }
    assert told == expected
