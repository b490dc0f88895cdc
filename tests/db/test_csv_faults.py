"""Files that are broken: file, line and column are named, whatever comes in."""

from __future__ import annotations

from pathlib import Path

import pytest
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.faults import BrokenFile
from attpc_plugins.run_history.exchange.source import Format, RunFile
from attpc_plugins.run_history.store.model.history import RunDetail
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.histories import run_details
from tests.support.thorough import examples

HEAD = "experiment,number,title,started_at,stopped_at\n"
GOOD = "e1,1,first,2026-01-01T10:00:00+00:00,2026-01-01T11:00:00+01:00\n"

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def faults_of(tmp_path: Path, text: str | bytes, kind: Format = Format.AUTO, **options: str) -> list[str]:
    file = tmp_path / "runs.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BrokenFile) as caught:
        RunFile(file, kind, **options).check()
    lines = str(caught.value).splitlines()
    assert lines[-1] == "nothing was imported"
    assert all(line.startswith(f"{file}: ") for line in lines[:-1])
    return [line.removeprefix(f"{file}: ") for line in lines[:-1]]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: is empty: not even a header is there"),
        ("\n\n", "line 1: is empty: not even a header is there"),
        ("number,title\n1,a\n", "line 1, column experiment: is missing"),
        (HEAD.replace("title", "titel") + GOOD, "line 1, column titel: there is no such column"),
        (HEAD.replace("title", "number") + GOOD, "line 1, column number: occurs twice"),
        (HEAD + GOOD + "e1,2,x\n", "line 3: has 3 fields, and the header has 5"),
        (HEAD + "e1,-1,x,,\n", "line 2, column number: '-1' is not a run number"),
        (HEAD + "e1,99999999999,x,,\n", "line 2, column number: '99999999999' is not a run number"),
        (
            HEAD + "e1,3000000000,x,,\n",
            "line 2, column number: 3000000000 is not a run number; they are",
        ),
        (HEAD + "e1,٣,x,,\n", "line 2, column number: '٣' is not a run number"),
        (HEAD + "e1,2,x,yesterday,\n", "line 2, column started_at: 'yesterday' is not a time"),
        (HEAD + "e1,2,x,2026-01-01T10:00:00,\n", "column started_at: '2026-01-01T10:00:00' has no offset"),
        (
            HEAD + "e1,2,x,2026-13-01T10:00:00Z,\n",
            "line 2, column started_at: '2026-13-01T10:00:00Z' is not a time",
        ),
        (
            HEAD + "e1,2,x,1812-01-01T10:00:00Z,\n",
            "column started_at: 1812-01-01T10:00:00+00:00 is not from 1970",
        ),
        (HEAD + f"e1,2,{'x' * 1001},,\n", "line 2, column title: has 1001 characters; the limit is 1000"),
        (HEAD + " ,2,x,,\n", "line 2, column experiment: an experiment's name is a text in one line"),
        (HEAD + '"e\n1",2,x,,\n', "line 2, column experiment: an experiment's name is a text in one line"),
        (HEAD + GOOD + GOOD, "line 3, column number: run 1 of experiment 'e1' is already in an earlier line"),
        (HEAD + 'e1,2,"x,,\n' + GOOD, "line 2: is not CSV: unexpected end of data"),
        (HEAD + 'e1,2,"x"y,,\n', "line 2: is not CSV: ',' expected after '\"'"),
        (HEAD + 'e1,1,"a\nb\nc",,\ne1,2,x\n', "line 5: has 3 fields, and the header has 5"),
        (
            "experiment,number,class\ne1,1,Fun\n",
            "line 2, column class: 'Fun' is not a class; they are Testing",
        ),
        (
            "experiment,number,quality\ne1,1,Ok\n",
            "column quality: 'Ok' is not one of Unknown, Good, Bad, Partial",
        ),
        ("experiment,number,adopted\ne1,1,true\n", "line 2, column adopted: 'true' is neither yes nor no"),
        (
            "experiment,number,stage\ne1,1,reserved\n",
            "column stage: a number that is only reserved is not a run",
        ),
        ("experiment,number,stage\ne1,1,ended\n", "column outcome: a run has an outcome if, and only if"),
        ("experiment,number,stage,outcome\ne1,1,running,stopped\n", "line 2, column outcome: a run has"),
        ("experiment,number,stage\ne1,1,running\n", "line 2, column started_at: a run that is running has"),
        ("experiment,number,modules\ne1,1,{}\n", "line 2, column modules: {} is not a JSON list"),
        ("experiment,number,modules\ne1,1,[\n", "line 2, column modules: is not JSON: Expecting value"),
        ('experiment,number,modules\ne1,1,"[{}]"\n', "line 2, column modules: entry 1: name: is missing"),
        (
            'experiment,number,modules\ne1,1,"[{""name"": ""a""}, {""name"": ""a""}]"\n',
            "line 2, column modules: 'a' occurs twice",
        ),
        (
            'experiment,number,measurements\ne1,1,"[{""observable"": ""p"", ""moment"": ""start"", '
            '""measured_at"": ""2026-01-01T10:00:00Z"", ""value"": 1}]"\n',
            'column measurements: entry 1: value: 1 is not a value with its type, such as {"float": 1.5}',
        ),
        (
            'experiment,number,measurements\ne1,1,"[{""observable"": ""p"", ""moment"": ""start"", '
            '""measured_at"": ""2026-01-01T10:00:00Z""}]"\n',
            "line 2, column measurements: entry 1: neither a value nor a fault",
        ),
    ],
)
def test_csv_faults_have_their_place(tmp_path: Path, text: str, fault: str) -> None:
    (found,) = faults_of(tmp_path, text)
    assert fault in found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"run": }\n', "line 1, column 9: is not JSON: Expecting value"),
        ("{}\n", "line 1: {} is not a run"),
        ('{"run": {"number": 1, "stage": "running"}}\n', "line 1, column run.experiment: is missing"),
        (
            '{"run": {"experiment": "e", "number": "1", "stage": "ended"}}\n',
            "column run.number: '1' is not an integer",
        ),
        (
            '{"run": {"experiment": "e", "number": 1, "stage": "ended", "x": 1}}\n',
            "run.x: a run has no such field",
        ),
        (
            '{"run": {"experiment": "e", "number": 1, "stage": "ended", "started_by": {"user": 1}}}\n',
            "line 1, column run.started_by.user: 1 is not a text",
        ),
        ("{" + "[" * 100_000 + "\n", "line 1"),
    ],
)
def test_json_faults_have_their_place(tmp_path: Path, text: str, fault: str) -> None:
    (found,) = faults_of(tmp_path, text, Format.JSON)
    assert fault in found


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    rows = [GOOD, *(f"e1,{n},x,never,\n" for n in range(2, 40)), "e1\n"]
    found = faults_of(tmp_path, HEAD + "".join(rows))
    assert len(found) == 21
    assert found[0].startswith("line 3, column started_at")
    assert found[-1] == "and 19 more"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEAD + "x" * 3000, "line 2: is not CSV: a line has more than 2000 characters"),
        ("\0" * 3000, "line 1: is not CSV: a line has more than 2000 characters"),
        ('{"run":' + " " * 3000, "line 1: has more than 2000 characters"),
    ],
)
def test_a_line_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, fault: str
) -> None:
    for module in (csv_file, json_file):
        monkeypatch.setattr(module, "FIELD_MAX", 2000)
    assert faults_of(tmp_path, text) == [fault]


def test_what_is_no_utf8(tmp_path: Path) -> None:
    (found,) = faults_of(tmp_path, (HEAD + "e1,2,").encode() + b"\xe4\n")
    assert found.startswith("line 2: is not UTF-8: byte 0xe4")
    (found,) = faults_of(tmp_path, b"\xff\xfe\x00\x01")
    assert found.startswith("line 1: is not UTF-8: byte 0xff")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", [0, 1, 5, 3000])
@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON])
def test_the_line_of_a_byte_that_is_no_utf8(tmp_path: Path, end: str, before: int, kind: Format) -> None:
    good = "".join(f"e1,{number},größe ☢,,{end}" for number in range(before))
    if kind is Format.CSV:
        text = HEAD.replace("\n", end) + good
    else:
        text = f"{end}{end.join([' '] * before)}{end if before else ''}"
    broken = text.encode() + b"e1,99999,\xe4rger,,"
    found = faults_of(tmp_path, broken, kind)
    assert found[-1].startswith(f"line {before + 2}: is not UTF-8: byte 0xe4"), found


def test_a_stop_before_the_start_is_reported_and_accepted(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    rows = [f"e1,{n},x,2026-01-01T01:00:00Z,2026-01-01T00:00:00Z\n" for n in range(2, 27)]
    file.write_text(HEAD + GOOD + "".join(rows))
    contents = RunFile(file).check()
    assert (contents.count, contents.doubtful, len(contents.doubts)) == (26, 25, 20)
    assert contents.doubts[0].at("runs.csv") == (
        "runs.csv: line 3, column stopped_at: run 2 of e1 stopped (2026-01-01T00:00:00+00:00) before it "
        "started (2026-01-01T01:00:00+00:00); it is taken as it is, its duration is 0"
    )


def test_a_spreadsheet_file(tmp_path: Path) -> None:
    """A byte order mark, `\\r\\n`, empty lines and other columns' order do no harm."""
    text = "\ufeffnumber,experiment,class\r\n7,e1,beam\r\n,,\r\n\r\n8,e1,\r\n"
    file = tmp_path / "runs.csv"
    file.write_bytes(text.encode())
    runs = list(RunFile(file).runs())
    assert [(d.run.number, d.run.run_class.label, d.run.stage.value) for d in runs] == [
        (7, "Beam", "ended"),
        (8, "Testing", "ended"),
    ]


def test_one_experiment_for_all(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(HEAD + GOOD)
    (detail,) = RunFile(file, experiment="other").runs()
    assert detail.run.experiment == "other"


@given(data=st.binary(max_size=300), kind=st.sampled_from(Format))
@settings(SHARED, max_examples=examples(50, 150))
def test_any_bytes_are_runs_or_faults(tmp_path: Path, data: bytes, kind: Format) -> None:
    check(tmp_path, data, kind)


@given(
    detail=run_details(),
    kind=st.sampled_from([Format.CSV, Format.JSON]),
    at=st.integers(0, 5000),
    new=st.sampled_from(["", '"', ",", "\n", "\r", "\x00", "9" * 30, "{", "]", "é"]),
    cut=st.integers(0, 5),
)
@settings(SHARED, max_examples=examples(40, 100))
def test_damaged_files_are_runs_or_faults(
    tmp_path: Path, detail: RunDetail, kind: Format, at: int, new: str, cut: int
) -> None:
    text = csv_file.header_text() + csv_file.run_text(detail)
    at %= len(text)
    check(tmp_path, (text[:at] + new + text[at + cut :]).encode(), kind)


def check(tmp_path: Path, data: bytes, kind: Format) -> None:
    file = tmp_path / "runs"
    file.write_bytes(data)
    faults, count = (), 0
    try:
        source = RunFile(file, kind, experiment="e")
        count = source.check().count
    except BrokenFile as error:
        faults = error.faults
    if faults:
        assert all(fault.line >= 1 and fault.text for fault in faults)
    else:
        assert count == len(list(source.runs()))
