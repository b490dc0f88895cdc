"""Experiments and run sheets at the shell, and settings that lead to no database."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from attpc_plugins.run_history.connection.dsn import read
from attpc_plugins.run_history.connection.faults import Target, explain
from attpc_plugins.run_history.sheets.kept import load_kept

from attpc_ioc.app import load_plugins, make_table
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.settings import load_settings
from tests.support.history import given_plugins
from tests.support.history_shell import IOC, RUNS, Shell


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
    assert "is not a PV name" in shell.fails("observables", "add", "X", "--pv", "a b")
    assert "nothing to change" in shell.fails("observables", "edit", "Pressure")


def test_observables_are_kept_for_the_next_start(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "plugins" / "run_history"
    shell.run("experiments", "create", "e1", "--select")
    shell.run("observables", "add", "First")
    assert load_kept(folder).observables == ()  # there was no IOC here yet
    folder.mkdir(parents=True)
    said = shell.run("observables", "add", "Gas", "--type", "string")
    assert "its PV ATTPC:Obs:Gas follows when the IOC is restarted" in said
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


def test_a_certificate_that_is_not_there_is_no_socket() -> None:
    missing = FileNotFoundError(2, "No such file or directory")
    tls = Target("plugins.run_history.dsn", read("postgresql://a@db/b?sslmode=verify-full&sslrootcert=/none"))
    assert "sslrootcert=" in str(explain(missing, tls, 3.0))
    socket = Target("plugins.run_history.dsn", read("postgresql://a@/b?host=/none"))
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
        "import typer\nfrom attpc_plugins.run_history.commands.lazy import add_commands\n"
        "app = typer.Typer()\nadd_commands(app)\napp()\n"
    )
    words = [sys.executable, "-c", code, "history", "list", "--format", "json", "--settings", str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
