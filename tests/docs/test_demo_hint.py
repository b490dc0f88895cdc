"""Who names no settings file while a demo runs is told where the demo's are."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attpc_ioc import cli
from attpc_ioc.settings.demo_place import VARIABLE
from tests.support.ca import CaPlace, ca_place
from tests.support.process import FORKED, environment, started

NONE = "none.toml"

COMMANDS = (
    *(("history", word) for word in ("list", "puts", "export")),
    ("history", "show", "1"),
    ("history", "edit", "e", "1", "--title", "t"),
    ("history", "diff", "1", "2"),
    ("history", "import", "x.csv"),
    *(("db", word) for word in ("status", "migrate", "url")),
    ("db", "backup", "b"),
    ("db", "restore", "b"),
    ("experiments", "list"),
    ("experiments", "create", "e"),
    ("observables", "list"),
    *(("files", word, "1") for word in ("verify", "close", "drop")),
    ("logs", "cobo0"),
    ("export", "screens", "d"),
    *(("export", word) for word in ("alarms", "archiver", "saveset", "service")),
    *((word, NONE) for word in ("check", "clients", "pvs", "plugins", "run")),
    ("next-number", NONE, "e", "1"),
)
"""Every command that needs settings, and where it looks there are none."""


@pytest.fixture
def place() -> Iterator[CaPlace]:
    place = ca_place()
    yield place
    place.close()


def said(monkeypatch: pytest.MonkeyPatch, folder: Path, home: str, *words: str) -> str:
    """Run a command in a folder without settings; returns what it complained of."""
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", home)
        patch.delenv(VARIABLE, raising=False)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["attpc-ioc", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 1, words
    err.flush()
    return err.buffer.getvalue().decode()  # type: ignore[attr-defined]


async def test_every_command_names_the_settings_of_a_running_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: CaPlace, state_home: dict[str, str]
) -> None:
    home = state_home["XDG_STATE_HOME"]
    demo_file = f"{home}/attpc-ioc/demo/demo.toml"
    hint = (
        f"a demo is running with the settings {demo_file}: give that file, or export {VARIABLE}={demo_file}"
    )
    env = environment(place, tmp_path, state_home)
    (tmp_path / "x.csv").write_text("experiment,number\n")
    assert hint not in await asyncio.to_thread(said, monkeypatch, tmp_path, home, "history", "list")
    prefix = f"D{os.getpid()}:"
    async with started(FORKED, "demo", "--cobos", "1", "--prefix", prefix, env=env, folder=tmp_path) as demo:
        await demo.until("Ctrl-C here ends it.")
        for words in COMMANDS:
            text = await asyncio.to_thread(said, monkeypatch, tmp_path, home, *words)
            assert hint in text, (words, text)
        await demo.end(signal.SIGINT)
    # Its file stays, and it is of no use any more.
    assert os.path.isfile(demo_file)  # noqa: ASYNC240
    assert "demo" not in await asyncio.to_thread(said, monkeypatch, tmp_path, home, "history", "list")
