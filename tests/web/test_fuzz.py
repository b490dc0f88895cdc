"""Random bodies put to every writable PV: each is answered, on record, and changes only what it says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from attpc_plugins.web.problems import ProblemBody
from attpc_plugins.web.shown import PvValue
from attpc_plugins.web.tokens import Role
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.puts import WRITABLE, meaningful, to_any
from tests.support.thorough import examples
from tests.support.web import web_rig
from tests.web.test_writing import Listener

NUMBERS = st.integers() | st.floats() | st.integers(300, 600).map(lambda digits: 10**digits)
TEXTS = st.text(max_size=300) | st.text(st.characters(codec=None), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
BODIES = JSON | st.fixed_dictionaries({"value": JSON}, optional={"more": JSON})


def put_to(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """A put to this PV: what means something to it, any JSON, or any bytes."""
    sane = meaningful(name, WRITABLE[name]).map(lambda value: {"value": value})
    single = (NUMBERS | TEXTS).map(lambda value: {"value": value})
    texts = st.one_of(sane, single, BODIES).map(lambda body: json.dumps(body).encode())
    return st.tuples(st.just(name), texts | st.binary(max_size=40))


PUTS = to_any(put_to)


async def test_random_bodies_to_every_writable_pv(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_ioc.ioc.put_log.REFUSED_EACH", 10_000)
    monkeypatch.setattr("attpc_ioc.ioc.put_log.REFUSED_ALL", 10_000)
    listener = Listener()
    plugins = [("listener", listener)]
    async with web_rig(
        tmp_path, monkeypatch, "requests_per_s = 10000", cobos=2, mutant=True, plugins=plugins
    ) as it:
        loop = asyncio.get_running_loop()
        pvs = it.rig.app.server.pvs
        assert {name.removeprefix(it.rig.prefix) for name in pvs} >= set(WRITABLE)
        headers = {
            "Authorization": f"Bearer {it.token('edna', Role.EXPERT)}",
            "Content-Type": "application/json",
        }

        async def put(name: str, body: bytes) -> None:
            pv = pvs[it.rig.prefix + name]
            before, heard = pv.value, len(listener.puts)
            path = f"/api/v1/pvs/{pv.name}?wait=true"
            status, answer = await it.ask("PUT", path, data=body, headers=headers)
            assert status in (200, 400, 409, 422), answer
            if status == 200:
                PvValue.model_validate(answer, strict=True)
            else:
                ProblemBody.model_validate(answer, strict=True)
                if WRITABLE[name].command is None:
                    assert pv.value == before
            if status in (200, 409) or answer.get("reasons"):
                await it.rig.until(lambda: len(listener.puts) > heard)
                last = listener.puts[-1]
                assert (last.pv, last.ok, last.who.user) == (pv.name, status == 200, "edna")

        @given(st.lists(PUTS, min_size=1, max_size=5))
        @settings(
            max_examples=examples(60, 1000),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def every_one(puts: list[tuple[str, Any]]) -> None:
            for name, body in puts:
                asyncio.run_coroutine_threadsafe(put(name, body), loop).result(60)

        await asyncio.to_thread(every_one)
        assert await it.rig.get("State_RBV")
