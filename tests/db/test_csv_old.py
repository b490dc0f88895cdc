"""Tables of the older systems."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from attpc_plugins.run_history.exchange.faults import BrokenFile
from attpc_plugins.run_history.exchange.source import Format, RunFile
from attpc_plugins.run_history.store.model.history import RunDetail
from hypothesis import given, settings
from hypothesis import strategies as st

DAQ = "run_number,run_class,title,start_datetime,stop_datetime,config_name"
DETROIT = ZoneInfo("America/Detroit")


def read(tmp_path: Path, text: str, kind: Format) -> list[RunDetail]:
    file = tmp_path / "old.csv"
    file.write_text(text, newline="")
    source = RunFile(file, experiment="e15250", zone=DETROIT)
    assert source.format is kind
    source.check()
    return list(source.runs())


def faults(tmp_path: Path, text: str, experiment: str = "e15250") -> list[str]:
    file = tmp_path / "old.csv"
    file.write_text(text, newline="")
    with pytest.raises(BrokenFile) as caught:
        RunFile(file, experiment=experiment, zone=DETROIT).check()
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()[:-1]]


@pytest.mark.parametrize(
    "header", [DAQ, "run number,run class,title,start date/time,stop date/time,config name", DAQ.upper()]
)
def test_the_old_web_application(tmp_path: Path, header: str) -> None:
    first, second, third = read(
        tmp_path,
        f"{header},Pressure,Beam,Triggers\r\n"
        '0,TEST,"gas, ""wet""",2017-03-01 14:03:05,2017-03-01 20:03:05+00:00,cfg,500.5,Ar46,3\r\n'
        "1,PROD,None,2017-03-02 14:03:05.250000-05:00,,None,501,,None\r\n"
        "2,Pulser,,,,,nan,1,7\r\n",
        Format.DAQ,
    )
    run = first.run
    assert (run.experiment, run.number, run.run_class.label) == ("e15250", 0, "Testing")
    assert (run.title, run.config_name, run.outcome) == ('gas, "wet"', "cfg", "stopped")
    assert run.started_at == datetime(2017, 3, 1, 19, 3, 5, tzinfo=UTC)
    assert run.duration_s == 3600
    assert {m.observable: m.value for m in first.measurements} == {
        "Pressure": 500.5,
        "Beam": "Ar46",
        "Triggers": 3,
    }
    assert (second.run.title, second.run.run_class.label, second.run.outcome) == (
        "",
        "Production",
        "interrupted",
    )
    assert second.run.started_at == datetime(2017, 3, 2, 19, 3, 5, 250_000, tzinfo=UTC)
    # A column has one type: what its widest value needs.
    assert [(m.observable, m.value) for m in second.measurements] == [("Pressure", 501.0)]
    assert (third.run.started_at, third.measurements[1].value) == (None, "1")


def test_attpc_envoy(tmp_path: Path) -> None:
    first, second, third = read(
        tmp_path,
        "Run,Note,Duration,B-Field (T),Beam,Pressure (Torr)\n"
        "3,test, with, commas,361,2.85,16O,600\n"
        f"4,{'long ' * 60},7,2.85,,600.5\n"
        "5,,0,2,16O,\n",
        Format.ENVOY,
    )
    assert (first.run.number, first.run.title) == (3, "test, with, commas")
    assert {m.observable: (m.value, m.units) for m in first.measurements} == {
        "Duration": (361, "s"),
        "B-Field": (2.85, "T"),
        "Beam": ("16O", ""),
        "Pressure": (600.0, "Torr"),
    }
    assert (second.run.title, second.run.comment) == ("", ("long " * 60).strip())
    assert [m.observable for m in third.measurements] == ["Duration", "B-Field", "Beam"]
    assert first.run.started_at is None
    assert "kept no times" in first.run.reason


def test_faults_have_their_place(tmp_path: Path) -> None:
    assert faults(tmp_path, f"{DAQ},P\n1,WHAT,,,,,\n2,TEST,,soon,,,\nx,TEST,,,,,\n4,TEST\n") == [
        "line 2, column run_class: 'WHAT' is not a class; they are Testing, Production, Beam, Junk, Pulser",
        "line 3, column start_datetime: 'soon' is not a time; 2017-03-01 14:03:05 is one",
        "line 4, column run_number: 'x' is not a run number",
        "line 5: has 2 fields, and the header has 7",
    ]
    (found,) = faults(tmp_path, f"{DAQ}\n1,TEST,,2017-03-01 14:03:05,2017-03-01 14:03:04,\n")
    assert "column stop_datetime: '2017-03-01 14:03:04' is before the start" in found
    (found,) = faults(tmp_path, f"{DAQ}\n1,TEST,,,,\n1,TEST,,,,\n")
    assert found == "line 3, column number: run 1 of experiment 'e15250' is already in an earlier line"
    assert faults(tmp_path, f"{DAQ},P,P\n1,TEST,,,,,1,2\n") == ["line 1, column P: occurs twice"]
    assert faults(tmp_path, f"{DAQ}\n1,TEST,,,,\n", experiment="") == [
        "line 1, column experiment: is missing: name the experiment with --experiment"
    ]
    assert faults(tmp_path, "Run,Note,Duration,P\n1,a,long,2\n2,a,1\n3,a,b,c,d\n") == [
        "line 2, column Duration: 'long' is not a duration in whole seconds",
        "line 3: has 3 fields, and the header has 4",
        "line 4: has 5 fields, and the header has 4",
    ]


def test_the_wrong_format_is_said(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text(f"{DAQ}\n1,TEST,,,,\n")
    with pytest.raises(BrokenFile, match="line 1: the header does not begin with run,note,duration"):
        RunFile(file, Format.ENVOY, experiment="e").check()


@given(notes=st.lists(st.text("abc,;' \t", max_size=20), min_size=1, max_size=5))
@settings(deadline=None)
def test_notes_with_commas(tmp_path_factory: pytest.TempPathFactory, notes: list[str]) -> None:
    text = "Run,Note,Duration,P\n" + "".join(f"{n},{note},{n},1.5\n" for n, note in enumerate(notes))
    found = read(tmp_path_factory.mktemp("envoy"), text, Format.ENVOY)
    assert [d.run.title for d in found] == [note.strip() for note in notes]
    assert [d.measurements[0].value for d in found] == list(range(len(notes)))
