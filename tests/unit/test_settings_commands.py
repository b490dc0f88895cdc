"""The commands `init`, `check` and `schema`, with simulated ECC servers for `--online`."""

import asyncio
import json
import time
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attpc_ioc.cli.program import app
from attpc_ioc.model.states import Kind, State
from attpc_ioc.settings import load_settings
from attpc_ioc.settings.schema import settings_schema
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.simfleet import take_up

AT_TPC = ["--cobos", "11", "--first-cobo", "192.168.41.60", "--mutant", "192.168.41.1"]


def run(*args: object) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_init_writes_the_fleet_of_the_at_tpc(tmp_path):
    file = tmp_path / "fleet.toml"
    result = run("init", *AT_TPC, "--output", file)
    assert result.exit_code == 0, result.output
    assert str(file) in result.output
    settings = load_settings(file)
    assert settings.ioc.prefix == "ATTPC:"
    assert [ecc.name for ecc in settings.ecc] == [*(f"cobo{i}" for i in range(11)), "mutant"]
    for i, ecc in enumerate(settings.ecc[:11]):
        assert (ecc.host, ecc.port, ecc.kind) == (f"192.168.41.{60 + i}", 8083, Kind.COBO)
        assert str(ecc.rule) == f"'cobo{i}'"
        (source,) = ecc.source
        (link,) = source.link
        assert (source.id, source.pv_name) == (f"CoBo[{i}]", f"CoBo{i}")
        assert (link.address, link.port, link.type) == (ecc.host, 46005, "TCP")
    mutant = settings.ecc[11]
    assert (mutant.host, mutant.kind, str(mutant.rule)) == (
        "192.168.41.1",
        Kind.MUTANT,
        "the experiment's name",
    )
    assert (mutant.source[0].id, mutant.source[0].pv_name) == ("Mutant[master]", "MuTAnT")
    assert (mutant.source[0].link[0].port, mutant.source[0].link[0].type) == (46005, "FDT")


def test_every_default_in_the_file_can_be_uncommented(tmp_path):
    file = tmp_path / "fleet.toml"
    assert run("init", *AT_TPC, "--all", "--output", file).exit_code == 0
    before = load_settings(file)
    lines = file.read_text().split("\n")
    keys = [line for line in lines if line.startswith("#") and not line.startswith("# ") and line != "#"]
    assert len(keys) > 30
    file.write_text("\n".join(line[1:] if line in keys else line for line in lines))
    after = load_settings(file)
    for section in ("run", "poll", "limits", "order", "ecc", "plugins"):
        assert getattr(after, section) == getattr(before, section)
    assert after.ioc.prefix == before.ioc.prefix
    # Where the default is nothing, the comment has an example.
    assert (after.ioc.server_port, after.ioc.state_dir) == (5064, "/var/lib/attpc-ioc")


def test_the_fleet_comes_first_and_five_keys_follow(tmp_path):
    file = tmp_path / "fleet.toml"
    assert run("init", *AT_TPC, "--output", file).exit_code == 0
    lines = file.read_text().splitlines()
    assert lines.index("[[ecc]]") < 6
    assert lines.count("[[ecc]]") == 12
    after_fleet = lines[max(i for i, line in enumerate(lines) if line.startswith("type =")) :]
    keys = [line[1:].partition(" ")[0] for line in after_fleet if line.startswith("#") and line[1] != " "]
    assert keys == ["prefix", "state_dir", "engineer", "location", "interfaces"]
    assert "docs/reference/settings.md" in lines[-1]
    assert "attpc-ioc schema" in lines[-1]
    assert "attpc-ioc init --all" in lines[-1]
    # Each of them can be uncommented, and the file loads.
    file.write_text(
        "\n".join(line[1:] if line.startswith("#") and line[1] != " " else line for line in lines)
    )
    ioc = load_settings(file).ioc
    assert (ioc.state_dir, ioc.prefix) == ("/var/lib/attpc-ioc", "ATTPC:")


@pytest.mark.parametrize("request_", [["--prefix", "LAB:"], ["--prefix", "LAB:", "--single", "10.0.0.9"]])
def test_both_files_of_init_say_the_same(tmp_path, request_):
    words = ("init", *AT_TPC, *request_, "--output")
    assert run(*words, tmp_path / "short.toml").exit_code == 0
    assert run(*words, tmp_path / "all.toml", "--all").exit_code == 0
    assert load_settings(tmp_path / "short.toml") == load_settings(tmp_path / "all.toml")
    every = (tmp_path / "all.toml").read_text().splitlines()
    assert every.index("[[ecc]]") < every.index("[poll]"), "the fleet is first here too"
    assert "#quiet_period_s = 0.5" in every


@pytest.mark.parametrize(
    ("args", "routers"),
    [
        (
            ["--first-cobo", "10.0.0.7", "--mutant", "10.0.0.1", "--single", "daq"],
            ["10.0.0.7:46005", "10.0.0.8:46005", "10.0.0.1:46005"],
        ),
        (
            ["--single", "10.0.0.9", "--mutant", "10.0.0.9"],
            ["10.0.0.9:46005", "10.0.0.9:46006", "10.0.0.9:46007"],
        ),
        (["--single", "10.0.0.9"], ["10.0.0.9:46005", "10.0.0.9:46006"]),
    ],
)
def test_init_with_one_server_for_all_boards(tmp_path, args, routers):
    file = tmp_path / "fleet.toml"
    result = run("init", "--cobos", 2, *args, "--output", file, "--prefix", "LAB:")
    assert result.exit_code == 0, result.output
    settings = load_settings(file)
    assert settings.ioc.prefix == "LAB:"
    (ecc,) = settings.ecc
    assert (ecc.kind, str(ecc.rule)) == (Kind.OTHER, "the experiment's name")
    assert ecc.host == args[args.index("--single") + 1]
    assert [f"{s.link[0].address}:{s.link[0].port}" for s in ecc.source] == routers
    assert [source.pv_name for source in ecc.source] == ["CoBo0", "CoBo1", "MuTAnT"][: len(routers)]


def test_init_to_standard_output():
    result = run("init", *AT_TPC, "--output", "-")
    assert result.exit_code == 0
    assert len(tomllib.loads(result.stdout)["ecc"]) == 12


def test_init_writes_to_the_current_directory_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("init", *AT_TPC).exit_code == 0
    assert load_settings(Path("attpc-ioc.toml")).ecc


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--cobos", "0", "--first-cobo", "10.0.0.1"], "--cobos must be 1 to 256, not 0"),
        (["--cobos", "x"], "--cobos"),
        ([], "--cobos"),
        (["--cobos", "2"], "--first-cobo must be given"),
        (["--cobos", "2", "--single", "daq"], "--first-cobo must be given: the address of the data router"),
        (["--cobos", "7", "--first-cobo", "10.0.0.250"], "would end in .256, past 255"),
        (["--cobos", "11", "--first-cobo", "192.168.41.250"], "would end in .260, past 255"),
        (["--cobos", "2", "--first-cobo", "cobo0"], "--first-cobo must be an IPv4 address"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1:80"], "--first-cobo must be an IPv4 address"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--mutant", "x"], "--mutant must be an IPv4 address"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--mutant", "10.0.0.2"], "is one of theirs"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--single", "http://x"], "--single must be the host"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--prefix", "A"], "--prefix must be letters"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--prefix", ""], "--prefix must not be empty"),
        (["--cobos", "2", "--first-cobo", "10.0.0.1", "--prefix", "A" * 34 + ":"], "shorter by 3"),
        (["--cobos", "2", "--frist-cobo", "10.0.0.1"], "No such option"),
    ],
)
def test_init_refuses(tmp_path, monkeypatch, args, wanted):
    monkeypatch.chdir(tmp_path)
    result = run("init", *args)
    assert result.exit_code == 2
    assert wanted in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_reports_all_mistakes_at_once(tmp_path):
    result = run(
        "init", "--cobos", 0, "--first-cobo", "x", "--mutant", "y", "--prefix", "", "--output", tmp_path / "f"
    )
    assert [line.split()[0] for line in result.stderr.splitlines()] == [
        "--prefix",
        "--cobos",
        "--mutant",
        "--first-cobo",
    ]


def test_init_leaves_existing_files_alone(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text("mine")
    result = run("init", *AT_TPC, "--output", file)
    assert (result.exit_code, file.read_text()) == (1, "mine")
    assert "exists already" in result.stderr
    assert run("init", *AT_TPC, "--output", tmp_path).exit_code == 1
    result = run("init", *AT_TPC, "--output", tmp_path / "none" / "f.toml")
    assert result.exit_code == 1
    assert "cannot be written: No such file" in result.stderr


def test_check_of_a_right_file(tmp_path):
    file = tmp_path / "fleet.toml"
    run("init", *AT_TPC, "--output", file)
    with file.open("a") as stream:
        stream.write("[plugins.mapping]\nenabled = false\n[plugins.run_numbers]\n")
    result = run("check", file)
    assert result.exit_code == 0
    assert result.stderr == ""
    for words in (
        "all right",
        "ATTPC:",
        "12: cobo0, cobo1",
        "12, with 12 data links",
        "mapping (off), run_numbers",
    ):
        assert words in result.stdout


def test_check_of_a_wrong_file(tmp_path):
    file = tmp_path / "fleet.toml"
    run("init", *AT_TPC, "--output", file)
    file.write_text(file.read_text().replace('host = "192.168.41.62"', 'host = "192.168.41.61"\nport = 0'))
    result = run("check", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{file}: ecc[2].port (ECC server 'cobo2') must be 1 to 65535, not 0",
        "1 fault",
    ]
    result = run("check", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_check_without_a_file_is_a_wrong_use():
    assert run("check").exit_code == 2
    assert run("check", "a", "--timeout", "0").exit_code == 2


def test_schema():
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == settings_schema()


async def check_online(file: Path, *args: object) -> tuple[Result, dict[str, str]]:
    """Check in a thread, beside the servers; return the result and the table's lines by server."""
    result = await asyncio.to_thread(run, "check", file, "--online", *args)
    lines = result.stdout.split("ECC server  ")[-1].splitlines()[1:]
    return result, {line.split()[0]: line for line in lines if line.strip()}


async def test_online_check(tmp_path):
    file = tmp_path / "fleet.toml"
    async with SimulatedFleet(cobos=2) as fleet:
        file.write_text(fleet.settings_toml("T:"))
        await take_up(fleet, State.DESCRIBED, "cobo1")
        result, lines = await check_online(file)
        assert result.exit_code == 0, result.output
        assert list(lines) == ["cobo0", "cobo1", "mutant", "ChannelFinder:"]
        assert lines["ChannelFinder:"] == "ChannelFinder: off (channel_finder.enabled is false)"
        assert f"http://127.0.0.1:{fleet['cobo0'].port}/" in lines["cobo0"]
        assert "Idle" in lines["cobo0"]
        assert "match 'cobo0'" in lines["cobo0"]
        assert "Described" in lines["cobo1"]
        assert "match the experiment's name" in lines["mutant"]


async def test_online_check_with_servers_that_are_not_right(tmp_path):
    file = tmp_path / "fleet.toml"
    async with SimulatedFleet(cobos=4) as fleet:
        file.write_text(fleet.settings_toml("T:").replace('describe = "cobo2"', 'describe = "none[x]"'))
        fleet["cobo0"].faults.hang("GetState")
        fleet["cobo1"].faults.hang("GetConfigIDs")
        await fleet["cobo3"].end()
        began_s = time.monotonic()
        result, lines = await check_online(file, "--timeout", 4)
        # All at once: two servers that hang take no longer than one.
        assert time.monotonic() - began_s < 8
        fleet["cobo0"].faults.clear()
        fleet["cobo1"].faults.clear()
        assert result.exit_code == 1
        assert "not right: cobo0, cobo1, cobo2, cobo3\n" in result.stderr
        assert "Offline" in lines["cobo0"]
        assert "Idle" in lines["cobo1"]
        assert "4 s" in lines["cobo1"]
        assert "matches a name like 'none[x]'" in lines["cobo2"]
        assert "Offline" in lines["cobo3"]
        assert "Idle" in lines["mutant"]


def test_check_holds_the_plugins_sections_against_the_plugins(tmp_path):
    text = run("init", "--cobos", "1", "--first-cobo", "127.0.0.1", "--output", "-").stdout
    file = tmp_path / "a.toml"
    file.write_text(f"{text}\n[plugins.valv]\nx = 1\n", encoding="utf-8")
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{file}: plugins.valv: no such plugin" in result.stderr


@pytest.mark.parametrize(
    ("dsn", "mode", "warned"),
    [
        ("postgresql://ioc:s3cr3t@db.lab/attpc", 0o644, True),
        ("postgresql://ioc@db.lab/attpc?password=s3cr3t", 0o644, True),
        ("postgresql://ioc:s3cr3t@db.lab/attpc", 0o640, False),
        ("postgresql://ioc@db.lab:5432/attpc", 0o644, False),
    ],
)
def test_check_warns_of_a_password_that_every_account_can_read(tmp_path, dsn: str, mode: int, warned: bool):
    file = tmp_path / "fleet.toml"
    assert run("init", *AT_TPC, "--output", file).exit_code == 0
    file.write_text(f'{file.read_text()}\n[plugins.run_history]\ndsn = "{dsn}"\n')
    file.chmod(mode)
    checked = run("check", file)
    assert checked.exit_code == 0, checked.output
    assert ("PGPASSFILE" in checked.output, f"chmod 640 {file}" in checked.output) == (warned, warned)
    assert "s3cr3t" not in checked.output
