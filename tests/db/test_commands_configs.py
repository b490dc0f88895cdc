"""What a run was loaded with, at the shell: shown as it was, and held against another run's."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.records import RunRef

from attpc_ioc.model.events import RunConfigText, RunFiles
from tests.support.history_shell import IOC, Shell
from tests.support.process import ATTPC_IOC
from tests.support.run_records import EXPERIMENT, T0, Life, Stamps, configs_of, follow, open_store

DESCRIBE = "<Setup>\n  <Node id='CoBo' address='127.0.0.1'/>\n</Setup>\n"
GAIN_1 = "<Setup>\n  <Gain unit='fC'>120</Gain>\n  <Sampling>50</Sampling>\n</Setup>\n"
GAIN_2 = "<Setup>\n  <Gain unit='fC'>240</Gain>\n  <Sampling>50</Sampling>\n</Setup>\n"


async def fill(store: Store) -> None:
    stamps = Stamps()
    for number, gain in ((1, GAIN_1), (2, GAIN_1), (3, GAIN_2)):
        run = RunRef(EXPERIMENT, number)
        for record in Life(number, stamps, t0=T0 + 1000 * number).whole():
            await follow(store, record)
        uses = [RunConfigText(m, "configure", "e20009", gain, "file") for m in ("MuTAnT", "cobo0")]
        uses.append(RunConfigText("cobo0", "describe", "cobo0", DESCRIBE, "reply"))
        uses.append(RunConfigText("MuTAnT", "describe", "e20009", fault="permission denied"))
        await follow(store, configs_of(stamps(), T0, run, *uses))
        place = f"/data/{EXPERIMENT}/run_{number:04d}"
        await follow(
            store,
            RunFiles(
                stamp=stamps(),
                time_s=T0,
                experiment=EXPERIMENT,
                number=number,
                router="data0",
                sources=("CoBo0",),
                state="Done",
                files=4,
                data_bytes=2 * 10**9,
                location=place,
            ),
        )
    for record in Life(4, stamps, t0=T0 + 9000).whole():
        await follow(store, record)


@pytest.fixture
def shell(dsn: str, tmp_path: Path) -> Shell:
    async def work() -> None:
        async with open_store(dsn) as store:
            await fill(store)

    asyncio.run(work())
    file = tmp_path / "attpc-ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f"dsn = {json.dumps(dsn)}\n", encoding="utf-8")
    return Shell(file)


def test_what_a_run_was_loaded_with(shell: Shell) -> None:
    shown = shell.run("history", "show", EXPERIMENT, 3, "--configs")
    assert GAIN_2 in shown
    assert DESCRIBE in shown
    assert shown.count(GAIN_2) == 1, "the same file of several members is printed once"
    assert "==== configure-e20009.xcfg of MuTAnT, cobo0 (from the file, sha256 " in shown
    assert "==== describe-cobo0.xcfg of cobo0 (from the reply to Configure, sha256 " in shown
    assert "==== describe-e20009.xcfg of MuTAnT: not on record: permission denied\n" in shown
    assert "no configuration files are on record for run 4" in shell.fails(
        "history", "show", EXPERIMENT, 4, "--configs"
    )


def test_a_run_shows_its_files(shell: Shell) -> None:
    shown = shell.run("history", "show", EXPERIMENT, 1)
    assert "/data/e20009/run_0001" in shown
    assert " 2.000 " in shown
    detail = json.loads(shell.run("history", "show", EXPERIMENT, 1, "--format", "json", "--configs"))
    assert {use.get("text") for use in detail["configs"]} == {GAIN_1, DESCRIBE, None}
    assert detail["files"][0]["data_bytes"] == 2 * 10**9


def test_what_changed_between_two_runs(shell: Shell) -> None:
    same = shell.call("history", "diff", EXPERIMENT, 1, 2, "--exit-code")
    assert (same.exit_code, same.stdout) == (0, "")
    assert "both runs had the same configuration files" in same.stderr
    changed = shell.call("history", "diff", EXPERIMENT, 1, 3, "--exit-code")
    assert changed.exit_code == 1
    lines = changed.stdout.splitlines()
    assert lines[0] == "==== MuTAnT, cobo0: configure-e20009.xcfg in run 1 -> configure-e20009.xcfg in run 3"
    assert [line for line in lines if line[:2] in ("- ", "+ ")] == [
        "-  <Gain unit='fC'>120</Gain>",
        "+  <Gain unit='fC'>240</Gain>",
    ]
    assert shell.run("history", "diff", EXPERIMENT, 1, 3, "--names").count("\n") == 1
    assert "no configuration files are on record for run 4" in shell.fails(
        "history", "diff", EXPERIMENT, 1, 4
    )
    assert "run 77" in shell.fails("history", "diff", EXPERIMENT, 1, 77)


async def used(store: Store, stamps: Stamps, number: int, source: str, text: str) -> None:
    """Have a run on record whose only file has this text, from there."""
    for record in Life(number, stamps, t0=T0 + 1000 * number).whole():
        await follow(store, record)
    use = RunConfigText("cobo0", "configure", "e20009", text, source)
    await follow(store, configs_of(stamps(), T0, RunRef(EXPERIMENT, number), use))


@pytest.fixture
def odd(dsn: str, tmp_path: Path) -> Shell:
    """Runs whose files would steer a terminal, and one of which only the reply to Configure is known."""
    steering = "<a>\r\n\x1b[2J\x1b]0;owned\x07\x9b1m\x0c</a>\r\n"

    async def work() -> None:
        async with open_store(dsn) as store:
            stamps = Stamps()
            await used(store, stamps, 1, "file", "<a>\r\n</a>\r\n")
            await used(store, stamps, 2, "file", steering)
            await used(store, stamps, 3, "file", "<a>\n</a>\n")
            await used(store, stamps, 4, "reply", "<Setup><a>\n</a></Setup>\n")

    asyncio.run(work())
    file = tmp_path / "attpc-ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f"dsn = {json.dumps(dsn)}\n", encoding="utf-8")
    return Shell(file)


def test_no_file_steers_the_terminal(odd: Shell) -> None:
    changed = odd.run("history", "diff", EXPERIMENT, 1, 2)
    assert r"+\x1b[2J\x1b]0;owned\x07\x9b1m\x0c</a>" in changed.splitlines()
    assert all(char in "\n\t" or char.isprintable() for char in changed)
    ends = odd.run("history", "diff", EXPERIMENT, 1, 3).splitlines()
    assert [line for line in ends if line[:2] in ("-<", "+<")] == [r"-<a>\r", r"-</a>\r", "+<a>", "+</a>"]
    command = [str(ATTPC_IOC), "history", "show", EXPERIMENT, "2", "--configs", "--settings", str(odd.file)]
    into_a_file = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    assert b"\x1b[2J" in into_a_file
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command, stdout=theirs, stdin=subprocess.DEVNULL, timeout=60, check=True)
        on_a_terminal = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"\\x1b[2J" in on_a_terminal
    assert b"\x1b[2J" not in on_a_terminal


def test_a_file_against_a_reply_to_configure_is_said_to_be_unlike(odd: Shell) -> None:
    for more in ((), ("--names",)):
        assert "the whole reply to Configure" in odd.run("history", "diff", EXPERIMENT, 3, 4, *more)
        assert "reply to Configure" not in odd.run("history", "diff", EXPERIMENT, 1, 3, *more)


def test_the_number_alone_is_a_run_of_the_current_experiment(shell: Shell) -> None:
    assert "no experiment is current: name one before the number" in shell.fails("history", "show", 3)
    shell.run("experiments", "select", EXPERIMENT)
    for words in (("show", 3), ("show", 3, "--configs"), ("diff", 1, 3)):
        whole = shell.call("history", words[0], EXPERIMENT, *words[1:])
        assert shell.call("history", *words).stdout == whole.stdout
        assert whole.stdout
    assert shell.fails("history", "show", 77) == f"there is no run 77 of experiment {EXPERIMENT!r}"
    assert shell.fails("history", "show", "3", 3).endswith("there is one of: e20009")
    assert "'three' is not a run number" in shell.fails("history", "show", "three")
    assert "'a 1 2' is not [EXPERIMENT] NUMBER" in shell.fails("history", "show", "a", 1, 2)
    assert "'3' is not [EXPERIMENT] NUMBER OTHER" in shell.fails("history", "diff", 3)


def test_export_and_import_take_the_texts_along(shell: Shell, tmp_path: Path) -> None:
    for kind in ("json", "csv"):
        file = tmp_path / f"runs.{kind}"
        shell.run("history", "export", "-e", EXPERIMENT, "--format", kind, "--output", file)
        text = file.read_text(encoding="utf-8")
        assert text.count("240</Gain>") == 1
        assert text.count("120</Gain>") == 1, "two runs with the same text"
        copy = f"copy-{kind}"
        shell.run("history", "import", file, "--experiment", copy)
        assert shell.run("history", "show", copy, 2, "--configs") == shell.run(
            "history", "show", EXPERIMENT, 2, "--configs"
        )
    broken = (tmp_path / "runs.json").read_text(encoding="utf-8").replace("240</Gain>", "241</Gain>")
    (tmp_path / "broken.json").write_text(broken, encoding="utf-8")
    said = shell.fails("history", "import", tmp_path / "broken.json", "--experiment", "broken")
    assert "the text is not the one of its sha256" in said
