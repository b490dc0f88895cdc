"""The same client actions against EPICS base's `softIoc` and against this server.

`DIFFERENT` lists where the answers differ, and why they should.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, Value
from tests.support.ca import LOOPBACK, CaPlace, Ran, ca_place, caget, program, run

DATABASE = """
record(ai, "C:ai") { field(VAL, "1.5") field(EGU, "MB/s") field(PREC, "3") field(HOPR, "10")
  field(DESC, "speed") field(HIHI, "9") field(HHSV, "MAJOR") field(HIGH, "8") field(HSV, "MINOR")
  field(PINI, "YES") }
record(longin, "C:long") { field(VAL, "70000") field(EGU, "n") field(PINI, "YES") }
record(mbbi, "C:state") { field(ZRST, "Off") field(ONST, "Idle") field(TWST, "Ready") field(VAL, "2")
  field(PINI, "YES") }
record(bo, "C:bo") { field(ZNAM, "Done") field(ONAM, "Busy") field(VAL, "0") field(PINI, "YES") }
record(mbbo, "C:choice") { field(ZRST, "None") field(ONST, "Idle") field(VAL, "0") field(PINI, "YES") }
record(longout, "C:longout") { field(DRVH, "1000") field(DRVL, "0") field(VAL, "7") field(PINI, "YES") }
record(ao, "C:ao") { field(DRVH, "10") field(DRVL, "-10") field(PREC, "1") field(VAL, "0.5")
  field(PINI, "YES") }
record(stringin, "C:string") { field(VAL, "short") field(PINI, "YES") }
record(waveform, "C:text") { field(FTVL, "CHAR") field(NELM, "100") }
record(waveform, "C:strings") { field(FTVL, "STRING") field(NELM, "5") }
"""


def pvs() -> list[PV]:
    enum, long, double = ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE
    return [
        PV(
            PVSpec(
                "C:ai",
                "ai",
                double,
                units="MB/s",
                precision=3,
                hopr=10,
                desc="speed",
                hihi=9,
                high=8,
                limit_severities={"HHSV": 2, "HSV": 1},
            ),
            1.5,
        ),
        PV(PVSpec("C:long", "longin", long, units="n"), 70000),
        PV(PVSpec("C:state", "mbbi", enum, labels=("Off", "Idle", "Ready")), 2),
        PV(PVSpec("C:bo", "bo", enum, labels=("Done", "Busy"), writable=True), 0),
        PV(PVSpec("C:choice", "mbbo", enum, labels=("None", "Idle"), writable=True), 0),
        PV(PVSpec("C:longout", "longout", long, drvh=1000, drvl=0, writable=True), 7),
        PV(PVSpec("C:ao", "ao", double, drvh=10, drvl=-10, precision=1, writable=True), 0.5),
        PV(PVSpec("C:string", "stringin", ChannelType.STRING), "short"),
        PV(PVSpec("C:text", "waveform", ChannelType.CHAR, max_elements=100, writable=True), ""),
        PV(PVSpec("C:strings", "waveform", ChannelType.STRING, max_elements=5, writable=True), ()),
    ]


ACTIONS: dict[str, tuple[str, ...]] = {
    "values": ("caget", "C:ai", "C:long", "C:state", "C:bo", "C:longout", "C:ao", "C:string"),
    "numbers of labels": ("caget", "-n", "C:state", "C:bo"),
    "plain types": ("caget", "-d", "DBR_DOUBLE", "C:ai", "C:long", "C:state"),
    "as string": ("caget", "-d", "DBR_STRING", "C:ai", "C:long", "C:state", "C:string"),
    "double as long": ("caget", "-d", "DBR_LONG", "C:ai", "C:state"),
    "graphics": ("caget", "-d", "DBR_GR_DOUBLE", "C:ai", "C:long"),
    "control of a double": ("caget", "-d", "DBR_CTRL_DOUBLE", "C:ai", "C:ao", "C:longout"),
    "control of a label": ("caget", "-d", "DBR_CTRL_ENUM", "C:state", "C:bo"),
    "status": ("caget", "-d", "DBR_STS_STRING", "C:ai", "C:state"),
    "acknowledgement": ("caget", "-d", "DBR_STSACK_STRING", "C:ai"),
    "class": ("caget", "-d", "DBR_CLASS_NAME", "C:ai", "C:state", "C:text"),
    "fields": ("caget", "C:ai.DESC", "C:ai.EGU", "C:ai.PREC", "C:ai.HHSV", "C:state.ONST", "C:ai.RTYP"),
    "limits": ("caget", "C:ai.HOPR", "C:ai.LOPR", "C:ai.HIHI", "C:ai.HIGH", "C:ai.MDEL", "C:longout.DRVH"),
    "severities": ("caget", "C:ai.SEVR", "C:ai.STAT", "C:state.ZRSV", "C:bo.OSV"),
    "long string": ("caget", "-S", "C:string.VAL$", "C:ai.DESC$"),
    "no field after the dot": ("caget", "C:ai.", "C:string."),
    "array fields": ("caget", "C:text.NELM", "C:text.FTVL", "C:strings.NELM", "C:strings.NORD"),
    "empty array": ("caget", "C:strings"),
    "no such field": ("caget", "-w", "0.3", "C:ai.NONSENSE", "C:ai$"),
    "put a number": ("caput", "-c", "C:longout", "12"),
    "put a label": ("caput", "-c", "C:choice", "Idle"),
    "put a double": ("caput", "-c", "C:ao", "2.5"),
    "put text": ("caput", "-c", "-S", "C:text", "a long text"),
    "read text": ("caget", "-S", "C:text"),
    "put strings": ("caput", "-c", "-a", "C:strings", "2", "one", "two"),
    "put a word": ("caput", "-c", "C:longout", "twelve"),
    "put a bad label": ("caput", "-c", "C:choice", "Nonsense"),
    "put a bad number": ("caput", "-c", "C:choice", "99"),
    "put beyond the limit": ("caput", "-c", "C:longout", "2000"),
    "put NaN": ("caput", "-c", "C:ao", "nan"),
    "put a fraction": ("caput", "-c", "C:longout", "1.5"),
    "long as short": ("caget", "-w", "0.3", "-d", "DBR_SHORT", "C:long"),
    "word as number": ("caget", "-w", "0.3", "-d", "DBR_DOUBLE", "C:string"),
    "text as string": ("caget", "-d", "DBR_STRING", "C:text"),
}

DIFFERENT = {
    "put a bad number": "softIoc stores it and shows 'Illegal Value'; here it is refused",
    "put beyond the limit": "softIoc clamps to DRVH; here it is refused",
    "put NaN": "softIoc stores NaN; here it is refused",
    "put a fraction": "softIoc cuts the fraction off; here it is refused",
    "long as short": "softIoc wraps 70000 to 4464; here it cannot be converted",
    "text as string": "softIoc writes each byte as a number; here the text itself comes, cut at 39 bytes",
}


async def serve_here(place: CaPlace) -> CAServer:
    async def put(pv: PV, value: Value, client: Client) -> None:
        pv.post(value, force=True)

    server = CAServer(pvs(), put=put, interfaces=[LOOPBACK], port=place.port)
    await server.start()
    return server


@contextlib.asynccontextmanager
async def softioc(place: CaPlace, database: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(program("softIoc"), "-S", "-d", str(database)),
        env=place.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while (await caget(place, "-w", "0.2", "C:ai")).code:
                assert process.returncode is None
        yield
    finally:
        process.kill()
        await process.wait()


def answer(ran: Ran) -> tuple[int, str]:
    return ran.code, "\n".join(line.rstrip() for line in ran.out.splitlines())


async def test_same_answers_as_softioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "c.db"
    database.write_text(DATABASE)
    with contextlib.closing(ca_place()) as theirs, contextlib.closing(ca_place()) as ours:
        ours.put_into(monkeypatch)
        server = await serve_here(ours)
        differ = {}
        try:
            async with softioc(theirs, database):
                for name, action in ACTIONS.items():
                    there, here = await asyncio.gather(run(theirs, *action), run(ours, *action))
                    if answer(there) != answer(here):
                        differ[name] = f"softIoc: {answer(there)}\nhere:    {answer(here)}"
        finally:
            await server.stop()
    assert set(differ) == set(DIFFERENT), "\n".join(
        f"{k}\n{v}" for k, v in differ.items() if k not in DIFFERENT
    )
