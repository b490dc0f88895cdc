"""An access security file that is read again, is broken, or would shut everybody out."""

from __future__ import annotations

import os
import signal

import pytest

from attpc_ioc.access import AccessFileError, FileStatus
from tests.access.rules_file import ACCESS, ME, read_again, rules, write
from tests.support.ca import camonitor, run
from tests.support.iocprocess import ioc_process
from tests.support.rig import rig


async def test_a_broken_file_keeps_the_rules_and_raises_an_alarm(tmp_path, monkeypatch):
    write(tmp_path, rules(operators=ME))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        assert await it.get("IOC:AccessFile_RBV") == "InForce"
        async with camonitor(it.place, f"{it.prefix}IOC:AccessFile_RBV") as monitor:
            await monitor.until(1)
            write(tmp_path, rules(operators=ME) + "ASG(MORE) {\n  RULE(1, RITE)\n}\n")
            await read_again(it, FileStatus.BROKEN)
            await monitor.until_text("Broken STATE MAJOR")
            text = await it.get_text("IOC:AccessText_RBV")
            assert "rules.acf: line 15, column 11: a rule gives NONE, READ or WRITE, not" in text
            assert "the rules that were read before are in force" in text
            assert "IOC:AccessFile_RBV: " in await it.get_text("AlarmText_RBV")
            await it.ok("Run:Class", "Beam")
            (tmp_path / "rules.acf").unlink()
            await read_again(it, FileStatus.BROKEN)
            assert "No such file" in await it.get_text("IOC:AccessText_RBV")
            os.mkfifo(tmp_path / "rules.acf")
            await read_again(it, FileStatus.BROKEN)
            assert "is not a regular file" in await it.get_text("IOC:AccessText_RBV")
            (tmp_path / "rules.acf").unlink()
            write(tmp_path, rules())
            await read_again(it)
            await monitor.until_text("InForce")
            assert await it.severity("IOC:AccessFile_RBV") == "NO_ALARM"
            assert "denied" in (await it.put("Run:Class", "Junk")).both


async def test_a_file_that_would_shut_out_everybody_is_not_taken(tmp_path, monkeypatch):
    """The file of another IOC, say: it is right in itself, and has none of our groups."""
    write(tmp_path, rules(operators=ME))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        write(tmp_path, "ASG(A) { RULE(1, READ) }")
        await read_again(it, FileStatus.BROKEN)
        assert await it.severity("IOC:AccessFile_RBV") == "MAJOR"
        text = await it.get_text("IOC:AccessText_RBV")
        for group in ("EXPERT", "OBSERVER", "OPERATOR"):
            assert f"there is no {group} and no DEFAULT in its place: nobody could even read" in text
        await it.ok("Run:Class", "Beam")
        (tmp_path / "state").mkdir(exist_ok=True)
    async with rig(tmp_path, monkeypatch, access=ACCESS, start=False) as it:
        with pytest.raises(AccessFileError, match="there is no EXPERT and no DEFAULT"):
            await it.start_ioc()


async def test_the_pvs_about_the_file_can_be_read_by_everybody(tmp_path, monkeypatch):
    write(tmp_path, "ASG(DEFAULT) { RULE(1, WRITE) { UAG(nobody) } } ".replace("ASG", "UAG(nobody) ASG"))
    async with rig(tmp_path, monkeypatch, access=ACCESS) as it:
        names = [
            f"{it.prefix}{name}" for name in ("IOC:AccessFile_RBV", "IOC:AccessText_RBV.DESC", "State_RBV")
        ]
        ran = await run(it.place, "cainfo", *names)
        assert [line.split(":")[1].strip() for line in ran.out.splitlines() if "Access:" in line] == [
            *("read, no write", "read, no write", "no read, no write")
        ]
        assert await it.get("IOC:AccessFile_RBV") == "InForce"


async def test_what_may_not_be_meant_is_logged(tmp_path, monkeypatch, caplog):
    write(tmp_path, rules())
    async with rig(tmp_path, monkeypatch, access=f'{ACCESS}\nrows = {{ "Nope:*" = "OPERATOR" }}') as it:

        def notes() -> list[str]:
            event = "access security file may not be what is meant"
            return [vars(r)["keys"]["notes"] for r in caplog.records if r.getMessage() == event]

        (told,) = notes()
        assert "access.rows: no PV fits 'Nope:*'" in told
        assert "OBSERVER is not in it: " in told
        write(tmp_path, "ASG(OBSERVER) { RULE(1, READ) } ASG(OPERATOR) { RULE(1, READ) } ASG(EXPERT)")
        await read_again(it)
        assert notes()[1].startswith("EXPERT lets nobody read: ")
        assert "EXPERT lets nobody read: " in await it.get_text("IOC:AccessText_RBV")


async def test_sighup_reads_it_again_and_does_not_end_the_ioc(tmp_path, monkeypatch):
    write(tmp_path, rules())
    async with rig(tmp_path, monkeypatch, access=ACCESS, start=False) as it, ioc_process(it) as ioc:
        assert "denied" in (await it.put("Run:Class", "Beam")).both
        write(tmp_path, rules(operators=ME))
        os.kill(ioc.pid, signal.SIGHUP)
        await ioc.until_logged("access security file read again")
        await it.ok("Run:Class", "Beam")
        write(tmp_path, "nonsense")
        os.kill(ioc.pid, signal.SIGHUP)
        await ioc.shows("IOC:AccessFile_RBV", "Broken")
        await it.ok("Run:Class", "Junk")
        assert await ioc.terminate() == 0


async def test_sighup_without_a_file(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it, ioc_process(it) as ioc:
        os.kill(ioc.pid, signal.SIGHUP)
        await ioc.until_logged("no access security file to read again")
        assert await it.get("IOC:AccessFile_RBV") == "None"
        await it.ok("Run:Class", "Beam")


async def test_it_does_not_start_with_a_wrong_file(tmp_path, monkeypatch):
    write(tmp_path, 'ASG(DEFAULT) { RULE(1, READ) { CALC("A=1") } INPA(some:pv) }\n')
    async with rig(tmp_path, monkeypatch, access=ACCESS, start=False) as it:
        with pytest.raises(AccessFileError) as caught:
            await it.start_ioc()
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/rules.acf: line 1, column 32: CALC is not supported: rules that depend on PVs are not "
        "supported",
        f"{tmp_path}/rules.acf: line 1, column 46: INP is not supported: no rule can depend on a PV",
    ]
