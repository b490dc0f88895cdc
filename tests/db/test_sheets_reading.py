"""Reading PVs anywhere by Channel Access: every kind of value, every trouble, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from attpc_plugins.run_history.sheets import ca_reader
from attpc_plugins.run_history.sheets.ca_reader import CHILD, read_pvs
from attpc_plugins.run_history.sheets.reading import INT_MAX, fit, parse, reading_of
from attpc_plugins.run_history.store.model.values import ValueKind
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ca import eventually, free_port
from tests.support.pace import Stopwatch
from tests.support.softioc import SoftIoc, soft_ioc

INTEGER, FLOAT, STRING = ValueKind.INTEGER, ValueKind.FLOAT, ValueKind.STRING

RECORDS = """
record(ai, "S:pressure") {
    field(VAL,"500.25") field(EGU,"mbar") field(PINI,"YES") field(HIGH,"400") field(HSV,"MINOR")
}
record(ai, "S:never") { field(VAL,"1.5") }
record(mbbi, "S:valve") { field(ZRST,"Shut") field(ONST,"Open") field(VAL,"1") field(PINI,"YES") }
record(stringin, "S:gas") { field(VAL,"D2 600") field(PINI,"YES") }
record(stringin, "S:digits") { field(VAL,"12.5") field(PINI,"YES") }
record(longin, "S:count") { field(VAL,"-7") field(EGU,"V") field(PINI,"YES") }
record(waveform, "S:wave") { field(NELM,"100") field(FTVL,"DOUBLE") }
record(mbbi, "S:odd") { field(ZRST,"Shut") field(VAL,"9") field(PINI,"YES") }
record(calc, "S:nan") { field(CALC,"0/0") field(PINI,"YES") }
"""


@pytest.fixture
async def ioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SoftIoc]:
    async with soft_ioc(tmp_path, RECORDS) as it:
        it.place.put_into(monkeypatch)
        yield it


def children() -> set[int]:
    """Processes that read PVs for this test, and a repeater that one of them started."""
    own = {p.pid for p in psutil.Process().children(recursive=True) if str(CHILD) in p.cmdline()}
    port = os.environ.get("EPICS_CA_SERVER_PORT", "none")
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "caRepeater":
            with contextlib.suppress(psutil.Error):
                if process.environ().get("EPICS_CA_SERVER_PORT") == port:
                    own.add(process.pid)
    return own


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert children() == set()


async def read(pv: str, kind: ValueKind):
    answers = await read_pvs([pv], 3.0)
    return reading_of(answers[pv], kind)


async def test_every_kind_of_value(ioc: SoftIoc) -> None:
    names = ["S:pressure", "S:never", "S:valve", "S:gas", "S:digits", "S:count", "S:wave", "S:nan"]
    answers = await read_pvs(names, 3.0)

    found = reading_of(answers["S:pressure"], FLOAT)
    assert (found.value, found.units, found.severity, found.fault) == (500.25, "mbar", 1, "")
    assert found.stamped_s == pytest.approx(time.time(), abs=60)

    never = reading_of(answers["S:never"], FLOAT)
    assert (never.value, never.stamped_s) == (1.5, None)

    assert reading_of(answers["S:valve"], STRING).value == "Open"
    assert reading_of(answers["S:valve"], INTEGER).value == 1
    enum = reading_of(answers["S:valve"], FLOAT)
    assert (enum.value, enum.fault) == (None, "an enum (Open), not a float")

    assert reading_of(answers["S:gas"], STRING).value == "D2 600"
    text = reading_of(answers["S:gas"], FLOAT)
    assert (text.value, text.fault) == (None, "'D2 600' is not of type float")
    assert reading_of(answers["S:digits"], FLOAT).value == 12.5
    assert reading_of(answers["S:digits"], INTEGER).fault == "12.5 is not an integer"

    count = reading_of(answers["S:count"], INTEGER)
    assert (count.value, count.units) == (-7, "V")
    assert reading_of(answers["S:count"], FLOAT).value == -7.0
    assert isinstance(reading_of(answers["S:count"], FLOAT).value, float)
    assert reading_of(answers["S:pressure"], INTEGER).fault == "500.25 is not an integer"
    assert reading_of(answers["S:pressure"], STRING).value == "500.25"

    for kind in ValueKind:
        wave = reading_of(answers["S:wave"], kind)
        assert (wave.value, wave.fault) == (None, "an array of 100 elements")

    odd = await read("S:odd", STRING)
    assert (odd.value, odd.fault) == ("9", "state 9 has no label")

    nan = reading_of(answers["S:nan"], FLOAT)
    assert isinstance(nan.value, float)
    assert math.isnan(nan.value)
    assert nan.fault == "not a finite number (nan)"
    assert nan.severity == 3
    assert reading_of(answers["S:nan"], INTEGER).value is None


async def test_a_pv_that_changes_its_type(ioc: SoftIoc) -> None:
    assert (await read("S:pressure", FLOAT)).value == 500.25
    await ioc.restart('record(stringin, "S:pressure") { field(VAL,"high") field(PINI,"YES") }')
    changed = await read("S:pressure", FLOAT)
    assert (changed.value, changed.fault) == (None, "'high' is not of type float")
    await ioc.restart('record(waveform, "S:pressure") { field(NELM,"3") field(FTVL,"LONG") }')
    assert (await read("S:pressure", FLOAT)).fault == "an array of 3 elements"


async def test_the_disconnected_do_not_hold_up_the_others(ioc: SoftIoc) -> None:
    taking = Stopwatch(programs=True)
    answers = await read_pvs(["S:gone", "S:count", "S:gone", "no such name at all"], 0.8)
    assert taking.s < 4
    assert list(answers) == ["S:gone", "S:count", "no such name at all"]
    gone = reading_of(answers["S:gone"], FLOAT)
    assert (gone.value, gone.fault, gone.severity) == (None, "disconnected", 3)
    assert reading_of(answers["S:count"], INTEGER).value == -7


async def test_a_hung_server_is_disconnected(ioc: SoftIoc) -> None:
    os.kill(ioc.pid, signal.SIGSTOP)
    try:
        taking = Stopwatch(programs=True)
        assert (await read_pvs(["S:count"], 0.5))["S:count"]["fault"] == "disconnected"
        assert taking.s < 4
    finally:
        os.kill(ioc.pid, signal.SIGCONT)


async def test_no_repeater_is_started(ioc: SoftIoc, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("EPICS_CA_REPEATER_PORT", str(port))  # nobody is there: libca would start one
    assert (await read("S:count", INTEGER)).value == -7
    assert not children()


async def test_a_cancelled_reading_leaves_no_process(ioc: SoftIoc) -> None:
    task = asyncio.create_task(read_pvs(["S:gone"], 30.0))
    end_s = time.monotonic() + 5
    while not children():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()


async def test_a_reading_process_that_is_killed_is_a_fault(
    ioc: SoftIoc, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(read_pvs(["S:gone"], 30.0))
    end_s = time.monotonic() + 5
    while not (found := children()):
        assert time.monotonic() < end_s
        await asyncio.sleep(0.01)
    os.kill(found.pop(), signal.SIGABRT)
    assert (await task)["S:gone"]["fault"].startswith("cannot be read: the reading process ended with code")


async def test_no_python_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ca_reader.sys, "executable", "/nonexistent/python")
    answers = await read_pvs(["A"], 0.5)
    assert answers["A"]["fault"] == "cannot be read: No such file or directory"


async def test_nothing_is_read_where_nothing_is_named() -> None:
    assert await read_pvs([], 1.0) == {}


@given(
    st.one_of(
        st.tuples(st.sampled_from(["string", "text"]), st.text(max_size=1500)),
        st.tuples(st.just("integer"), st.integers(-(2**31), 2**31)),
        st.tuples(st.just("float"), st.one_of(st.floats(allow_nan=False), st.sampled_from(["nan", "inf"]))),
        st.tuples(st.just("enum"), st.tuples(st.integers(0, 15), st.text(max_size=30))),
        st.tuples(st.just("array"), st.integers(2, 10**6)),
    ),
    st.sampled_from(ValueKind),
)
def test_whatever_comes_is_a_value_of_the_kind_or_a_fault(answer, kind: ValueKind) -> None:
    native, raw = answer
    value, fault = fit(native, raw, kind)
    if value is None:
        assert fault
    else:
        assert type(value) is {INTEGER: int, FLOAT: float, STRING: str}[kind]
        if kind is INTEGER:
            assert abs(value) <= INT_MAX


@given(st.text(max_size=40), st.sampled_from([INTEGER, FLOAT]))
def test_numbers_that_people_write(text: str, kind: ValueKind) -> None:
    value, fault = parse(text, kind)
    assert (value is None) <= bool(fault)
    assert parse("  12 ", kind)[0] == 12
    assert parse("1_000", kind)[0] is None
    assert parse("1e3", INTEGER) == (1000, "")
    assert parse(str(2**64), INTEGER)[0] is None


@pytest.mark.parametrize("digits", [400, 4000, 5000])
def test_a_number_of_very_many_digits_is_no_integer(digits: int) -> None:
    for text in ("1" + "0" * digits, "-" + "9" * digits, f"1e{digits}"):
        value, fault = fit("text", text, INTEGER)
        assert value is None
        assert 0 < len(fault) < 100


def test_what_is_not_printable_in_a_text_is_escaped() -> None:
    assert fit("text", "\x1b[2J\u202e\x9b a\n", STRING) == ("\\x1b[2J\\u202e\\x9b a\n", "")
    assert fit("enum", [1, "\x1b[2J"], STRING) == ("\\x1b[2J", "")
    assert fit("enum", [1, "\x1b[2J"], FLOAT) == (None, "an enum (\\x1b[2J), not a float")


async def test_the_reading_process_ends_with_whoever_asked(ioc: SoftIoc) -> None:
    code = (
        "import asyncio\nfrom attpc_plugins.run_history.sheets.ca_reader import read_pvs\n"
        "asyncio.run(read_pvs(['S:gone'], 30.0))"
    )
    asker = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    reader: list[psutil.Process] = []
    try:
        await eventually(
            lambda: bool(reader.extend(psutil.Process(asker.pid).children()) or reader), "the reader", 20.0
        )
    finally:
        asker.kill()
        await asker.wait()
    await eventually(lambda: not reader[0].is_running() or reader[0].status() == "zombie", "its end")


async def test_a_process_that_does_not_get_ready_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, fault in (
        ("import time\ntime.sleep(60)", "cannot be read: no answer within 0.3 s"),
        ("print('no answer')", "cannot be read: JSONDecodeError"),
        ("import os\nos._exit(3)", "cannot be read: "),
    ):
        child = tmp_path / "child.py"
        child.write_text(text)
        monkeypatch.setattr(ca_reader, "CHILD", child)
        monkeypatch.setattr(ca_reader, "START_S", 0.2 if "sleep" in text else 10.0)
        assert (await read_pvs(["A"], 0.1))["A"]["fault"].startswith(fault), text
