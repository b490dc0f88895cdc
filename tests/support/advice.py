"""What a message says will help, done to the letter."""

from __future__ import annotations

import re

from attpc_ioc.model.command import RUN, SYSTEM, Outcome
from attpc_ioc.model.states import State
from tests.support.rig import Rig

_CONDITIONAL = "If its Breakup ends in Off, restart"


async def follow(it: Rig, message: str) -> Outcome:
    """Do what `message` says, in its order, up to its last step, GoTo Ready; returns how that ended."""
    named = [name for name in it.fleet.servers if re.search(rf"\b{name}\b", message)]
    if "see that it is on" in message:
        for board in it.fleet.boards.values():
            if not board.alive:
                board.revive()
    if "restart the ECC server on 127.0.0.1" in message and _CONDITIONAL not in message:
        for name in named:
            it.fleet[name].restart()
        await it.until(
            lambda: all(it.module(name).online and it.module(name).state is State.IDLE for name in named)
        )
    if "stop it, then" in message and any(m.state is State.RUNNING for m in it.snapshot.enabled):
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok, outcome.message
    assert re.search(r"GoTo Ready|, then GoTo", message), message
    return await it.submit("GoTo", SYSTEM, State.READY)


async def follow_all(it: Rig, message: str, most: int = 4) -> list[str]:
    """Follow one message after the other until all are Ready and a start is offered; returns the messages."""
    messages = [message]
    while len(messages) <= most:
        outcome = await follow(it, messages[-1])
        if outcome.ok:
            assert it.run.checklist == (), it.run.checklist
            return messages
        messages.append(outcome.message)
    raise AssertionError("the advice does not help:\n" + "\n".join(messages))
