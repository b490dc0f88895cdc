"""Why an entry was refused can be read: screens put without completion and never see a failed put."""

from __future__ import annotations

import re

import pytest

from attpc_ioc.model.command import ResultCode
from tests.ioc.test_records_clients import Ioc, ioc  # noqa: F401  (fixture)

SHOWN = "Refused_RBV"


@pytest.mark.parametrize(
    ("name", "bad", "said", "good"),
    [
        ("Run:MaxDuration", "-1", "Run:MaxDuration: ", "1"),
        ("Gas", "13", "Gas: not that one", "20.5"),
        ("Gas", "1001", "Gas: 1001", "20.5"),
    ],
)
async def test_it_says_what_was_refused_when_and_to_whom_until_one_is_taken(
    ioc: Ioc,  # noqa: F811
    name: str,
    bad: str,
    said: str,
    good: str,
):
    assert await ioc.get(SHOWN, "-S") == ""
    assert await ioc.put(name, bad) != 0
    shown = await ioc.get(SHOWN, "-S")
    assert re.match(rf"\d\d:\d\d:\d\d {said}", shown), shown
    assert "@" in shown, "who"
    assert await ioc.get(f"{SHOWN}.SEVR") == "NO_ALARM"
    assert await ioc.put_text("Run:Title", "another entry") == 0
    assert await ioc.get(SHOWN, "-S") == shown, "what was refused is still not there"
    assert await ioc.put(name, good) == 0
    assert await ioc.get(SHOWN, "-S") == ""


async def test_a_text_that_is_too_long_and_a_setpoint_that_is_not_taken_now(ioc: Ioc):  # noqa: F811
    assert await ioc.put_text("Run:Title", "ü" * 201) == 1
    assert "Run:Title: " in await ioc.get(SHOWN, "-S")
    ioc.control.refuse = "a run is on"
    assert await ioc.put_text("Run:Experiment", "e2") == 1
    assert "Run:Experiment: a run is on" in await ioc.get(SHOWN, "-S"), "the last one"


async def test_refused_commands_and_fields_do_not_show_there(ioc: Ioc):  # noqa: F811
    ioc.control.code = ResultCode.REFUSED
    assert await ioc.put("Describe", "1") != 0
    assert await ioc.put("Run:Title.DESC", "mine") != 0
    assert await ioc.get(SHOWN, "-S") == ""
