"""Puts over PVAccess: the same door as over Channel Access, and the reason comes back."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from p4p import Type, Value
from p4p.client.thread import RemoteError

from attpc_ioc.ioc.pvaccess import form_of
from attpc_ioc.model.command import Put
from attpc_ioc.model.states import State
from attpc_ioc.pva import Form
from tests.access.rules_file import ACCESS, ME, read_again, write
from tests.ioc.test_every_pv import Puts
from tests.support.ca import eventually
from tests.support.pva import BLOCK, p4p_client, pvget, pvput
from tests.support.rig import rig


async def test_a_refused_pvput_prints_the_reason(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        refused = {
            ("Run:Start", "1"): "Run:Start Refused: cobo0, cobo1, mutant: are in Idle, not Ready",
            ("Run:Start", "5"): "5 is not the number of a label (0 to 1: Done, Busy)",
            ("GoTo", "Ready"): "GoTo Ready Refused: cobo0, cobo1, mutant: no config is selected",
            ("GoTo", "9"): "9 is not the number of a label (0 to 4: None, Idle, Described, Prepared, Ready)",
            ("GoTo", "value=Ready"): "no value is written: value.index, the number of a label (None, Idle, ",
            ("Run:MaxDuration", "nan"): "nan is not a number",
            ("Run:MaxDuration", "-1"): "-1 is below the limit 0",
            ("Run:Title", "x" * 201): "201 characters are more than 200",
            ("Run:Title", "bell \a"): "character 6 of the text is the control character",
            ("Run:State_RBV", "Running"): "no write access",
        }
        for (name, value), reason in refused.items():
            before = it.app.server.pvs[it.prefix + name].value
            for options in ((), BLOCK):
                ran = await pvput(it.place, *options, it.prefix + name, value)
                assert ran.code == 1, (name, value, ran.both)
                assert f"Error: {reason}" in ran.err, (name, value, ran.both)
            assert it.app.server.pvs[it.prefix + name].value == before
        assert it.app.server.pvaccess.stats.refused == 2 * len(refused)


async def test_labels_and_numbers_and_texts(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        for value, label in (("Beam", "Beam"), ("1", "Production")):
            ran = await pvput(it.place, it.prefix + "Run:Class", value)
            assert ran.code == 0, ran.both
            assert await it.get("Run:Class") == label
        for text in ("", "plain", "Größe µ ☢ 🎉", "x" * 200):
            async with p4p_client(it.place) as client:
                await client.put(it.prefix + "Run:Title", text)
                assert (await client.get(it.prefix + "Run:Title")).value == text
            assert it.app.server.pvs[it.prefix + "Run:Title"].value == text


async def test_block_waits_until_the_command_has_ended(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        ran = await pvput(it.place, *BLOCK, it.prefix + "GoTo", "Ready")
        assert ran.code == 0, ran.both
        assert {module.state for module in it.snapshot.modules.values()} == {State.READY}
        async with p4p_client(it.place) as client:
            # Answered when it is accepted, the end is seen by the PV itself.
            await client.put(it.prefix + "Reset", 1, wait=False)
            await it.until_all(State.PREPARED)


async def test_without_block_a_long_command_is_answered_when_accepted(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        ended = asyncio.Event()
        submit = it.app.controller.submit

        async def slow(command: Any) -> Any:
            await ended.wait()
            return await submit(command)

        it.app.controller.submit = slow  # type: ignore[method-assign]
        ran = await pvput(it.place, it.prefix + "Describe", "1")
        assert ran.code == 0, ran.both
        ended.set()
        await it.until_all(State.DESCRIBED)


async def test_what_runs_when_the_ioc_ends_is_answered(tmp_path, monkeypatch):
    puts = Puts()
    async with rig(tmp_path, monkeypatch, plugins=[("puts", puts)]) as it:
        begun = asyncio.Event()

        async def never(_command: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

        it.app.controller.submit = never  # type: ignore[method-assign]
        waiting = asyncio.create_task(pvput(it.place, *BLOCK, it.prefix + "Describe", "1"))
        await asyncio.wait_for(begun.wait(), 20)
        await it.stop_ioc()
        ran = await waiting
        assert ran.code == 1
        assert "Error: the server stopped before it was done" in ran.err, ran.both


async def test_rights_and_put_log(tmp_path, monkeypatch):
    rules = f"""
UAG(shift) {{ {ME} }}
HAG(here) {{ localhost }}
HAG(elsewhere) {{ "192.0.2.1" }}
ASG(DEFAULT) {{ RULE(1, READ) RULE(1, WRITE) {{ UAG(shift) HAG(here) }} }}
ASG(EXPERT) {{ RULE(1, READ) RULE(1, WRITE) {{ HAG(elsewhere) }} }}
ASG(OBSERVER) {{ RULE(1, READ) }}
"""
    write(tmp_path, rules)
    puts = Puts()
    async with rig(tmp_path, monkeypatch, access=ACCESS, plugins=[("puts", puts)]) as it:
        ran = await pvput(it.place, it.prefix + "Run:Class", "Beam")
        assert ran.code == 0, ran.both
        ran = await pvput(it.place, it.prefix + "Run:Adopt", "1")
        assert ran.code == 1
        assert "Error: no write access" in ran.err
        write(tmp_path, rules.replace(ME, "somebody-else"))
        await read_again(it)
        ran = await pvput(it.place, it.prefix + "Run:Class", "Junk")
        assert "Error: no write access" in ran.err
        assert await it.get("Run:Class") == "Beam"
        assert [(put.pv, put.ok, put.new, put.reason) for put in puts.heard] == [
            (it.prefix + "Run:Class", True, "Beam", ""),
            (it.prefix + "Run:Adopt", False, "1", "no write access"),
            (it.prefix + "Run:Class", False, "3", "no write access"),
        ]
        for put in puts.heard:
            assert (put.who.user, put.who.host, put.who.via) == (ME, "127.0.0.1", "pva")
            assert put.who.address.startswith("127.0.0.1:")


async def test_what_not_everybody_may_read_is_hidden(tmp_path, monkeypatch):
    rules = f"""
UAG(shift) {{ {ME} }}
ASG(DEFAULT) {{ RULE(1, READ) }}
ASG(OPERATOR) {{ RULE(1, WRITE) {{ UAG(shift) }} }}
"""
    write(tmp_path, rules)
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it, p4p_client(it.place) as client:
        name = it.prefix + "Run:Title"
        seen: list[Value] = []

        async def see(value: Value) -> None:
            seen.append(value)

        subscription = client.monitor(name, see)
        await it.put_text("Run:Title", "for the shift only")
        ran = await pvget(it.place, "-v", name)
        assert "for the shift only" not in ran.out
        assert "no read access over PVAccess" in ran.out
        await eventually(lambda: len(seen) == 1)
        write(tmp_path, rules.replace("RULE(1, WRITE)", "RULE(1, READ) RULE(1, WRITE)"))
        await read_again(it)
        await eventually(lambda: seen[-1].value == "for the shift only")
        write(tmp_path, rules)
        await read_again(it)
        await eventually(lambda: seen[-1].value == "")
        assert seen[-1]["alarm.severity"] == 3
        subscription.close()


BAD: dict[Form, st.SearchStrategy[Any]] = {
    Form.INT: st.integers(-(2**31), 2**31 - 1),
    Form.ENUM: st.integers(-(2**31), 2**31 - 1),
    Form.DOUBLE: st.floats(),
    Form.STRING: st.text(max_size=300) | st.sampled_from(("ä" * 201, "ä" * 3000)),
}


async def test_other_fields_and_nothing_and_structures(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it, p4p_client(it.place) as client:

        async def refusal(name: str, change: dict[str, Any]) -> str:
            def build(value: Value) -> None:
                value.unmark()
                for field, one in change.items():
                    value[field] = one

            with pytest.raises(RemoteError) as error:
                await client.put(it.prefix + name, build, get=True)
            return str(error.value)

        assert "not alarm.severity" in await refusal("Run:Title", {"value": "x", "alarm.severity": 2})
        assert "no value is written" in await refusal("Run:Title", {})
        assert "labels of a PV" in await refusal("Run:Class", {"value.choices": ["a"], "value.index": 0})
        assert "no value is written" in await refusal("Run:Class", {"value.choices": []})
        big = await refusal("Run:Title", {"value": "x" * 10_000_000})
        assert "10000000 characters are more than 200" in big
        with pytest.raises(RemoteError, match="no remote procedures"):
            await client.rpc(it.prefix + "Run:Title", Type([("a", "i")])({"a": 1}))
        await client.put(it.prefix + "Run:Title", "fine")
        assert await it.get_text("Run:Title") == "fine"


async def test_random_puts_to_every_writable_pv(tmp_path, monkeypatch):
    """Whatever is written is answered and on record; what is refused has changed nothing."""
    monkeypatch.setattr("attpc_ioc.ioc.put_log.REFUSED_EACH", 10_000)
    monkeypatch.setattr("attpc_ioc.ioc.put_log.REFUSED_ALL", 10_000)
    puts = Puts()
    async with rig(tmp_path, monkeypatch, plugins=[("puts", puts)]) as it, p4p_client(it.place) as client:
        loop = asyncio.get_running_loop()
        entries = [entry for entry in it.app.table if entry.row.writable and entry.row.command is None]

        async def put(name: str, value: Any) -> Put:
            number = len(puts.heard)
            reason = ""
            try:
                await client.put(name, value, wait=True)
            except RemoteError as error:
                reason = str(error)
            await eventually(lambda: len(puts.heard) > number)
            heard = puts.heard[-1]
            assert (heard.ok, heard.reason) == (not reason, reason), (name, value, reason)
            return heard

        @given(st.data())
        @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
        def every_one(data: st.DataObject) -> None:
            entry = data.draw(st.sampled_from(entries))
            value = data.draw(BAD[form_of(entry)])
            pv = it.app.server.pvs[entry.name]
            before = pv.value
            heard = asyncio.run_coroutine_threadsafe(put(entry.name, value), loop).result(30)
            if not heard.ok:
                assert pv.value == before
            elif isinstance(value, float):
                assert math.isfinite(value)

        await asyncio.to_thread(every_one)
        ran = await pvget(it.place, it.prefix + "State_RBV")
        assert ran.code == 0, ran.both
