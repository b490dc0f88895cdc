"""Who may write what: EPICS base's programs against an IOC with an access security file.

libca takes the user's name from the account and the host's from the machine, so the account of the tests is
made an observer, an operator and an expert in turn, by the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import caproto
import pytest

from attpc_ioc.ioc.ca.wire import Eca
from attpc_ioc.model.command import Put
from attpc_ioc.plugin.spec import hookimpl
from tests.access.rules_file import ACCESS, ME, MY_HOST, may_write, read_again, rules, writable, write
from tests.ca.raw import raw_client
from tests.support.ca import caget, caput, eventually, program, run
from tests.support.iocprocess import IocProcess
from tests.support.needs import as_root
from tests.support.rig import Rig, rig

SINGLE = ("Describe", "Prepare", "Configure", "Start", "Stop", "Breakup", "Undo", "Reset", "GoTo")
"""The commands of an ECC server that go past the safe order of the whole."""

REFUSED = {
    "Run:Start": "Done",
    "Run:Title": "",
    "State_RBV": "Idle",
    "Run:Number_RBV.ADEL": "0.0",
    "Run:Title.DESC": "Title of the run",
    "State_RBV.SEVR": "NO_ALARM",
}
"""What an observer's puts are refused of, and the value that it had: a field is on record by its own name."""


async def test_observers_read_operators_operate_experts_do_all(tmp_path, monkeypatch):
    write(tmp_path, rules())
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        everything = {name.removeprefix(it.prefix) for name in writable(it)}

        assert await may_write(it) == set()
        ran = await caget(it.place, "-w", "5", "-S", *(entry.name for entry in it.app.table), limit_s=20)
        assert (ran.code, ran.err) == (0, "")
        ran = await it.put("Run:Class", "Beam")
        assert ran.code == 1
        assert "Write access denied" in ran.both
        assert await it.get("Run:Class") == "Testing"
        assert await it.get("Run:Result_RBV") == "None"

        write(tmp_path, rules(operators=ME))
        await read_again(it)
        operators = await may_write(it)
        assert everything - operators == {"Run:Adopt"} | {
            f"Ecc:{ecc}:{command}" for ecc in it.snapshot.modules for command in SINGLE
        }
        await it.ok("Run:Class", "Beam")
        ran = await it.put("Ecc:cobo0:Describe")
        assert ran.code == 1
        assert "Write access denied" in ran.both

        write(tmp_path, rules(experts=ME))
        await read_again(it)
        assert await may_write(it) == everything
        await it.select()
        await it.ok("Ecc:cobo0:Describe")


async def test_a_client_that_is_connected_hears_of_new_rights(tmp_path, monkeypatch):
    write(tmp_path, rules(operators=ME))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it, raw_client(it.place.port, ME) as raw:
        raw.send(caproto.HostNameRequest(MY_HOST))
        await raw.channel(it.prefix + "Run:Class")
        write(tmp_path, rules())
        await read_again(it)
        assert [r.access_rights for r in await raw.echo()] == [1]
        write(tmp_path, rules(operators=ME))
        await read_again(it)
        assert [r.access_rights for r in await raw.echo()] == [3]


async def test_a_refused_put_is_on_record_and_on_no_screen(tmp_path, monkeypatch, caplog):
    """libca does not even send what it may not write: this client does."""
    caplog.set_level(logging.INFO)
    puts: list[Put] = []

    class Listener:
        @hookimpl
        def attpc_event(self, event):
            if isinstance(event, Put):
                puts.append(event)

    write(tmp_path, rules())
    async with rig(tmp_path, monkeypatch, access=ACCESS, plugins=[("listener", Listener())]) as it:

        async def idle() -> bool:
            return await it.get("State_RBV") == REFUSED["State_RBV"]

        await eventually(idle)
        async with raw_client(it.place.port, "mallory") as raw:
            for name, old in REFUSED.items():
                channel = await raw.channel(it.prefix + name)
                raw.send(caproto.WriteNotifyRequest([b"1"], caproto.ChannelType.STRING, 1, channel.sid, 7))
                answer = await raw.until(caproto.WriteNotifyResponse)
                assert answer.status.code_with_severity == Eca.NOWTACCESS
                await eventually(lambda name=name: any(put.pv == it.prefix + name for put in puts))
                put = puts[-1]
                assert (put.ok, put.reason, put.old) == (False, "no write access", old)
                assert (put.who.user, put.who.host) == ("mallory", "bench")
                assert put.who.address.startswith("127.0.0.1:")
        lines = [vars(r)["keys"] for r in caplog.records if r.getMessage() == "put"]
        assert [(keys["pv"], keys["ok"]) for keys in lines] == [(it.prefix + name, False) for name in REFUSED]
        assert await it.get("Run:Result_RBV") == "None"
        assert await it.get("Run:ResultCount_RBV") == "0"
        assert await it.get_text("Run:Message_RBV") == ""


async def test_a_client_is_who_it_says_it_is(tmp_path, monkeypatch):
    """What the documents say: Channel Access believes any name, so this keeps out mistakes, not malice."""
    write(tmp_path, rules(operators="alice"))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        async with raw_client(it.place.port, "mallory") as raw:
            await raw.channel(it.prefix + "Run:Class")
            raw.send(caproto.ClientNameRequest("alice"))
            assert await raw.echo() == []  # the host is not one of the control room yet
            raw.send(caproto.HostNameRequest("CONSOLE2"))
            assert [r.access_rights for r in await raw.echo()] == [3]
        # libca takes the name from the account, whatever the environment says.
        it.place.extra |= {"USER": "alice", "LOGNAME": "alice", "USERNAME": "alice"}
        ran = await it.put("Run:Class", "Beam")
        assert "Write access denied" in ran.both
        # caproto's client believes the environment: an honest library, a name that is not true.
        code = await _caproto_put(it, "Run:Class", "Beam")
        assert (code, await it.get("Run:Class")) == (0, "Beam")


@as_root()
async def test_libca_sends_the_account_that_it_runs_under(tmp_path, monkeypatch):
    write(tmp_path, rules(operators="nobody"))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:

        async def put(user: str) -> str:
            process = await asyncio.create_subprocess_exec(
                program("caput"),
                *("-c", "-t", f"{it.prefix}Run:Class", "Beam"),
                env=it.place.env | {"USER": "nobody", "LOGNAME": "nobody"},
                user=user,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            return out.decode()

        try:
            answer = await put("nobody")
        except PermissionError:
            pytest.skip("EPICS base's programs are where no other account may look")
        assert answer.strip() == "Beam"
        assert "Write access denied" in await put("daemon")


async def test_a_reload_that_comes_too_early_is_not_lost(tmp_path, monkeypatch):
    write(tmp_path, rules())
    async with rig(tmp_path, monkeypatch, access=ACCESS, start=False) as it:
        ioc = IocProcess(it)
        try:
            await ioc.start(wait=False)
            await ioc.until_logged("Channel Access serves")
            write(tmp_path, rules(operators=ME))
            os.kill(ioc.pid, signal.SIGHUP)
            await ioc.until_logged("access security file read again")
            await it.ok("Run:Class", "Beam")
            assert await ioc.terminate() == 0
        finally:
            await ioc.close()


async def test_by_address_a_host_cannot_be_lied_about(tmp_path, monkeypatch):
    """With `check_client_ip`, as with EPICS base's `asCheckClientIP`."""
    file = """
UAG(operators) { alice }
HAG(here) { localhost, "no host at all" }
HAG(elsewhere) { "192.0.2.1" }
ASG(DEFAULT) { RULE(1, READ) RULE(1, WRITE) { UAG(operators) HAG(here) } }
ASG(EXPERT) { RULE(1, READ) RULE(1, WRITE) { HAG(elsewhere) } }
"""
    write(tmp_path, file)
    async with rig(tmp_path, monkeypatch, access=f"{ACCESS}\ncheck_client_ip = true") as it:
        assert "hosts without an address: no host at all" in await it.get_text("IOC:AccessText_RBV")
        async with raw_client(it.place.port, "alice") as raw:
            await raw.channel(it.prefix + "Run:Class")
            await raw.channel(it.prefix + "Run:Adopt")
            raw.send(caproto.HostNameRequest("192.0.2.1"))
            assert await raw.echo() == []  # it stays where it is, and may write the first as it could before
            raw.send(caproto.ClientNameRequest("bob"))
            assert [r.access_rights for r in await raw.echo()] == [1]


async def _caproto_put(it: Rig, name: str, value: str) -> int:
    program = (
        "import sys; from caproto.sync.client import write; "
        "write(sys.argv[1], sys.argv[2].encode(), data_type=0, notify=True, timeout=5)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, it.prefix + name, value, env=it.place.env
    )
    return await asyncio.wait_for(process.wait(), 20)


async def test_a_plugin_can_take_away_and_not_give(tmp_path, monkeypatch):
    class Strict:
        @hookimpl
        def attpc_access(self, who, row):
            return row.part != "Title"

    write(tmp_path, rules(operators=ME))
    async with rig(tmp_path, monkeypatch, access=ACCESS, plugins=[("strict", Strict())]) as it:
        found = await may_write(it)
        assert "Run:Class" in found
        assert not found & {"Run:Title", "Run:Adopt"}


async def test_rows_of_the_settings_go_before(tmp_path, monkeypatch):
    write(tmp_path, rules(operators=ME) + "ASG(TRIGGER) { RULE(0, READ) }\n")
    access = (
        f'{ACCESS}\nrows = {{ "Run:Adopt" = "OPERATOR", "Ecc:mutant:*" = "TRIGGER", "*:Enable" = "EXPERT" }}'
    )
    async with rig(tmp_path, monkeypatch, access=access) as it:
        found = await may_write(it)
        assert "Run:Adopt" in found
        assert not any(name.startswith("Ecc:mutant:") or name.endswith(":Enable") for name in found)
        assert "Ecc:cobo0:Config" in found


async def test_fields_are_of_level_1(tmp_path, monkeypatch):
    """As in EPICS base, where a record's value is of level 0, and RULE(0, ...) is for that alone."""
    write(tmp_path, "ASG(DEFAULT) { RULE(0, READ) }")
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        assert await it.get("State_RBV") != ""
        ran = await run(it.place, "cainfo", f"{it.prefix}State_RBV", f"{it.prefix}State_RBV.DESC")
        assert "Access:           read, no write" in ran.out
        assert "Access:           no read, no write" in ran.out
        assert (await caput(it.place, f"{it.prefix}State_RBV.DESC", "x")).code == 1
