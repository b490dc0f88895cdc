"""`attpc-ioc files close|verify|drop` and `logs`, over real folders, a real sshd and a simulated sentry."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.commands.logs import harmless
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.plugin import DataRouters
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from attpc_ioc.model.events import RunFiles
from attpc_ioc.model.run import RunRef
from tests.support.closings import EXPERIMENT, QUIET_S, closings_in, entries_of, fill, grow, sums
from tests.support.data_rig import data_rig, section, shown, start_run, stop_run
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.probe import Probe

RUN = RunRef(EXPERIMENT, 42)


class Shell:
    """A settings file with two hosts, and the commands given to it."""

    def __init__(self, folder: Path, routers: list[dict] | None = None, more: str = "") -> None:
        self.staging = {name: folder / name for name in ("CoBo0", "MuTAnT")}
        for path in self.staging.values():
            path.mkdir()
        self.file = folder / "it.toml"
        self.state = folder / "state"
        made = routers or [
            {"access": "local", "sources": [name], "staging": str(path), "process": "", "log": f"{path}/log"}
            for name, path in self.staging.items()
        ]
        lines = [
            "[ioc]",
            'prefix = "T:"',
            f'state_dir = "{folder / "state"}"',
            "[plugins.data_routers]",
            "period_s = 0.1",
            more,
            "[plugins.data_routers.closing]",
            f"quiet_s = {QUIET_S}",
            "checksums = true",
        ]
        for router in made:
            lines.append("[[plugins.data_routers.router]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in router.items()]
        for port, (name, (kind, sender)) in enumerate(BOARDS.items(), 8083):
            lines += ["[[ecc]]", f'name = "{name}"', f'kind = "{kind}"']
            lines += ['host = "127.0.0.1"', f"port = {port}"]
            lines += ["[[ecc.source]]", f'id = "{sender}"']
            lines += ["[[ecc.source.link]]", 'name = "data"', 'address = "127.0.0.1"', f"port = {port + 100}"]
        self.file.write_text("\n".join(lines))
        self.app = typer.Typer()
        DataRouters().attpc_cli(self.app)

    def __call__(self, *words: object) -> Result:
        return CliRunner().invoke(self.app, [*map(str, words), "--settings", str(self.file)])

    def place(self, name: str = "CoBo0", number: int = 42) -> Path:
        return self.staging[name] / EXPERIMENT / f"run_{number:04d}"

    def put(self, number: int, phase: Phase, **fields) -> Closing:
        entry = Closing(RunRef(EXPERIMENT, number), "CoBo0", ("CoBo0",), phase, began_s=float(number))
        entry = replace(entry, settled=True, before={}, **fields)
        self.save(entry)
        return entry

    def save(self, entry: Closing) -> None:
        async def save() -> None:
            async with closings_in(self.state) as closings:
                await closings.save(entry)

        asyncio.run(save())

    def entries(self) -> list[Closing]:
        return entries_of(self.state)

    def forget(self, entry: Closing) -> None:
        async def forget() -> None:
            async with closings_in(self.state) as closings:
                closings.remove(entry)

        asyncio.run(forget())


BOARDS = {"cobo0": ("cobo", "CoBo[0]"), "mutant": ("mutant", "Mutant[master]")}


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


def test_a_run_is_closed_and_verified_by_hand(shell):
    written = {name: fill(path, ["a.graw", "b.graw"]) for name, path in shell.staging.items()}
    ran = shell("files", "close", 42, "--experiment", EXPERIMENT)
    assert ran.exit_code == 0, ran.output
    assert "CoBo0: Waiting: " in ran.output
    assert "MuTAnT: Done: 2 files" in ran.output
    for name in shell.staging:
        assert sums(shell.place(name)) == written[name]
    again = shell("files", "close", 42)
    assert again.exit_code == 0
    assert "CoBo0: Done: 2 files" in again.output
    verified = shell("files", "verify", 42)
    assert verified.exit_code == 0, verified.output
    assert "CoBo0: 2 files" in verified.output
    assert verified.output.count("all as in the manifest") == 2


def test_a_router_that_took_no_part_keeps_its_files_unless_it_is_named(shell):
    shell.put(42, Phase.CLOSING)
    strays = fill(shell.staging["MuTAnT"], ["stray.graw"])
    ran = shell("files", "close", 42)
    assert ran.exit_code == 0, ran.output
    assert "MuTAnT: e20009/run_0042: took no part in it, as far as is known" in ran.output
    assert sums(shell.staging["MuTAnT"]) == strays
    assert shell("files", "close", 42, "--router", "MuTAnT").exit_code == 0
    assert sums(shell.place("MuTAnT")) == strays


def test_what_is_wrong_is_found(shell):
    for path in shell.staging.values():
        fill(path, ["a.graw", "b.graw", "c.graw"])
    assert shell("files", "close", 42, "--experiment", EXPERIMENT).exit_code == 0
    place = shell.place()
    raw = (place / "a.graw").read_bytes()
    (place / "a.graw").write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    grow(place / "b.graw")
    (place / "c.graw").rename(place / "d.graw")
    ran = shell("files", "verify", 42)
    assert ran.exit_code == 1
    for text in (
        "CoBo0: a.graw: its SHA-256 differs",
        "CoBo0: b.graw: ",
        "CoBo0: missing: c.graw",
        "CoBo0: not in the manifest: d.graw",
        "MuTAnT: 3 files",
    ):
        assert text in ran.output
    assert shell("files", "verify", 42, "--router", "MuTAnT").exit_code == 0
    (shell.place("MuTAnT") / "manifest.json").write_text('{"version": 1}')
    damaged = shell("files", "verify", 42, "--router", "MuTAnT")
    assert damaged.exit_code == 1
    assert f"{shell.place('MuTAnT')}/manifest.json: files: Field required" in damaged.output
    missing = shell("files", "verify", 41, "--experiment", EXPERIMENT, "--router", "CoBo0")
    assert missing.exit_code == 1
    assert "not closed on this host" in missing.output


def test_words_that_mean_nothing_here(shell):
    assert "name its experiment" in shell("files", "close", 42).output
    assert "cannot be an experiment's name" in shell("files", "close", 42, "--experiment", "../x").output
    assert "no data router is called 'CoBo9'; there are CoBo0, MuTAnT" in (
        shell("files", "close", 42, "--experiment", "x", "--router", "CoBo9").output
    )
    assert shell("files", "drop", 42, "--experiment", "x").exit_code == 1


def test_the_run_that_is_on_is_not_closed(shell):
    shell.put(42, Phase.RUNNING)
    written = fill(shell.staging["CoBo0"], ["a.graw"])
    ran = shell("files", "close", 42, "--router", "CoBo0")
    assert ran.exit_code == 1
    assert "is on, as far as is known" in ran.output
    assert sums(shell.staging["CoBo0"]) == written
    assert shell("files", "close", 42, "--router", "CoBo0", "--force").exit_code == 0
    assert sums(shell.place()) == written


def test_an_older_run_is_closed_by_hand_while_the_next_is_on(shell):
    old = fill(shell.staging["CoBo0"], ["old.graw"])
    shell.save(replace(shell.put(43, Phase.RUNNING), before=dict.fromkeys(old)))
    new = fill(shell.staging["CoBo0"], ["new.graw"], seed=2)
    ran = shell("files", "close", 42, "--experiment", EXPERIMENT, "--router", "CoBo0")
    assert ran.exit_code == 0, ran.output
    assert sums(shell.place()) == old
    assert sums(shell.staging["CoBo0"]) == new


def test_files_of_two_runs_are_separated_by_hand(shell):
    shell.put(42, Phase.CLOSING, mixed="they lie together")
    one = fill(shell.staging["CoBo0"], ["x_42_0.graw", "x_42_1.graw"])
    other = fill(shell.staging["CoBo0"], ["x_43.graw"], seed=3)
    assert "they lie together" in shell("files", "close", 42, "--router", "CoBo0").output
    assert (
        "no file in the staging folder"
        in shell("files", "close", 42, "--only", "y*", "--router", "CoBo0").output
    )
    ran = shell("files", "close", 42, "--only", "x_42*", "--router", "CoBo0")
    assert ran.exit_code == 0, ran.output
    assert sums(shell.place()) == one
    assert sums(shell.staging["CoBo0"]) == other


def test_strays_are_taken_where_that_is_said(shell):
    strays = fill(shell.staging["CoBo0"], ["stray.graw"])
    entry = shell.put(42, Phase.CLOSING)
    shell.save(replace(entry, before=dict.fromkeys(strays)))
    ran = shell("files", "close", 42, "--router", "CoBo0", "--all")
    assert ran.exit_code == 0, ran.output
    assert sums(shell.place()) == strays


def test_without_what_is_gone(shell):
    written = fill(shell.staging["CoBo0"], ["a.graw", "b.graw"])
    shell.put(42, Phase.CLOSING, chosen={"a.graw": 1, "b.graw": 1, "gone.graw": 5})
    ran = shell("files", "close", 42, "--router", "CoBo0")
    assert ran.exit_code == 1
    assert "gone from the staging folder: gone.graw" in ran.output
    assert not shell.place().exists()
    ran = shell("files", "close", 42, "--router", "CoBo0", "--without-missing")
    assert ran.exit_code == 0, ran.output
    assert sums(shell.place()) == written
    assert json.loads((shell.place() / "manifest.json").read_text())["missing"] == [{"name": "gone.graw"}]


def test_missing_files_are_reported_when_a_run_is_verified(shell):
    fill(shell.staging["CoBo0"], ["a.graw"])
    shell.put(42, Phase.CLOSING, chosen={"a.graw": 1, "gone.graw": 5})
    assert shell("files", "close", 42, "--router", "CoBo0", "--without-missing").exit_code == 0
    verified = shell("files", "verify", 42, "--router", "CoBo0")
    assert verified.exit_code == 0, verified.output
    assert "CoBo0: 1 file" in verified.output
    assert "lists as missing since the run was closed: gone.graw" in verified.output


def test_a_run_that_is_closed_takes_no_more_files(shell):
    written = fill(shell.staging["CoBo0"], ["a.graw"])
    assert shell("files", "close", 42, "--experiment", EXPERIMENT, "--router", "CoBo0").exit_code == 0
    assert shell("files", "close", 42, "--router", "CoBo0", "--all").exit_code == 0, "there is none"
    strays = fill(shell.staging["CoBo0"], ["stray.graw"])
    for words in (["--all"], ["--only", "str*"]):
        ran = shell("files", "close", 42, "--router", "CoBo0", *words)
        assert ran.exit_code == 1, ran.output
        assert "is closed and takes no more files" in ran.output
        assert "stray.graw" in ran.output
        assert "Close the run that they belong to: " in ran.output
        assert "`mv -n`" in ran.output
    assert shell("files", "close", 42, "--router", "CoBo0", "--only", "other*").exit_code == 0
    assert sums(shell.staging["CoBo0"]) == strays
    assert sums(shell.place()) == written


def test_an_older_run_is_verified_without_naming_its_experiment(shell):
    fill(shell.staging["CoBo0"], ["a.graw"])
    shell("files", "close", 41, "--experiment", EXPERIMENT, "--router", "CoBo0")
    shell.forget(shell.entries()[0])
    refused = shell("files", "verify", 41, "--router", "CoBo0")
    assert refused.exit_code == 1
    assert "name its experiment" in refused.output
    shell.put(42, Phase.DONE)
    verified = shell("files", "verify", 41, "--router", "CoBo0")
    assert verified.exit_code == 0, verified.output
    assert f"experiment {EXPERIMENT} is meant, that of run 42" in verified.output
    assert "all as in the manifest" in verified.output


def test_given_up(shell):
    written = fill(shell.staging["CoBo0"], ["a.graw"])
    shell.put(42, Phase.CLOSING)
    ran = shell("files", "drop", 42, "--router", "CoBo0")
    assert ran.exit_code == 0, ran.output
    assert "given up" in ran.output
    (entry,) = shell.entries()
    assert entry.phase is Phase.DROPPED
    assert sums(shell.staging["CoBo0"]) == written
    assert shell("files", "close", 42, "--router", "CoBo0").exit_code == 0
    assert sums(shell.place()) == written


async def command(file: Path, *words: object) -> tuple[int, str]:
    """Give a command beside an IOC; its exit code and what it says."""
    process = await forked(SHELL, "files", *map(str, words), "--settings", file, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_by_hand_beside_an_ioc_that_is_at_it(tmp_path, monkeypatch):
    probe = Probe()
    text = section(closing={"quiet_s": 1.0})
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=text, plugins=[("probe", probe)]) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number = it.run.number
        await it.until(lambda: list(host.staging.glob("*.graw")), 20.0, "data was written")
        code, said = await command(it.settings_file, "close", number)
        assert code == 1, said
        assert "is on, as far as is known" in said
        await stop_run(it)
        ended = await asyncio.gather(*(command(it.settings_file, "close", number) for _ in range(2)))
        for code, said in ended:
            assert code == 0, said
            assert "CoBo0: Done: " in said
            assert "MuTAnT: Done: " in said
        assert list((host.staging / it.run.experiment / f"run_{number:04d}").glob("*.graw"))
        assert not list(host.staging.glob("*.graw"))
        # What was done at the shell is shown and told by the IOC.
        await it.until(lambda: shown(it, "Run:Closing_RBV") == int(CloseState.DONE), 20.0, "it is shown")

        def done() -> list[str]:
            return sorted(e.router for e in probe.of(RunFiles) if e.state == "Done")

        await it.until(lambda: done() == ["CoBo0", "MuTAnT"], 20.0, "it is told once of each")
        code, said = await command(it.settings_file, "verify", number)
        assert code == 0, said
        assert "all as in the manifest" in said
        code, said = await command(it.settings_file, "drop", number)
        assert code == 0, said
        assert "nothing to give up" in said
        it.settings_file.write_text(it.settings_file.read_text().replace('"CoBo0"', '"CoBo7"'))
        code, said = await command(it.settings_file, "close", number, "--router", "CoBo7")
        assert code == 1
        assert "have no data router 'CoBo7'" in said


@pytest.mark.parametrize("again", [True, False], ids=["restarted", "ended"])
async def test_a_command_outlives_the_ioc_that_it_asked(tmp_path, monkeypatch, again):
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=section(closing={"quiet_s": 1.0})) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number, experiment = it.run.number, it.run.experiment
        await it.until(lambda: list(host.staging.glob("*.graw")), 20.0, "data was written")
        host.faults.endless = True
        await stop_run(it)
        words = ("files", "close", str(number), "--router", "CoBo0", "--settings")
        process = await forked(SHELL, *words, it.settings_file, stdout=PIPE, stderr=STDOUT)
        assert process.stdout is not None
        assert b"CoBo0: Waiting" in await process.stdout.readline()
        await it.stop_ioc()
        host.faults.endless = False
        if again:
            await it.start_ioc()
        said, _ = await process.communicate()
        assert process.returncode == 0, said
        assert b"CoBo0: Done: " in said
        assert list((host.staging / experiment / f"run_{number:04d}").glob("*.graw"))
        assert not list(host.staging.glob("*.graw"))


async def test_a_command_waits_for_another_that_uses_the_state_directory(tmp_path):
    shell = Shell(tmp_path)
    written = fill(shell.staging["CoBo0"], ["a.graw"])
    words = ("files", "close", "42", "--experiment", EXPERIMENT, "--router", "CoBo0", "--settings")
    async with closings_in(shell.state):
        process = await forked(SHELL, *words, shell.file, stdout=PIPE, stderr=PIPE)
        assert process.stderr is not None
        said = (await process.stderr.readline()).decode()
        assert "is using it" in said
        assert said.endswith("; waiting for it\n")
        assert sums(shell.staging["CoBo0"]) == written
    out, errors = await process.communicate()
    assert process.returncode == 0, (out, errors)
    assert errors == b"", "it is said once"
    assert sums(shell.place()) == written


def test_a_sentry_is_reported_and_shows_nothing(tmp_path):
    router = {"access": "sentry", "sources": ["CoBo0"], "host": "127.0.0.1", "port": 1}
    shell = Shell(tmp_path, [router])
    ran = shell("files", "close", 42, "--experiment", EXPERIMENT)
    assert ran.exit_code == 1
    assert "CoBo0: Unreachable: " in ran.output
    assert "none can be chosen" in shell("files", "close", 42, "--all").output
    ran = shell("files", "verify", 42)
    assert ran.exit_code == 3
    assert "CoBo0: still being closed: Unreachable: " in ran.output
    assert "CoBo0: not checked: a sentry shows no files" in shell("files", "verify", 43).output
    assert shell("logs", "CoBo0").exit_code == 1


# ---------------------------------------------------------------------------- logs


def test_a_log_that_is_cut_says_so(shell):
    log = shell.staging["CoBo0"] / "log"
    log.write_bytes(b"".join(b"line %06d\n" % n for n in range(100_000)))
    cut = shell("logs", "CoBo0", "-n", 100_000)
    assert cut.exit_code == 0
    assert cut.stdout.endswith("line 099999\n")
    count = cut.stdout.count("\n")
    assert count == -(-(1 << 20) // 12)
    assert cut.stderr.startswith(f"these are the last {count} of the 100000 lines asked for: at most 1 MiB")
    assert shell("logs", "CoBo0", "-n", 1000).stderr == ""
    log.write_bytes(b"line\n" * 10)
    assert shell("logs", "CoBo0", "-n", 1000).stderr == ""


def test_the_end_of_a_log(tmp_path):
    more = "\n".join(
        [
            "[[plugins.data_routers.ecc]]",
            'names = ["cobo0"]',
            'access = "local"',
            'xcfg = "/x"',
            f'log = "{tmp_path}/cobo0.log"',
        ]
    )
    shell = Shell(tmp_path)
    shell.file.write_text(f"{shell.file.read_text()}\n{more}\n")
    (tmp_path / "cobo0.log").write_bytes(b"".join(b"line %d\n" % n for n in range(500)))
    ran = shell("logs", "cobo0")
    assert (ran.exit_code, ran.output) == (0, "".join(f"line {n}\n" for n in range(400, 500)))
    assert shell("logs", "cobo0", "-n", 2).output == "line 498\nline 499\n"
    (shell.staging["CoBo0"] / "log").write_bytes(b"caf\xe9 \x1b[2Jred\x07\r\nlast without end")
    assert shell("logs", "CoBo0").output == "caf\ufffd \\x1b[2Jred\\x07\nlast without end\n"
    (shell.staging["CoBo0"] / "log").write_bytes(b"")
    empty = shell("logs", "CoBo0")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "the log of CoBo0 is empty\n")
    (shell.staging["CoBo0"] / "log").unlink()
    gone = shell("logs", "CoBo0")
    assert gone.exit_code == 1
    assert "log" in gone.output
    assert "do not say where the log of mutant is" in shell("logs", "mutant").output
    assert "no data router or ECC server is called 'x'; there are CoBo0, MuTAnT, cobo0, mutant" in (
        shell("logs", "x").output
    )


@given(st.binary(max_size=200))
def test_any_log_is_harmless(raw):
    shown = harmless(raw)
    assert all(char in "\n\t" or char.isprintable() for char in shown)
    assert shown == "" or shown.endswith("\n")
    shown.encode("utf-8")
