"""Messages for people: equal reasons of several modules are one, and read right."""

from __future__ import annotations

import pytest

from attpc_ioc.model import rules
from attpc_ioc.model.command import (
    RUN,
    Command,
    CommandName,
    Outcome,
    Reason,
    ResultCode,
    join_reasons,
    reason_lines,
)


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("is in Idle, not Ready", "are in Idle, not Ready"),
        ("is Offline (no connection)", "are Offline (no connection)"),
        ("was not seen yet", "were not seen yet"),
        ("has not answered our Start yet", "have not answered our Start yet"),
        ("roll-back: was not seen out of Running", "roll-back: were not seen out of Running"),
        ("is Running: stop it first", "are Running: stop them first"),
        ("Start failed (code 1: is broken)", "Start failed (code 1: is broken)"),
        ("issue of the day", "issue of the day"),
        (
            "the reply to Start was lost (no answer); the module is seen in Ready",
            "the reply to Start was lost (no answer); the modules are seen in Ready",
        ),
        (
            "what is loaded is not known (?): GoTo Ready takes it back to Described and up again",
            "what is loaded is not known (?): GoTo Ready takes them back to Described and up again",
        ),
        (
            rules.stale_text(),
            "their clocks are stale: the MuTAnT was taken back below Prepared; "
            "GoTo takes them down and up again",
        ),
    ],
)
def test_equal_reasons_are_one_in_the_plural(one: str, several: str) -> None:
    assert join_reasons([Reason(one, "cobo0")]) == f"cobo0: {one}"
    assert join_reasons([Reason(one, "cobo0"), Reason(one, "cobo0")]) == f"cobo0: {one}"
    assert join_reasons([Reason(one, "cobo0"), Reason(one, "cobo1")]) == f"cobo0, cobo1: {several}"


def test_a_reason_of_no_module_is_as_it_was_written() -> None:
    assert join_reasons([Reason("is what the shift leader says"), Reason("is Off", "cobo0")]) == (
        "is what the shift leader says; cobo0: is Off"
    )


def test_the_message_of_an_outcome() -> None:
    reasons = (Reason("is in Idle", "cobo0"), Reason("is in Idle", "cobo1"), Reason("is Off", "mutant"))
    outcome = Outcome(Command(RUN, CommandName.START), ResultCode.REFUSED, "", reasons)
    assert outcome.message == "Run:Start Refused: cobo0, cobo1: are in Idle; mutant: is Off"


def test_a_line_for_each_reason_has_the_name_of_every_module():
    reasons = [Reason("is Idle, not Ready", f"cobo{number}") for number in range(3)]
    assert reason_lines([*reasons, Reason("no experiment")]) == (
        "cobo0, cobo1, cobo2: are Idle, not Ready",
        "no experiment",
    )
    assert reason_lines(()) == ()
