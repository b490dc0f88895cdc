"""The commands `state show`, `check` and `backup`, on databases that an IOC has written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attpc_ioc.cli.program import app
from attpc_ioc.model.command import RUN
from tests.support.one_ecc import ONE_ECC
from tests.support.rig import rig
from tests.support.runs import running
from tests.support.state_dir import change, opened


def run(*args: object) -> Result:
    result = CliRunner().invoke(app, ["state", *map(str, args)], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def test_the_state_of_an_ioc_that_runs(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await it.put_text("Run:Title", "a [red] \u202etitle\u202c")
        await it.app.log.flush()
        shown = run("show", it.settings_file)
        assert shown.exit_code == 0
        assert "numbers unnamed: 1" in shown.stdout.splitlines()
        # What is not printable is escaped, and square brackets are no markup.
        assert "[red]" in shown.stdout
        assert "\u202e" not in shown.stdout
        found = json.loads(run("show", it.settings_file, "--json", "--events", 1000).stdout)
        assert found["kept"]["run"][""]["open"] is True
        assert sorted(found["kept"]["modules"]) == ["cobo0", "cobo1", "mutant"]
        kinds = [event["kind"] for event in found["events"]]
        for kind in ("state", "operation.starting", "operation.ended", "run.starting", "run.started", "put"):
            assert kind in kinds
        assert [e["position"] for e in found["events"]] == list(range(1, len(kinds) + 1))
        # The reply to a Configure is a digest.
        assert max(len(json.dumps(event)) for event in found["events"]) < 3000
        assert len(json.loads(run("show", it.settings_file, "--json", "--events", 3).stdout)["events"]) == 3
        checked = run("check", it.settings_file)
        assert (checked.exit_code, "state.db: good" in checked.stdout) == (0, True)
        copy = tmp_path / "copy.db"
        assert run("backup", it.settings_file, copy).exit_code == 0
        assert copy.stat().st_mode & 0o777 == 0o600
        assert (await it.submit("Stop", RUN)).ok
        of_copy = json.loads(run("show", it.settings_file, "--json", "--database", copy).stdout)
        assert of_copy["kept"]["run"][""]["open"] is True
        # Nothing is written over.
        again = CliRunner().invoke(app, ["state", "backup", str(it.settings_file), str(copy)])
        assert isinstance(again.exception, FileExistsError)


async def test_the_backup_is_a_state_directory(tmp_path, monkeypatch):
    state, copy = tmp_path / "state", tmp_path / "copy.db"
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert run("backup", it.settings_file, copy).exit_code == 0
        await it.ok("Run:Stop")
        await it.stop_ioc()
        (state / "state.db").unlink()
        copy.rename(state / "state.db")
        await it.start_ioc()
        await it.until(lambda: it.run.state.label == "Interrupted", what="the run that was open then")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE event SET body = '{}' WHERE position = 2", "event 2: "),
        ("UPDATE event SET kind = 'x' WHERE position = 1", "event 1: x is not a kind of event"),
        ("DELETE FROM event_text; ", ""),
    ],
)
async def test_check_names_what_cannot_be_read(tmp_path, sql, said):
    from tests.eventlog.test_log import EVENTS

    file = settings_in(tmp_path)
    async with opened(tmp_path / "state") as event_log:
        for event in EVENTS:
            event_log.append(event)
    assert run("check", file).exit_code == 0
    change(tmp_path / "state", sql)
    result = run("check", file)
    assert (result.exit_code, said in result.stderr) == (1 if said else 0, True)


async def test_check_finds_a_damaged_page_and_a_missing_text(tmp_path):
    from tests.eventlog.test_database import damaged_page
    from tests.eventlog.test_log import EVENTS

    file = settings_in(tmp_path)
    async with opened(tmp_path / "state") as event_log:
        for event in EVENTS * 20:
            event_log.append(event)
    path = tmp_path / "state" / "state.db"
    good = path.read_bytes()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM long_text")
    connection.close()
    result = run("check", file)
    assert result.exit_code == 1
    assert "a row of event_text refers to a missing one of long_text" in result.stderr
    assert "is missing" in result.stderr
    path.write_bytes(good)
    damaged_page(path)
    result = run("check", file)
    assert result.exit_code == 1
    assert str(path) in result.stderr


def test_there_is_no_database_yet(tmp_path):
    result = CliRunner().invoke(app, ["state", "show", str(settings_in(tmp_path))])
    assert "state.db does not exist: no IOC has used this state directory yet" in str(result.exception)


def settings_in(folder: Path) -> Path:
    file = folder / "attpc-ioc.toml"
    file.write_text(f'[ioc]\nstate_dir = "{folder / "state"}"\n{ONE_ECC}')
    return file
