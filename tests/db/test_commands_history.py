"""The shell commands of the run history, as people and programs use them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
import typer
from attpc_plugins.run_history.commands import register
from attpc_plugins.run_history.commands.common import VARIABLE
from attpc_plugins.run_history.connection_faults import Place, explain
from attpc_plugins.run_history.dsn import read
from attpc_plugins.run_history.sheets.kept import load_kept
from typer.testing import CliRunner, Result

from attpc_ioc.app import load_plugins, make_table
from attpc_ioc.errors import AttpcError
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.settings import load_settings
from tests.support.history import given_plugins

IOC = """
[ioc]
state_dir = "{state}"
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
kind = "cobo"
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
[plugins.run_history]
"""

RUNS = '''\
experiment,number,class,title,operator,comment,quality,started_at,stopped_at
e1,1,Testing,pulser test,anna,,Bad,2026-03-01T10:00:00+00:00,2026-03-01T10:10:00+00:00
e1,2,Production,beam on target,bert,nice beam,Good,2026-03-02T10:00:00+00:00,2026-03-03T11:00:00+00:00
e1,3,Production,"beam, ""again""",anna,,Unknown,2026-03-03T10:00:00+00:00,
e2,1,Beam,Größe µ ☢,anna,,Good,2026-04-01T10:00:00+00:00,2026-04-01T10:10:00+00:00
'''


class Shell:
    """The commands on one database; `run` expects success, `fails` the opposite."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.app = typer.Typer()
        register(self.app)

    def call(self, *args: object, stdin: str | None = None) -> Result:
        env = {VARIABLE: str(self.file), "COLUMNS": "220", "TZ": "UTC"}
        return CliRunner().invoke(self.app, [str(arg) for arg in args], env=env, input=stdin)

    def run(self, *args: object, stdin: str | None = None) -> str:
        result = self.call(*args, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def fails(self, *args: object) -> str:
        result = self.call(*args)
        assert result.exit_code != 0, result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, AttpcError), result.exception
            return str(result.exception)
        return re.sub(r"[│╭╰─╮╯\s]+", " ", result.output)


@pytest.fixture
def shell(dsn: str, tmp_path: Path) -> Shell:
    file = tmp_path / "ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n')
    return Shell(file)


@pytest.fixture
def full(shell: Shell, tmp_path: Path) -> Shell:
    """A database with four runs in two experiments."""
    runs = tmp_path / "runs.csv"
    runs.write_text(RUNS)
    shell.run("history", "import", runs)
    return shell


def numbers(text: str) -> list[tuple[str, int]]:
    return [(row["experiment"], int(row["number"])) for row in csv.DictReader(io.StringIO(text))]


def test_experiments(shell: Shell) -> None:
    made = shell.run("experiments", "create", "e20009", "--comment", "a, b", "--select")
    assert "made and selected" in made
    shell.run("experiments", "create", "e2")
    assert shell.fails("experiments", "create", "e2") == "experiment 'e2' exists already"
    rows = list(csv.DictReader(io.StringIO(shell.run("experiments", "list", "--format", "csv"))))
    assert [(row["name"], row["current"], row["comment"]) for row in rows] == [
        ("e2", "no", ""),
        ("e20009", "yes", "a, b"),
    ]
    lines = [json.loads(line) for line in shell.run("experiments", "list", "--format", "json").splitlines()]
    assert [(e["name"], e.get("is_current", False)) for e in lines] == [("e2", False), ("e20009", True)]
    assert re.search(r"\*\s+e20009 .* a, b", shell.run("experiments", "list", "--count"))
    assert "is the current experiment" in shell.fails("experiments", "rename", "e20009", "e1")
    shell.run("experiments", "select", "e2")
    shell.run("experiments", "rename", "e20009", "e1")
    shell.run("experiments", "comment", "e1", "new")
    assert re.search(r"e1 .*new", shell.run("experiments", "list"))
    assert shell.fails("experiments", "select", "nope") == "there is no experiment 'nope'"
    assert shell.fails("experiments", "rename", "e1", "e2") == "experiment 'e2' exists already"
    before = shell.run("experiments", "list")
    for words in (("create", "a b"), ("select", "a b"), ("rename", "e1", "a b"), ("create", "x" * 64)):
        said = shell.fails("experiments", *words).strip()
        assert said == experiment_fault(str(words[-1])), words
    assert shell.run("experiments", "list") == before


def test_observables(shell: Shell) -> None:
    assert "no experiment is current" in shell.fails("observables", "list")
    shell.run("experiments", "create", "e1", "--select")
    shell.run("observables", "add", "Pressure", "--units", "mbar", "--pv", "ISEG:P", "--comment", "target")
    shell.run("observables", "add", "Gas", "--type", "string")
    assert "already" in shell.fails("observables", "add", "Gas")
    shell.run("observables", "edit", "Pressure", "--units", "Torr")
    assert shell.run("observables", "order", "Gas") == "Gas, Pressure\n"
    shell.run("observables", "rename", "Gas", "Target_gas")
    rows = list(csv.reader(io.StringIO(shell.run("observables", "list", "--format", "csv"))))
    assert rows == [
        ["name", "type", "units", "comment", "pv", "removed"],
        ["Target_gas", "string", "", "", "", "no"],
        ["Pressure", "float", "Torr", "target", "ISEG:P", "no"],
    ]
    assert re.search(r"Pressure +float +Torr +ISEG:P +target", shell.run("observables", "list"))
    for words in (("add", "a b"), ("rename", "Pressure", "1st"), ("add", "x" * 41)):
        assert "cannot be an observable's name" in shell.fails("observables", *words), words
    assert "in more than upper and lower case" in shell.fails("observables", "add", "pressure")
    shell.run("observables", "remove", "Target_gas")
    assert json.loads(shell.run("observables", "list", "--format", "json"))["name"] == "Pressure"
    assert "has no observable 'Nope'" in shell.fails("observables", "remove", "Nope")
    assert "it has: Pressure" in shell.fails("observables", "edit", "Nope", "--units", "x")
    assert "is no name of a PV" in shell.fails("observables", "add", "X", "--pv", "a b")
    assert "nothing is to be changed" in shell.fails("observables", "edit", "Pressure")


def test_observables_are_kept_for_the_next_start(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "plugins" / "run_history"
    shell.run("experiments", "create", "e1", "--select")
    shell.run("observables", "add", "First")
    assert load_kept(folder).observables == ()  # there was no IOC here yet
    folder.mkdir(parents=True)
    said = shell.run("observables", "add", "Gas", "--type", "string")
    assert "its PV ATTPC:Obs:Gas follows when the IOC is started again" in said
    assert [o.name for o in load_kept(folder).observables] == ["First", "Gas"]
    assert load_kept(folder).experiment == "e1"
    shell.run("experiments", "create", "e2")
    shell.run("observables", "add", "Other", "-e", "e2")
    assert [o.name for o in load_kept(folder).observables] == ["First", "Gas"]
    assert "follows" in shell.run("observables", "edit", "Gas", "--units", "l")
    assert "follows" not in shell.run("observables", "edit", "Gas", "--pv", "X:Gas")
    shell.run("observables", "rename", "Gas", "Target")
    shell.run("observables", "remove", "First")
    assert [(o.name, o.units) for o in load_kept(folder).observables] == [("Target", "l")]
    listed = pvs_of(shell.file)
    assert "ATTPC:Obs:Target" in listed
    assert "ATTPC:Obs:Other" not in listed


def pvs_of(file: Path) -> list[str]:
    """The names of the PVs that an IOC with these settings has when it starts."""
    settings = load_settings(file)
    return [entry.name for entry in make_table(settings, load_plugins(settings, given_plugins()))]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [("e2", 1), ("e1", 3), ("e1", 2), ("e1", 1)]),
        (["--experiment", "e1"], [("e1", 3), ("e1", 2), ("e1", 1)]),
        (["-e", "e1", "-n", "2-"], [("e1", 3), ("e1", 2)]),
        (["-e", "e1", "-n", "-2"], [("e1", 2), ("e1", 1)]),
        (["-e", "e1", "-n", "2-2"], [("e1", 2)]),
        (["-n", "1"], [("e2", 1), ("e1", 1)]),
        (["--since", "2026-03-03T00:00:00Z"], [("e2", 1), ("e1", 3)]),
        (["--until", "2026-03-02T10:00:00+00:00"], [("e1", 1)]),
        (["--class", "production"], [("e1", 3), ("e1", 2)]),
        (["--quality", "Good"], [("e2", 1), ("e1", 2)]),
        (["--text", "nice"], [("e1", 2)]),
        (["--text", "größe"], [("e2", 1)]),
        (["--text", "anna", "--class", "beam"], [("e2", 1)]),
        (["--limit", "2"], [("e2", 1), ("e1", 3)]),
        (["-e", "e1", "-n", "5-9"], []),
    ],
)
def test_filters(full: Shell, options: list[str], found: list[tuple[str, int]]) -> None:
    assert numbers(full.run("history", "list", "--format", "csv", *options)) == found
    lines = full.run("history", "list", "--format", "json", *options).splitlines()
    assert [(run["experiment"], run["number"]) for run in map(json.loads, lines)] == found
    assert len(full.run("history", "list", *options).splitlines()) == len(found) + 1
    if "--limit" not in options:
        exported = numbers(full.run("history", "export", *options))
        assert sorted(exported) == sorted(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--number", "x"], "neither a number nor a range"),
        (["--since", "soon"], "'soon' is no time"),
        (["--class", "fun"], "'fun' is no class; they are Testing"),
        (["--quality", "fine"], "'fine' is none of Unknown, Good, Bad, Partial"),
        (["--experiment", "nope"], "there is no experiment 'nope'"),
        (["--number", "20-10"], "'20-10' goes down; a range is such as 10-20"),
        (["--since", "2026-03-03", "--until", "2026-03-02"], "2026-03-03 is not before --until 2026-03-02"),
        (["--since", "2026-03-03", "--until", "2026-03-03"], "2026-03-03 is not before --until 2026-03-03"),
    ],
)
def test_bad_filters(full: Shell, options: list[str], said: str) -> None:
    assert said in full.fails("history", "list", *options)
    assert said in full.fails("history", "export", *options)


def test_one_is_told_as_one(full: Shell, tmp_path: Path) -> None:
    result = full.call("history", "list", "-e", "e1", "--limit", 1)
    assert "this is the newest; there are more" in result.stderr
    file = tmp_path / "one.csv"
    result = full.call("history", "export", "-e", "e2", "-o", file)
    assert result.stderr == "1 run exported\n"
    result = full.call("history", "import", file, "-e", "e3")
    assert result.stderr == "1 run imported\n"
    result = full.call("history", "import", file, "--skip-existing")
    assert result.stderr == "0 runs imported, 1 that was there left out\n"


def test_list_show_edit(full: Shell) -> None:
    text = full.run("history", "list", "-e", "e1")
    assert re.search(r"2 +Production +2026-03-02 10:00:00 +25:00:00 +Good +stopped +beam on target", text)
    full.run("observables", "add", "Pressure", "-e", "e1", "--units", "mbar")
    options = ["--title", "Neu\tµ", "--quality", "partial", "--class", "junk", "--comment", "two\nlines"]
    full.run("history", "edit", "e1", 2, *options, "--operator", "", "--set", "Pressure=512.5")
    text = full.run("history", "show", "e1", 2)
    for pattern in (
        r"Title +Neu µ",
        r"Quality +Partial",
        r"Comment +two *\n +lines",
        r"Pressure +entered +512\.5 +mbar",
        r"Edits\n",
        r"quality +Good +Partial +\S+@",
        r"class +Production +Junk",
        r"title +beam on target +Neu µ",
        r"Pressure +512\.5 +\S+@",
    ):
        assert re.search(pattern, text), (pattern, text)
    run = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))
    assert run["run"]["title"] == "Neu\tµ"
    assert run["measurements"][0]["value"] == {"float": 512.5}
    assert len(run["edits"]) == 6
    full.run("history", "edit", "e1", 2, "--set", "Pressure=1e3")
    edit = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["edits"][-1]
    assert (edit["field"], edit["observable"], edit["old"], edit["value"]) == (
        "value",
        "Pressure",
        "512.5",
        "1000.0",
    )
    assert edit["edited_at"]
    assert edit["edited_by"]
    for command in (("show", "e2", 2), ("edit", "e2", 2, "--title", "x"), ("show", "nope", 2)):
        said = f"there is no run 2 of experiment '{command[1]}'; there is one of: e1"
        assert full.fails("history", *command) == said
    assert full.fails("history", "show", "e1", 99) == "there is no run 99 of experiment 'e1'"
    assert full.fails("history", "edit", "e1", 99, "--title", "x") == "there is no run 99 of experiment 'e1'"
    assert "'much' is no float" in full.fails("history", "edit", "e1", 2, "--set", "Pressure=much")
    assert "it has: Pressure" in full.fails("history", "edit", "e1", 2, "--set", "Nope=1", "--title", "y")
    assert json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["run"]["title"] == "Neu\tµ"
    assert "201 characters" in full.fails("history", "edit", "e1", 2, "--title", "x" * 201)
    assert "nothing is to be changed" in full.fails("history", "edit", "e1", 2)
    assert "NAME=VALUE" in full.fails("history", "edit", "e1", 2, "--set", "x")


async def test_the_log_of_a_run_is_shown(full: Shell, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
            "SELECT r.started_at + n * interval '1 s', 'warning', 'DAQ:', 'here', 'trouble ' || n, r.id "
            "FROM attpc.runs r, generate_series(1, 3) AS n WHERE r.number = 2"
        )
        shown = await asyncio.to_thread(full.call, "history", "show", "e1", 2)
        assert re.findall(r"03-02 10:00:0(\d) +warning +here +trouble (\d)", shown.stdout) == [
            (str(n), str(n)) for n in (1, 2, 3)
        ]
        assert shown.stderr == ""
        assert "trouble" not in (await asyncio.to_thread(full.call, "history", "show", "e1", 1)).stdout
        await connection.execute(
            "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
            "SELECT r.stopped_at, 'error', 'DAQ:', 'here', 'later ' || n, r.id "
            "FROM attpc.runs r, generate_series(1, 100) AS n WHERE r.number = 2"
        )
    finally:
        await connection.close()
    shown = await asyncio.to_thread(full.call, "history", "show", "e1", 2)
    assert "trouble" not in shown.stdout
    assert re.findall(r"later (\d+)", shown.stdout) == [str(n) for n in range(1, 101)]
    assert "there are more" in shown.stderr


def test_an_edit_that_changes_nothing_is_none(full: Shell) -> None:
    full.run("observables", "add", "Pressure", "-e", "e1", "--units", "mbar")
    words = ("history", "edit", "e1", 2, "--title", "new", "--class", "beam", "--set", "Pressure=600.5")
    assert full.run(*words) == "run 2 of e1 changed\n"
    before = full.run("history", "show", "e1", 2, "--format", "json")
    assert len(json.loads(before)["edits"]) == 3
    assert full.run(*words) == "run 2 of e1 is so already\n"
    assert full.run("history", "show", "e1", 2, "--format", "json") == before
    assert full.run(*words[:-1], "Pressure=601") == "run 2 of e1 changed\n"
    edits = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["edits"]
    assert [(edit.get("old"), edit["value"]) for edit in edits[3:]] == [("600.5", "601.0")]


def test_export_and_import(full: Shell, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    result = full.call("history", "export", "-o", out)
    assert "4 runs exported" in result.stderr
    assert "exists already" in full.fails("history", "export", "-o", out)
    full.run("history", "export", "-o", out, "--force")
    assert numbers(out.read_text()) == [("e1", 1), ("e1", 2), ("e1", 3), ("e2", 1)]
    lines = out.with_suffix(".json")
    full.run("history", "export", "--format", "json", "-o", lines)
    assert [json.loads(line)["run"]["number"] for line in lines.read_text().splitlines()] == [1, 2, 3, 1]

    said = full.fails("history", "import", out)
    assert "experiment e1 has runs 1-3 already" in said
    assert "experiment e2 has run 1 already" in said
    assert "nothing was imported" in said
    lines.write_text(lines.read_text().replace('"number": 1,', '"number": 7,'))
    result = full.call("history", "import", lines, "--dry-run", "--skip-existing")
    assert "2 runs would be imported, 2 that were there left out" in result.stderr
    assert len(numbers(full.run("history", "export"))) == 4
    result = full.call("history", "import", lines, "--skip-existing")
    assert "2 runs imported, 2 that were there left out" in result.stderr
    result = full.call("history", "import", "-", "-e", "e3", stdin=full.run("history", "export", "-e", "e1"))
    assert result.exit_code == 0, result.output
    assert numbers(full.run("history", "export", "-e", "e3")) == [("e3", n) for n in (1, 2, 3, 7)]
    assert not list(tmp_path.glob(".*"))


def test_a_stop_before_the_start_is_imported_with_a_warning(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(
        "experiment,number,started_at,stopped_at\n"
        "e9,1,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z\n"
        "e9,2,2026-03-01T01:00:00Z,2026-03-01T00:00:00Z\n"
    )
    result = full.call("history", "import", file)
    assert result.exit_code == 0
    warned, done = result.stderr.splitlines()
    assert warned.startswith(
        f"warning: {file}: line 3, column stopped_at: run 2 of e9 stopped (2026-03-01T00"
    )
    assert done == "2 runs imported"
    # What was taken comes out as it came in, and goes in again.
    out = tmp_path / "out.csv"
    full.run("history", "export", "-e", "e9", "-o", out)
    again = full.call("history", "import", out, "-e", "e10")
    assert again.exit_code == 0
    assert "warning: " in again.stderr
    copy = full.run("history", "export", "-e", "e10")
    assert copy.replace("e10,", "e9,") == out.read_text()


def test_nothing_of_a_broken_file_is_imported(full: Shell, tmp_path: Path) -> None:
    before = full.run("history", "export")
    file = tmp_path / "broken.csv"
    file.write_text("experiment,number,title\nnew,1,a\nnew,2,b\nnew,three,c\n")
    said = full.fails("history", "import", file)
    assert f"{file}: line 4, column number: 'three' is no run number" in said
    assert full.run("history", "export") == before
    assert "new" not in full.run("experiments", "list")
    assert "cannot be an experiment's name" in full.fails("history", "import", file, "-e", "a b")
    assert "no time zone" in full.fails("history", "import", file, "--timezone", "Mars/Olympus")
    result = full.call("history", "import", tmp_path / "none.csv")
    assert isinstance(result.exception, FileNotFoundError)


def test_old_tables(shell: Shell, tmp_path: Path) -> None:
    daq = tmp_path / "daq.csv"
    daq.write_text(
        "run_number,run_class,title,start_datetime,stop_datetime,config_name,Pressure\n"
        "1,PROD,first,2017-03-01 14:03:05,2017-03-01 15:03:05,cfg,500.5\n"
    )
    assert "--experiment" in shell.fails("history", "import", daq)
    shell.run("history", "import", daq, "-e", "e15250", "--timezone", "America/Detroit")
    envoy = tmp_path / "envoy.csv"
    envoy.write_text("Run,Note,Duration,Pressure (Torr)\n2,a, b,361,600\n")
    shell.run("history", "import", envoy, "-e", "e15250")
    first = shell.run("history", "show", "e15250", 1)
    assert re.search(r"Started +2017-03-01 19:03:05", first)
    assert re.search(r"Pressure +entered +500.5", first)
    second = shell.run("history", "show", "e15250", 2)
    assert re.search(r"Title +a, b", second)
    assert re.search(r"Duration +entered +361 +s", second)


def test_a_certificate_that_is_not_there_is_no_socket() -> None:
    missing = FileNotFoundError(2, "No such file or directory")
    tls = Place("plugins.run_history.dsn", read("postgresql://a@db/b?sslmode=verify-full&sslrootcert=/none"))
    assert "sslrootcert=" in str(explain(missing, tls, 3.0))
    socket = Place("plugins.run_history.dsn", read("postgresql://a@/b?host=/none"))
    assert "there is no socket in that folder" in str(explain(missing, socket, 3.0))


def test_settings_that_are_wrong(tmp_path: Path, shell: Shell) -> None:
    assert "does not exist" in Shell(tmp_path / "none.toml").fails("history", "list")
    bad = tmp_path / "bad.toml"
    bad.write_text(IOC.format(state=tmp_path / "state") + "dns = 3\n")
    assert "plugins.run_history.dns: Extra inputs are not permitted" in Shell(bad).fails("history", "list")
    bad.write_text(IOC.format(state=tmp_path / "state") + 'dsn = "postgresql://x@127.0.0.1:1/y"\n')
    said = Shell(bad).fails("history", "list")
    assert said.startswith(
        "database y at 127.0.0.1:1, user x (plugins.run_history.dsn): nothing listens there"
    )
    option = shell.run("history", "list", "--settings", shell.file)
    assert option.startswith("experiment")


@pytest.fixture
def own_place(postgres_place: Callable[[], Path]) -> Path:
    return postgres_place()


def test_an_embedded_database_runs_for_the_time_of_a_command(own_place: Path, tmp_path: Path) -> None:
    file = tmp_path / "ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f'data_dir = "{own_place}"\n')
    shell = Shell(file)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    shell.run("experiments", "create", "e1", "--select")
    runs = tmp_path / "runs.csv"
    runs.write_text(RUNS)
    shell.run("history", "import", runs)
    assert len(shell.run("history", "list").splitlines()) == 5
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if str(own_place) in line]

    # A reader that goes away early, such as `head`, is no fault.
    code = (
        "import typer\nfrom attpc_plugins.run_history.commands import register\n"
        "app = typer.Typer()\nregister(app)\napp()\n"
    )
    words = [sys.executable, "-c", code, "history", "list", "--format", "json", "--settings", str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
