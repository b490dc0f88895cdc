"""PVs without a network: posts, dead bands, definitions, fields."""

from __future__ import annotations

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, Value
from tests.ca.conftest import INITIAL, Rig, specs
from tests.support.ca import caget, caput

SPECS = {spec.name[2:]: spec for spec in specs()}


async def nobody(pv: PV, value: Value, client: Client) -> None:
    raise AssertionError("no put was made")


def test_before_the_first_post() -> None:
    pv = PV(SPECS["long"])
    assert (pv.value, pv.severity, pv.status) == (0, 3, 17)
    pv.post(0)
    assert (pv.severity, pv.status) == (0, 0)
    assert PV(SPECS["long"], 5).severity == 0


@pytest.mark.parametrize("value", [None, "five", 2**31, -(2**31) - 1, 1.5, (1,), b"5"])
def test_what_is_no_long(value: Value, caplog: pytest.LogCaptureFixture) -> None:
    pv = PV(SPECS["long"], 5)
    pv.post(value)
    assert (pv.value, pv.severity, pv.status) == (5, 3, 17)
    assert caplog.text.count("value cannot be posted") == 1
    pv.post(6)
    assert (pv.value, pv.severity) == (6, 0)


@pytest.mark.parametrize(("severity", "status", "stamp"), [(4, 0, 1.0), (0, 22, 1.0), (0, 0, float("nan"))])
def test_what_is_no_alarm_or_stamp(
    severity: int, status: int, stamp: float, caplog: pytest.LogCaptureFixture
) -> None:
    pv = PV(SPECS["long"], 5)
    pv.post(6, severity=severity, status=status, stamp=stamp)
    assert (pv.value, pv.severity, pv.status) == (5, 3, 17)
    assert caplog.text.count("value cannot be posted") == 1


def test_an_array_that_is_too_long_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    pv = PV(SPECS["strings"])
    pv.post(tuple(str(i) for i in range(60)))
    assert pv.value == tuple(str(i) for i in range(50))
    assert "array is too long" in caplog.text


def test_nan_is_the_same_as_nan() -> None:
    pv = PV(SPECS["ai"], float("nan"))
    stamp = pv.stamp_ns
    pv.post(float("nan"))
    assert pv.stamp_ns == stamp


def test_definitions_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="not a native type"):
        PVSpec("X", "ai", ChannelType.TIME_DOUBLE)
    with pytest.raises(ValueError, match="room"):
        PVSpec("X", "lsi", ChannelType.CHAR)
    with pytest.raises(ValueError, match="out of range"):
        PVSpec("X", "ai", ChannelType.DOUBLE, precision=16)
    pv = PV(SPECS["ai"], 1.0)
    with pytest.raises(ValueError, match="two PVs"):
        CAServer([pv, PV(SPECS["ai"])], put=nobody)


def test_every_field_of_every_pv_has_a_value() -> None:
    from attpc_ioc.ioc.ca.field_table import _FIELDS
    from attpc_ioc.ioc.ca.fields import field as field_of

    found = 0
    for name, spec in SPECS.items():
        pv = PV(spec, INITIAL[name])
        for field_name in (*_FIELDS, "VAL$", "DESC$", "NONSENSE", "VAL", "$", ""):
            field = field_of(pv, field_name)
            if field is None:
                continue
            found += 1
            assert field.name.startswith(spec.name)
            assert field is pv or not field.writable
            for dtype in range(35):
                assert field.message(dtype, 0)
    assert found > 150


async def test_a_short_text_can_be_written_as_a_long_one(rig: Rig) -> None:
    pv = PV(PVSpec("T:name", "stringout", ChannelType.STRING, writable=True), "")
    rig.server.add(pv)
    assert (await caput(rig.place, "-c", "-S", "T:name$", "Größe")).code == 0
    assert pv.value == "Größe"
    assert (await caput(rig.place, "-c", "T:name", "short")).code == 0
    assert (await caget(rig.place, "-t", "-S", "T:name.VAL$")).out.strip() == "short"
    assert (await caput(rig.place, "-c", "-S", "T:name$", "x" * 40)).code == 1
    assert pv.value == "short"
