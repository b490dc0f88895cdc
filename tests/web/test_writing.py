"""Who has a name writes PVs by HTTP as EPICS clients do: the same refusals, and each request once."""

from __future__ import annotations

import asyncio

import pytest
from attpc_plugins.web.problems import ProblemBody
from attpc_plugins.web.repeats import Asked
from attpc_plugins.web.shown import PvValue
from attpc_plugins.web.tokens import Role

from attpc_ioc.model.command import Put
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.patience import HANGS_S
from tests.support.web import WebRig, web_rig

RULES = """
UAG(operators) { alice, edna }
UAG(experts) { edna }
HAG(here) { localhost }
ASG(DEFAULT) { RULE(1, READ) }
ASG(OPERATOR) { RULE(1, READ) RULE(1, WRITE) { UAG(operators) HAG(here) } }
ASG(EXPERT) { RULE(1, READ) RULE(1, WRITE) { UAG(experts) HAG(here) } }
"""


class Listener:
    """A plugin that keeps the puts."""

    def __init__(self) -> None:
        self.puts: list[Put] = []

    @hookimpl
    async def attpc_event(self, event: object) -> None:
        if isinstance(event, Put):
            self.puts.append(event)


async def test_a_setpoint_and_a_command(tmp_path, monkeypatch):
    listener = Listener()
    async with web_rig(tmp_path, monkeypatch, plugins=[("listener", listener)]) as it:
        alice = it.token("alice")
        status, shown = await it.put("Run:Title", "at night ä", alice)
        assert status == 200
        PvValue.model_validate(shown, strict=True)
        assert shown["value"] == "at night ä"
        assert await it.rig.get_text("Run:Title") == "at night ä"
        await it.rig.select()
        assert (await it.put("GoTo", "Ready", alice, query="?wait=true"))[0] == 200
        assert it.rig.module("cobo0").state is State.READY
        await it.rig.until(lambda: len(listener.puts) >= 2)
        mine = [put for put in listener.puts if put.who.user == "alice"]
        assert [(put.pv.removeprefix(it.rig.prefix), put.ok) for put in mine] == [
            ("Run:Title", True),
            ("GoTo", True),
        ]
        for put in mine:
            assert (put.who.via, put.who.host) == ("web", "127.0.0.1")
            assert put.who.address.startswith("127.0.0.1:")


async def test_a_command_that_takes_long_is_answered_before_its_end(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, answered_s=0.01) as it:
        alice = it.token("alice")
        await it.rig.select()
        status, shown = await it.put("GoTo", "Ready", alice)
        assert status == 202
        PvValue.model_validate(shown, strict=True)
        await it.rig.until_all(State.READY)


async def test_every_reason_of_a_refusal(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, cobos=2) as it:
        alice = it.token("alice")
        it.rig.fleet["cobo1"].faults.die()
        await it.rig.until(lambda: not it.rig.module("cobo1").online)
        for query in ("", "?wait=true"):
            status, problem = await it.put("Run:Start", 1, alice, query=query)
            assert status == 409
            ProblemBody.model_validate(problem)
            assert problem["reasons"] == list(it.rig.run.checklist)
            assert len(problem["reasons"]) > 1, problem
        for query, status in (("?wait=True", 409), ("?wait=maybe", 422)):
            assert (await it.put("Run:Start", 1, alice, query=query))[0] == status
        assert it.rig.run.state is not RunState.RUNNING


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("GoTo", "Nowhere", "'Nowhere' is not one of"),
        ("GoTo", 99, ""),
        ("Run:MaxDuration", -1, "below the limit 0"),
        ("Run:Title", "x" * 10_000, "are more than 200"),
        ("Run:Title", "a\x07b", ""),
        ("Run:Title", "half \ud800", "surrogate"),
        ("Run:MaxDuration", 10**400, "too large"),
        ("Run:MaxDuration", True, "a number or a text"),
        ("Run:MaxDuration", None, "a number or a text"),
        ("Run:MaxDuration", [1], "a number or a text"),
        ("State_RBV", 1, ""),
    ],
)
async def test_values_that_a_pv_cannot_have(tmp_path, monkeypatch, part, value, words):
    async with web_rig(tmp_path, monkeypatch) as it:
        status, problem = await it.put(part, value, it.token("edna", Role.EXPERT))
        assert status == (403 if part == "State_RBV" else 422), problem
        assert words in problem["detail"]
        ProblemBody.model_validate(problem)


async def test_role_and_access_file_both_decide(tmp_path, monkeypatch):
    (tmp_path / "rules.acf").write_text(RULES)
    async with web_rig(tmp_path, monkeypatch, access=f'file = "{tmp_path / "rules.acf"}"') as it:
        alice, edna = it.token("alice"), it.token("edna", Role.EXPERT)
        small, viewer = it.token("edna"), it.token("edna", Role.VIEWER)
        guest, bold = it.token("guest"), it.token("alice", Role.EXPERT)
        for token, title, expert in (
            (alice, 200, 403),
            (edna, 200, 409),
            (small, 200, 403),
            (viewer, 403, 403),
            (guest, 403, 403),
            (bold, 200, 403),
            ("", 401, 401),
        ):
            assert (await it.put("Run:Title", "x", token))[0] == title
            status, problem = await it.put("Ecc:cobo0:Start", 1, token, query="?wait=true")
            assert status == expert, problem
        _, problem = await it.put("Run:Title", "x", viewer)
        assert problem["detail"] == f"{it.rig.prefix}Run:Title is for operators; edna is viewer"
        _, problem = await it.put("Run:Title", "x", guest)
        assert "no write access" in problem["detail"]
        status, session = await it.get("/api/v1/session", headers={"Authorization": f"Bearer {alice}"})
        assert (status, session["name"], session["role"], session["csrf"]) == (200, "alice", "operator", "")
        names = {name.removeprefix(it.rig.prefix) for name in session["writable"]}
        assert {"Run:Title", "Run:Start"} <= names
        assert not names & {"Ecc:cobo0:Start", "State_RBV"}


# ---------------------------------------------------------------------- repeated requests


async def ready(it: WebRig) -> str:
    """Make a run possible; returns a token."""
    alice = it.token("alice")
    await it.rig.select()
    await it.rig.ok("GoTo", "Ready")
    return alice


def keys(it: WebRig) -> dict[str, Asked]:
    """What is kept of the keys."""
    assert it.plugin.service is not None
    return it.plugin.service._web._repeats._kept.values


async def test_a_repeated_request_starts_no_second_run(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        alice = await ready(it)

        async def start() -> tuple[int, object]:
            return await it.put("Run:Start", 1, alice, query="?wait=true", Idempotency_Key="k1")

        answers = await asyncio.gather(start(), start(), start())
        assert [status for status, _ in answers] == [200] * 3
        assert it.rig.run.state is RunState.RUNNING
        number = it.rig.run.number
        assert (await it.put("Run:Stop", 1, alice, query="?wait=true"))[0] == 200
        assert (await start())[0] == 200
        assert it.rig.run.state is not RunState.RUNNING
        assert it.rig.run.number == number
        for value, part in ((0, "Run:Start"), (1, "Run:Stop")):
            status, problem = await it.put(part, value, alice, Idempotency_Key="k1")
            assert (status, "each needs its own" in problem["detail"]) == (422, True)
        # The key of another name is another key.
        assert (await it.put("Run:Title", "x", it.token("bob"), Idempotency_Key="k1"))[0] == 200


async def test_keys_are_known_after_a_restart(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, answered_s=HANGS_S) as it:
        alice = it.token("alice")
        assert (await it.put("Run:Title", "first", alice, Idempotency_Key="a"))[0] == 200
        refused = await it.put("Run:Start", 1, alice, Idempotency_Key="b")
        await it.rig.select()
        it.rig.fleet["cobo0"].faults.hang("Describe")
        assert (await it.put("GoTo", "Ready", alice, Idempotency_Key="c"))[0] == 202
        under_way = {key: asked for key, asked in keys(it).items() if not asked.status}
        assert len(under_way) == 1
        await it.rig.stop_ioc()
        await it.rig.start_ioc()
        await it.rig.ok("Run:Title", "second")
        status, shown = await it.put("Run:Title", "first", alice, Idempotency_Key="a")
        assert (status, shown["value"]) == (200, "first")
        assert await it.rig.get_text("Run:Title") == "second"
        assert await it.put("Run:Start", 1, alice, Idempotency_Key="b") == refused
        status, problem = await it.put("GoTo", "Ready", alice, Idempotency_Key="c")
        assert status == 409
        assert "the IOC was stopped before it was done" in problem["detail"]
        keys(it).update(under_way)  # as if it had been killed
        status, problem = await it.put("GoTo", "Ready", alice, Idempotency_Key="c")
        assert status == 409
        assert "taken up before the IOC restarted" in problem["detail"]


async def test_keys_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_plugins.web.repeats.MOST", 3)
    async with web_rig(tmp_path, monkeypatch) as it:
        alice = it.token("alice")
        for number in range(6):
            assert (await it.put("Run:Title", f"{number}", alice, Idempotency_Key=f"{number}"))[0] == 200
        kept = keys(it)
        assert len(kept) == 3
        assert (await it.put("Run:Title", "again", alice, Idempotency_Key="0"))[0] == 200
        assert (await it.put("Run:Title", "again", alice, Idempotency_Key="5"))[0] == 422
        for key in ("x" * 101, ""):
            assert (await it.put("Run:Title", "x", alice, Idempotency_Key=key))[0] == 400
        monkeypatch.setattr("attpc_plugins.web.repeats.FOR_S", 0.0)
        assert (await it.put("Run:Title", "again", alice, Idempotency_Key="5"))[0] == 200
        assert len(kept) == 1


async def test_a_stop_is_not_counted_as_one_of_too_many(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, "requests_per_s = 1") as it:
        alice = await ready(it)
        assert (await it.put("Run:Start", 1, alice, query="?wait=true"))[0] == 200
        while (await it.get("/healthz"))[0] != 429:
            pass
        assert (await it.put("Run:Title", "x", alice))[0] == 429
        assert (await it.put("Run:Stop", 1, alice, query="?wait=true"))[0] == 200
        await it.rig.until(lambda: it.rig.run.state is not RunState.RUNNING)
