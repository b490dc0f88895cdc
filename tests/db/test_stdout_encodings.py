"""Every shell command with a standard output that is not UTF-8: no traceback, and exports in UTF-8."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from attpc_plugins.run_history.store.applying.files import digest_of
from attpc_plugins.run_history.store.model.history import ConfigUse, Level, Module, Run, RunDetail, Stage
from attpc_plugins.run_history.store.model.records import LogRecord

from attpc_ioc import cli
from attpc_ioc.cli import program
from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunOutcome
from tests.support.history_shell import IOC
from tests.support.run_records import Stamps, open_store, put_of

TEXT = "Größe µ ☢"
ENCODINGS = ("ascii", "latin-1")

ROUTER = """
[plugins.data_routers]
[[plugins.data_routers.router]]
name = "daq"
access = "local"
sources = ["CoBo0"]
staging = "{staging}"
log = "{log}"
process = ""
"""

S = ("--settings", "{file}")

TABLES: dict[str, tuple[str, ...]] = {
    "history list": ("history", "list", *S),
    "history show": ("history", "show", "e1", "1", *S),
    "history edit": ("history", "edit", "e1", "1", "--comment", TEXT, *S),
    "history puts": ("history", "puts", *S),
    "experiments list": ("experiments", "list", *S),
    "experiments create": ("experiments", "create", "e-{unique}", *S),
    "experiments select": ("experiments", "select", "e1", *S),
    "experiments comment": ("experiments", "comment", "e1", TEXT, *S),
    "observables list": ("observables", "list", "-e", "e1", *S),
    "observables add": ("observables", "add", "m-{unique}", "-e", "e1", "--comment", TEXT, *S),
    "observables edit": ("observables", "edit", "m-{unique}", "-e", "e1", "--units", "µm", *S),
    "observables order": ("observables", "order", "m-{unique}", "-e", "e1", *S),
    "observables rename": ("observables", "rename", "m-{unique}", "n-{unique}", "-e", "e1", *S),
    "observables remove": ("observables", "remove", "n-{unique}", "-e", "e1", *S),
    "experiments rename": ("experiments", "rename", "e-{unique}", "f-{unique}", *S),
    "history import": ("history", "import", "{folder}/é☢{unique}.csv", *S),
    "db status": ("db", "status", *S),
    "db migrate": ("db", "migrate", *S),
    "db url": ("db", "url", *S),
    "db backup": ("db", "backup", "{folder}/é☢.dump", "--force", *S),
    "logs": ("logs", "daq", *S),
    "check": ("check", "{file}"),
    "plugins": ("plugins", "{file}"),
    "pvs": ("pvs", "{file}"),
    "next-number": ("next-number", "{file}", "e1", "7"),
    "state show": ("state", "show", "{file}"),
    "state check": ("state", "check", "{file}"),
    "state backup": ("state", "backup", "{file}", "{folder}/é☢{unique}.db"),
    "init": ("init", "--cobos", "1", "--first-cobo", "10.0.0.1", "--output", "{folder}/é☢{unique}.toml"),
    "export screens": ("export", "screens", "{folder}/é☢screens", *S),
    "export facility": ("export", "facility", "{folder}/é☢all", *S),
}
"""For people: what each prints is readable in the encoding that standard output has."""

EXACT: dict[str, tuple[str, ...]] = {
    "history list --format csv": ("history", "list", "--format", "csv", *S),
    "history list --format json": ("history", "list", "--format", "json", *S),
    "history show --format json": ("history", "show", "e1", "1", "--format", "json", *S),
    "history show --configs": ("history", "show", "e1", "1", "--configs", *S),
    "history diff": ("history", "diff", "e1", "1", "2", *S),
    "history export": ("history", "export", *S),
    "history export --format json": ("history", "export", "--format", "json", *S),
    "history puts --format csv": ("history", "puts", "--format", "csv", *S),
    "history puts --format json": ("history", "puts", "--format", "json", *S),
    "experiments list --format csv": ("experiments", "list", "--format", "csv", *S),
    "experiments list --format json": ("experiments", "list", "--format", "json", *S),
    "observables list --format csv": ("observables", "list", "-e", "e1", "--format", "csv", *S),
    "observables list --format json": ("observables", "list", "-e", "e1", "--format", "json", *S),
}
"""For programs: each prints `TEXT` in UTF-8."""

OTHERS: dict[str, tuple[str, ...]] = {
    "pvs --json": ("pvs", "{file}", "--json"),
    "pvs --csv": ("pvs", "{file}", "--csv"),
    "schema": ("schema",),
    "init": ("init", "--cobos", "1", "--first-cobo", "10.0.0.1", "--output", "-"),
    "export alarms": ("export", "alarms", *S),
    "export archiver": ("export", "archiver", *S),
    "export saveset": ("export", "saveset", *S),
    "export service": ("export", "service", *S),
    "check --online": ("check", "{file}", "--online", "--timeout", "0.3"),
    "clients": ("clients", "{file}"),
    "fault": ("fault", "é☢", "hang"),
    "files close": ("files", "close", "1", "--experiment", "é☢", *S),
    "files verify": ("files", "verify", "1", "--experiment", "é☢", *S),
    "files check": ("files", "check", "1", "--experiment", "é☢", *S),
    "files gather": ("files", "gather", "1", "--experiment", "é☢", "--to", "{folder}/é☢", *S),
    "files drop": ("files", "drop", "1", "--experiment", "é☢", *S),
    "db restore": ("db", "restore", "{folder}/é☢none", *S),
    "web token add": ("web", "token", "add", "é☢", *S),
    "web token list": ("web", "token", "list", *S),
    "web token revoke": ("web", "token", "revoke", "é☢", *S),
    "run": ("run", "{folder}/é☢none.toml"),
    "demo": ("demo", "--log-level", "é☢"),
    "simulate": ("simulate", "--é☢"),
}
"""What has text of its own alone, or ends with a reason here."""


@pytest.fixture
def place(dsn: str, tmp_path: Path) -> Path:
    """Return the settings file of an IOC with runs, puts and data whose texts no old encoding has."""
    folder = tmp_path / "é☢staging"
    folder.mkdir()
    log = folder / "log"
    log.write_text(f"{TEXT}\n", encoding="utf-8")
    file = tmp_path / "ioc.toml"
    text = IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n' + ROUTER.format(staging=folder, log=log)
    file.write_text(text, encoding="utf-8")
    uses = [
        ConfigUse("cobo0", "configure", "é", datetime.now(UTC), "file", digest_of(text), text)
        for text in (f"<{TEXT}/>\n", f"<{TEXT} a=1/>\n")
    ]

    async def fill() -> None:
        async with open_store(dsn) as store:
            runs = [
                RunDetail(
                    Run("e1", number, Stage.ENDED, title=TEXT, operator=TEXT, outcome=RunOutcome.STOPPED),
                    modules=(Module("cobo0", "cobo"),),
                    configs=(use,),
                )
                for number, use in enumerate(uses, 1)
            ]
            await store.import_runs(runs)
            await store.comment_experiment("e1", TEXT)
            stamps = Stamps()
            records = (
                LogRecord(stamps(), 1.8e9, Level.WARNING, TEXT, TEXT),
                put_of(stamps(), 1.8e9, "PV", Who("ö", "ß"), "", TEXT, False, TEXT),
            )
            await store.apply_many(records)

    asyncio.run(fill())
    return file


def called(
    monkeypatch: pytest.MonkeyPatch, encoding: str, words: tuple[str, ...], file: Path
) -> tuple[bytes, str, object]:
    """Run a command as the program does; returns what it printed, what it complained of, its exit code."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    folder = file.parent
    filled = [word.format(file=file, folder=folder, unique=encoding) for word in words]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["attpc-ioc", *filled])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out.flush()
    err.flush()
    return out.buffer.getvalue(), err.buffer.getvalue().decode(err.encoding), ended.value.code  # type: ignore[attr-defined]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_command_ends_in_a_traceback(monkeypatch: pytest.MonkeyPatch, place: Path, encoding: str) -> None:
    observable = ("observables", "add", "o-{unique}", "-e", "e1", "--comment", TEXT, *S)
    _, said, code = called(monkeypatch, encoding, observable, place)
    assert (code or 0) == 0, said
    (place.parent / f"é☢{encoding}.csv").write_text(
        f"experiment,number,title\nnew {encoding},1,{TEXT}\n", encoding="utf-8"
    )
    (place.parent / f"é☢{encoding}.toml").unlink(missing_ok=True)
    for name, words in TABLES.items():
        shown, said, code = called(monkeypatch, encoding, words, place)
        assert (code or 0) == 0, (name, said)
        assert "Traceback" not in said, name
        text = shown.decode(encoding)
        if name in (
            "history list",
            "history show",
            "history puts",
            "experiments list",
            "observables list",
            "logs",
        ):
            wanted = TEXT.encode(encoding, errors="replace").decode(encoding)
            assert wanted in text, (name, text)
    for name, words in EXACT.items():
        shown, said, code = called(monkeypatch, encoding, words, place)
        assert (code or 0) == 0, (name, said)
        assert TEXT in shown.decode("utf-8"), name
    for name, words in OTHERS.items():
        shown, said, _ = called(monkeypatch, encoding, words, place)
        assert "Traceback" not in said, name
        shown.decode("utf-8" if name not in ("check --online", "clients") else encoding)


def test_every_command_is_tried() -> None:
    program.add_plugins_commands()
    tree = typer.main.get_command(program.app)

    def leaves(command: Any, path: str) -> Iterator[str]:
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                yield from leaves(command.get_command(None, name), f"{path} {name}".strip())
        else:
            yield path

    tried = {name.split(" --")[0] for name in (*TABLES, *EXACT, *OTHERS)}
    assert set(leaves(tree, "")) == tried


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "env", [PLAIN, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}]
)
def test_as_a_process_of_its_own(place: Path, env: dict[str, str]) -> None:
    def ran(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "attpc_ioc.cli", *words, "--settings", str(place)]
        return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **env})

    encoding = env.get("PYTHONIOENCODING", "ascii")
    shown = ran("history", "list")
    assert shown.returncode == 0, shown.stderr
    assert TEXT.encode(encoding, errors="replace") in shown.stdout
    exported = ran("history", "export")
    assert exported.returncode == 0, exported.stderr
    assert TEXT.encode() in exported.stdout


def test_a_name_that_the_locale_does_not_have_is_said(place: Path) -> None:
    """The settings name a folder with an é, and the file system's names are ASCII in this locale."""
    text = place.read_text(encoding="utf-8")
    state = f'state_dir = "{place.parent / "state"}"'
    place.write_text(text.replace(state, f'state_dir = "{place.parent / "é☢"}"'), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "attpc_ioc.cli", "next-number", str(place), "e1", "3"],
        capture_output=True,
        check=False,
        env={**os.environ, **PLAIN},
    )
    assert b"Traceback" not in result.stderr
    assert result.returncode in (0, 1)
    if result.returncode:
        assert b"LANG=C.UTF-8" in result.stderr
