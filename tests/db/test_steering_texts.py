"""No command's output steers a terminal, whatever the names and texts of others hold."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attpc_plugins.run_history.store.applying.files import digest_of
from attpc_plugins.run_history.store.model.history import ConfigUse, Level, Module, Run, RunDetail, Stage
from attpc_plugins.run_history.store.model.records import LogRecord

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunOutcome
from tests.db.test_stdout_encodings import EXACT, OTHERS, ROUTER, TABLES, TEXT, called
from tests.support.history_shell import IOC
from tests.support.run_records import Stamps, open_store, put_of

ODD = "\x1b]0;owned\x07\x9b31m\u202etxt.exe\u2028\x85end"
"""Sets the window's title, makes all red, turns the writing around, ends lines."""

STYLE = re.compile(rb"\x1b\[[0-9;]*m")
"""What a table in colours may send to a terminal."""


def harmless(text: str) -> bool:
    return all(c in "\n\t" or c.isprintable() for c in text.replace("\r\n", "\n"))


@pytest.fixture
def place(dsn: str, tmp_path: Path) -> Path:
    """The settings of an IOC with runs, puts, a log and files that hold `ODD`."""
    (tmp_path / "staging").mkdir()
    log = tmp_path / "log"
    log.write_text(f"{ODD}\n", encoding="utf-8")
    (tmp_path / "staging" / f"CoBo0_{ODD}.graw").write_text("")
    file = tmp_path / "ioc.toml"
    where = ROUTER.format(staging=tmp_path / "staging", log=log)
    file.write_text(IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n' + where, encoding="utf-8")

    async def fill() -> None:
        async with open_store(dsn) as store:
            runs = [
                RunDetail(
                    Run(
                        "e1",
                        number,
                        Stage.ENDED,
                        title=ODD,
                        operator=ODD,
                        comment=f"two\n{ODD}",
                        reason=ODD,
                        config_name=ODD,
                        outcome=RunOutcome.STOPPED,
                        started_by=Who(ODD, ODD, ODD),
                    ),
                    modules=(Module("cobo0", "cobo", ODD, ODD, ODD, ODD),),
                    configs=(
                        ConfigUse(
                            "cobo0", "configure", ODD, datetime.now(UTC), "file", digest_of(text), text
                        ),
                    ),
                )
                for number, text in ((1, f"<{ODD}/>\n"), (2, f"<{ODD} a=1/>\n"))
            ]
            await store.import_runs(runs)
            await store.comment_experiment("e1", ODD)
            stamps = Stamps()
            records = (
                LogRecord(stamps(), 1.8e9, Level.WARNING, ODD, ODD),
                put_of(stamps(), 1.8e9, "PV", Who(ODD, ODD), ODD, ODD, False, ODD),
            )
            await store.apply_many(records)

    asyncio.run(fill())
    return file


@pytest.mark.timeout(180)
def test_no_command_prints_what_a_terminal_obeys(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place.parent / f"{ODD}utf-8.csv").write_text(
        f"experiment,number,title\nnew,1,{TEXT}\n", encoding="utf-8"
    )
    first = ("observables", "add", "o-{unique}", "-e", "e1", "--comment", ODD, "--settings", "{file}")
    called(monkeypatch, "utf-8", first, place)
    tried = 0
    for name, words in {**TABLES, **EXACT, **OTHERS}.items():
        if name == "history show --configs":
            continue  # into a file the detector's files go as they are
        odd = tuple(word.replace(TEXT, ODD).replace("é☢", ODD) for word in words)
        printed, said, _ = called(monkeypatch, "utf-8", odd, place)
        assert harmless(printed.decode()), (name, printed)
        assert harmless(said), (name, said)
        tried += "owned" in printed.decode() + said
    assert tried > 20, "most quote it"


def test_no_table_steers_the_terminal_that_it_is_shown_on(place: Path) -> None:
    for words in (["history", "list"], ["history", "show", "e1", "1"], ["history", "puts"]):
        ours, theirs = pty.openpty()
        try:
            command = [sys.executable, "-m", "attpc_ioc.cli", *words, "--settings", str(place)]
            env = {**os.environ, "COLUMNS": "500", "TERM": "xterm"}
            subprocess.run(command, stdout=theirs, stdin=subprocess.DEVNULL, timeout=60, check=True, env=env)
            shown = os.read(ours, 1 << 16)
        finally:
            os.close(ours)
            os.close(theirs)
        assert STYLE.search(shown), "titles are bold"
        text = STYLE.sub(b"", shown).decode()
        assert harmless(text), text
        assert "\\x1b]0;owned\\x07\\x9b31m\\u202etxt.exe" in text
