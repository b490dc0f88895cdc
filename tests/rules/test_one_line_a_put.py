"""The log has one line for each put: the PV, who, the old and the new value, and the reason of a refusal."""

from __future__ import annotations

import logging

import pytest

from attpc_ioc.model.command import RUN, Command, CommandName
from tests.support.rig import rig


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """What an operator finds in the log, and clears it."""
    found = [
        (record.getMessage(), dict(record.__dict__.get("keys", {})))
        for record in caplog.records
        if record.levelno >= logging.INFO and record.name.startswith("attpc_ioc")
    ]
    caplog.clear()
    return found


@pytest.mark.parametrize(
    ("name", "value", "old", "new", "reason"),
    [
        ("Ecc:cobo0:Configure", "1", "Done", "Busy", "Configure starts from Prepared"),
        ("Run:Start", "1", "Done", "Busy", "not Ready"),
        ("Run:MaxDuration", "-1", "0 s", "-1 s", "below the limit 0"),
        ("Ecc:cobo0:ConfigIndex", "99", "-1", "99", "there is no config 99"),
        ("Run:MaxDuration", "5", "0 s", "5 s", ""),
        ("Ecc:cobo0:Enable", "0", "Yes", "No", ""),
    ],
)
async def test_a_put_is_one_line(name, value, old, new, reason, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    async with rig(tmp_path, monkeypatch) as it:
        caplog.clear()
        ran = await it.put(name, value)
        found = lines(caplog)
        assert [event for event, _ in found] == ["put"], found
        keys = found[0][1]
        assert (keys["pv"], keys["ok"]) == (it.prefix + name, not reason)
        assert (keys["old"], keys["new"]) == (old, new)
        assert ran.code == bool(reason)
        assert reason in str(keys.get("reason", ""))
        assert str(keys["who"]) != "?"


async def test_a_command_of_the_iocs_own_has_no_put_and_is_logged_all_the_same(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    async with rig(tmp_path, monkeypatch) as it:
        caplog.clear()
        outcome = await it.app.controller.submit(Command(RUN, CommandName.START))
        assert not outcome.ok
        ((event, keys),) = lines(caplog)
        assert event == "command refused"
        assert str(keys["who"]) == "ioc@ioc"
        assert "not Ready" in str(keys["reason"])
