"""`Controller.submit` never raises, whatever a plugin gives it: what cannot be done is an outcome."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.command import (
    COMMANDS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    Outcome,
    ResultCode,
    Scope,
    ScopeKind,
    Who,
    ecc_scope,
)
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from attpc_ioc.simulator.durations import INSTANT
from tests.support.bad_input import Tracebacks
from tests.support.rig import Rig, rig
from tests.support.runs import Recorder, ready, running

SHIFT = Who("tester", "here", "127.0.0.1")


async def given_by_a_plugin(it: Rig, command: Command) -> Outcome:
    """Give a command through the context of a plugin, as its author would."""
    context = it.app.host.plugins["rec"].context
    assert context is not None
    return await context.submit(command)


async def test_a_start_that_gives_a_reason_is_a_start(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("rec", recorder)]) as it:
        number = await ready(it)
        outcome = await given_by_a_plugin(it, Command(RUN, CommandName.START, reason="beam is back"))
        assert outcome.ok, outcome.message
        assert it.run.state is RunState.RUNNING
        assert it.run.number == number
        outcome = await given_by_a_plugin(it, Command(RUN, CommandName.STOP, reason="beam is gone"))
        assert outcome.ok, outcome.message
        assert it.run.info is not None
        assert it.run.info.reason == "beam is gone"


@pytest.mark.parametrize(
    ("target", "who", "reason"),
    [(State.READY, SHIFT, None), (4, "me", "\ud800 \x00 é"), (None, None, 7)],
    ids=["no reason", "half a character", "nobody"],
)
async def test_a_stop_is_done_whatever_else_its_command_says(tmp_path, monkeypatch, target, who, reason):
    """A plugin's mistake in what a stop does not need must not keep the run on."""
    async with rig(tmp_path, monkeypatch, cobos=1) as it:
        await running(it)
        stop: Any = "Stop"
        outcome = await it.app.controller.submit(
            Command(Scope(ScopeKind.RUN, "x"), stop, target, who, reason)
        )
        assert outcome.ok, outcome.message
        assert it.run.state is RunState.STOPPED
        # It could be written down: the state database takes half characters too.
        await it.app.log.flush()
        assert it.app.log.fault == ""


@pytest.mark.parametrize(
    ("command", "because"),
    [
        (
            Command(RUN, CommandName.REFRESH_CONFIGS),
            "run has no command 'RefreshConfigs': it has Start, Stop",
        ),
        (Command(ecc_scope("nope"), CommandName.REFRESH_CONFIGS), "there is no ECC server 'nope'"),
        (Command(ecc_scope("nope"), CommandName.STOP), "there is no ECC server 'nope'"),
        (Command(ecc_scope(""), CommandName.GOTO, State.IDLE), "there is no ECC server ''"),
        (Command(Scope(ScopeKind.SOURCE, "CoBo0"), CommandName.STOP), "source:CoBo0 has no commands"),
        (Command(SYSTEM, CommandName.START), "system has no command 'Start'"),
        (Command(SYSTEM, CommandName.GOTO), "the target is None: give Idle, Described, Prepared, Ready"),
        (Command(SYSTEM, CommandName.GOTO, State.RUNNING), "give Idle, Described, Prepared, Ready"),
    ],
    ids=str,
)
async def test_a_command_that_there_is_not_is_refused(tmp_path, monkeypatch, command, because):
    async with rig(tmp_path, monkeypatch, cobos=1) as it:
        outcome = await it.app.controller.submit(command)
        assert outcome.code is ResultCode.REFUSED
        assert because in outcome.message
        assert it.fleet.log.transitions() == []


class Rubbish:
    """A site's plugin whose plan is none."""

    @hookimpl
    def attpc_plan(self, command: Command) -> Plan | None:
        return Plan(command, stages=(None,)) if command.name is CommandName.DESCRIBE else None  # type: ignore[arg-type]


async def test_a_plan_that_is_none_refuses_its_command(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("rubbish", Rubbish())]) as it:
        await it.select()
        outcome = await it.submit("Describe")
        assert outcome.code is ResultCode.REFUSED
        assert "fault of the program" in outcome.message
        assert "fault of the program" in await it.message("Describe")
        assert not it.snapshot.busy


# ---------------------------------------------------------------------- at random

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.text(st.characters(categories=("Cs", "Cc")), max_size=5),
    st.lists(st.integers(), max_size=2),
    st.binary(max_size=5),
)
KINDS = st.one_of(st.sampled_from(ScopeKind), st.sampled_from(ScopeKind).map(str), ODD)
SCOPES = st.one_of(
    st.sampled_from([SYSTEM, RUN, ecc_scope("cobo0"), ecc_scope("mutant")]),
    st.sampled_from([SYSTEM, RUN, ecc_scope("cobo0"), ecc_scope("mutant")]),
    st.builds(Scope, KINDS, st.one_of(st.sampled_from(["", "cobo0", "CoBo0", "nope"]), ODD)),
    ODD,
)
GOOD_NAMES = st.one_of(st.sampled_from(CommandName), st.sampled_from(CommandName).map(str))
NAMES = st.one_of(GOOD_NAMES, GOOD_NAMES, GOOD_NAMES, ODD)
TARGETS = st.one_of(st.none(), st.sampled_from(State), st.sampled_from(State).map(int), ODD)
WHOS = st.one_of(st.just(SHIFT), st.builds(Who, ODD, ODD, ODD), ODD)
REASONS = st.one_of(st.just(""), ODD)
EVERY = [(scope, name) for scope in (SYSTEM, RUN, ecc_scope("cobo0")) for name in COMMANDS[scope.kind]]
COMMAND = st.one_of(
    st.builds(lambda known, *rest: Command(*known, *rest), st.sampled_from(EVERY), TARGETS, WHOS, REASONS),
    st.builds(Command, SCOPES, NAMES, TARGETS, WHOS, REASONS),
)

LENGTH = 150
EXAMPLES = 3


async def example(commands: list[Command], begin: State) -> Counter[str]:
    """Give the commands one after the other, some of them beside the next; returns how they ended."""
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        async with rig(Path(folder), patch, cobos=1, durations=INSTANT) as it:
            await (it.start_run() if begin is State.RUNNING else it.take_to(begin))
            tasks = []
            for number, command in enumerate(commands):
                tasks.append(asyncio.create_task(it.app.controller.submit(command)))
                if number % 4:
                    await tasks[-1]
            for task in tasks:
                outcome = await task
                assert outcome.message
                ended[outcome.code.label] += 1
            await it.until(lambda: not it.snapshot.busy, 15.0, "nothing running")
            await it.app.log.flush()
            outcome = await it.submit("Stop", RUN)
            assert outcome.ok, outcome.message
            assert (await it.submit("GoTo", SYSTEM, State.READY)).ok
            assert (await it.submit("Start", RUN)).ok
    return ended


@pytest.mark.parametrize("begin", [State.IDLE, State.READY, State.RUNNING], ids=lambda s: s.label)
def test_submit_never_raises(begin: State) -> None:
    ended: Counter[str] = Counter()
    every = [
        Command(scope, name, target, SHIFT, reason)
        for scope in (SYSTEM, RUN, ecc_scope("cobo0"), ecc_scope("nope"), Scope(ScopeKind.IOC))
        for name in CommandName
        for target in (None, State.READY)
        for reason in ("", "why")
    ]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=(Phase.explicit, Phase.generate),
    )
    @given(st.lists(COMMAND, min_size=LENGTH, max_size=LENGTH))
    def check(commands: list[Command]) -> None:
        ended.update(asyncio.run(example(commands, begin)))

    tracebacks = Tracebacks()

    logging.getLogger().addHandler(tracebacks)
    try:
        ended.update(asyncio.run(example(every, begin)))
        check()
    finally:
        logging.getLogger().removeHandler(tracebacks)
    assert tracebacks.found == []
    # That nothing was raised is worth something only where much was done.
    assert ended["Done"] > 5, ended
