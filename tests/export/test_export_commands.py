"""`attpc-ioc export alarms`, `archiver` and `saveset` as a person uses them."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from attpc_ioc.settings.template import FleetRequest, fleet_text
from tests.export.alarm_reader import read_alarms
from tests.export.appliance import requests
from tests.support.forked import SHELL, run_forked

COMMANDS = ("alarms", "archiver", "saveset")
os.umask(UMASK := os.umask(0o022))


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(fleet_text(FleetRequest(2, "10.0.0.10", "10.0.0.200", "", "LAB:ATTPC:")))
    return file


def export(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {key: text for key, text in os.environ.items() if key != "ATTPC_IOC_SETTINGS"}
    return run_forked(SHELL, "export", *words, env=env | more)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_goes_to_standard_output_or_into_a_file_of_the_same_text(settings, tmp_path, command):
    shown = export(command, ATTPC_IOC_SETTINGS=str(settings))
    assert shown.returncode == 0, shown.stderr
    assert "LAB:ATTPC:" in shown.stdout
    file = tmp_path / "out"
    file.write_text("what was there")
    ran = export(command, "--settings", settings, "--output", file)
    assert ran.returncode == 0, ran.stderr
    assert str(file) in ran.stdout
    assert file.read_text(encoding="utf-8") == shown.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~UMASK
    assert {path.name for path in tmp_path.iterdir()} == {"fleet.toml", "out"}


def test_each_is_what_its_program_reads(settings, tmp_path):
    json.loads(export("archiver", "--settings", settings).stdout)
    assert next(csv.reader(export("saveset", "--settings", settings).stdout.splitlines()))[0] == "PV"
    for more, name in (
        ((), "LAB_ATTPC"),
        (("--config", "Lab"), "Lab"),
        (("--fragment",), "LAB_ATTPC-fragment"),
    ):
        file = tmp_path / "alarms.xml"
        assert export("alarms", "--settings", settings, "--output", file, *more).returncode == 0
        assert read_alarms(file).name == name


def test_names_by_pvaccess_are_those_by_channel_access_with_the_protocol_before_them(settings, tmp_path):
    by_ca, by_pva = (
        {command: export(command, "--settings", settings, *more).stdout for command in COMMANDS}
        for more in ((), ("--pva",))
    )
    names = {text: list(requests(text)) for text in (by_ca["archiver"], by_pva["archiver"])}
    assert names[by_pva["archiver"]] == [f"pva://{name}" for name in names[by_ca["archiver"]]]
    assert by_pva["saveset"].replace("pva://", "") == by_ca["saveset"]
    assert by_pva["saveset"].splitlines()[1].startswith("pva://LAB:ATTPC:")
    trees = []
    for text in (by_ca["alarms"], by_pva["alarms"]):
        (tmp_path / "alarms.xml").write_text(text)
        trees.append(read_alarms(tmp_path / "alarms.xml"))
    assert trees[0].name == trees[1].name == "LAB_ATTPC"
    assert list(trees[1].pvs) == [f"pva://{name}" for name in trees[0].pvs]
    shown = export("alarms", "--settings", settings, "--pva", "--screens", "/srv/our screens").stdout
    assert "main.bob?P=pva:%2F%2FLAB:ATTPC:" in shown


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("alarms",), "no settings file: give --settings FILE or set ATTPC_IOC_SETTINGS", 1),
        (("archiver", "--settings", "none.toml"), "none.toml: does not exist", 1),
        (
            ("saveset", "--settings", "{file}", "--output", "{folder}/no/such"),
            "/no/such: cannot be written",
            1,
        ),
        (("alarms", "--settings", "{file}", "--output", "{folder}"), "cannot be written", 1),
        (("alarms", "--settings", "{file}", "--config", "two words"), "two words", 2),
        (("alarms", "--settings", "{file}", "--screens", "here"), "absolute", 2),
    ],
)
def test_all_that_is_wrong_is_reported_in_one_text(settings, tmp_path, words, says, code):
    ran = export(*(word.format(file=settings, folder=tmp_path) for word in words))
    assert ran.returncode == code
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == {"fleet.toml"}


@pytest.mark.parametrize("command", [*COMMANDS, "service"])
def test_a_pipe_and_a_link_are_written_into_and_not_replaced(settings, tmp_path, command):
    shown = export(command, "--settings", settings)
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(file)
    file.write_text("what was there")
    file.chmod(0o640)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert export(command, "--settings", settings, "--output", pipe).returncode == 0
        assert reader.communicate(timeout=30)[0] == shown.stdout
    assert export(command, "--settings", settings, "--output", link).returncode == 0
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert link.is_symlink()
    assert (file.read_text(), stat.S_IMODE(file.lstat().st_mode)) == (shown.stdout, 0o640)


@pytest.mark.parametrize("command", ["screens", "facility"])
def test_an_empty_folder_is_not_the_working_directory(settings, tmp_path, monkeypatch, command):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    ran = export(command, "", "--settings", settings)
    assert ran.returncode == 2
    assert "is empty" in ran.stderr
    assert not list(work.iterdir())
    assert export(command, ".", "--settings", settings).returncode == 0
    assert list(work.iterdir())


def test_an_empty_file_name_is_reported(settings):
    ran = export("alarms", "--settings", settings, "--output", "")
    assert (ran.returncode, "is empty" in ran.stderr) == (2, True)
