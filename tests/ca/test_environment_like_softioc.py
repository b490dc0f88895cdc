"""EPICS's environment variables with every kind of value, right and wrong, beside EPICS base's `softIoc`.

Its report `casr` says what it made of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from attpc_ioc.ioc.ca.address import Addresses, from_environment
from tests.support.ca import LOOPBACK, CaPlace, ca_place, program

Environ = dict[str, str]

NUMBERS = (
    *("", " ", "6001", " 6001 ", "+6001", "6001.9", "6001x", "6001 s", "many", "-1", "0", "1", "15", "5000"),
    *("5001", "65535", "65536", "99999999999999999999999", "1e4", "0x1770", "0x1.8p3", "-inf", "1e400"),
    *("1,5", "2.5", "-2.5", "0.0", "--5", "1_0"),
)
ADDRESSES = (
    *("", " ", "127.0.0.2", "127.0.0.2:6001", "127.0.0.2:0", "127.0.0.2:", "127.0.0.2:x", "127.0.0.2:65536"),
    *(
        "127.0.0.2:-1",
        "127.0.0.2:1:2",
        "127.0.0.256",
        "0127.0.0.2",
        "127.2",
        "2130706434",
        "4294967296",
        "-1",
    ),
    *("2130706434:6001", "::1", "[::1]:5064", "fe80::1%lo", "no.such.host.invalid", "nan", "."),
    *("no.such.host.invalid:5064", "localhost", "localhost:6001", "127.0.0.2,127.0.0.3", "many", "a" * 600),
    *("127.0.0.2 no.such.host.invalid 127.0.0.3", "127.0.0.2\t127.0.0.3\n", "127.0.0.2 127.0.0.2", ":6001"),
    *("127.0.0.2:65536 ::1 127.0.0.3:6001", "127.0.0.1.1", "127.0.0.2/24", "99999999999999999999999"),
)
INTERFACES = ("203.0.113.77 127.0.0.2", "224.0.0.9", "0.0.0.0", "127.0.0.3 127.0.0.2")
CHOICES = ("", "YES", "yes", "Yes", "NO", "no", "No", "true", "1", "0", "y", " yes", "nonsense")


@dataclass(frozen=True)
class Meant:
    """What a server made of its environment."""

    listens: frozenset[str]
    """Interfaces with the port of the searches."""
    beacons: frozenset[str]
    ignored: frozenset[str]
    period_is_taken: bool


def at(place: CaPlace) -> Environ:
    """Everything on loopback, and no EPICS variable that is tried."""
    env = {k: v for k, v in place.env.items() if not k.startswith("EPICS_")}
    return env | {"EPICS_CAS_INTF_ADDR_LIST": LOOPBACK, "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO"}


async def there(environ: Environ) -> Meant:
    """What softIoc makes of it; raises AssertionError where it does not serve."""
    process = await asyncio.create_subprocess_exec(
        program("softIoc"),
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            printed, _ = await process.communicate(b"iocInit\ncasr 4\nexit\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = printed.decode("utf-8", "replace")
    assert "name server on" in text, text
    _, _, lists = text.partition("Sending CAS-beacons to ")
    beacons, _, ignored = lists.partition("Free-lists")[0].partition("Ignoring UDP messages from")
    return Meant(
        frozenset(re.findall(r"(?:unicast|CAS-UDP) name server on (\S+)", text)),
        frozenset(re.findall(r"^    (\S+:\d+)$", beacons, re.MULTILINE)),
        frozenset(re.findall(r"^    (\S+):\d+$", ignored, re.MULTILINE)),
        "float fetch failed" not in text or not environ.get("EPICS_CA_BEACON_PERIOD"),
    )


def here(environ: Environ) -> tuple[Meant, Addresses]:
    """What this server makes of it."""
    found = from_environment(environ)
    return Meant(
        frozenset(f"{address}:{found.port}" for address in found.interfaces),
        frozenset(f"{address}:{port}" for address, port in found.beacons),
        found.ignored,
        not any("BEACON_PERIOD" in fault for fault in found.faults),
    ), found


async def differing(values: Iterable[str], variables: Callable[[str], Environ]) -> dict[str, str]:
    """Try each value in the variables; return where the two servers differ."""
    turns = asyncio.Semaphore(3)
    differ: dict[str, str] = {}

    async def compare(value: str) -> None:
        async with turns:
            theirs = await there(environ := at(place) | variables(value))
        ours, found = await asyncio.to_thread(here, environ)
        if ours != theirs:
            differ[value] = f"softIoc {theirs}\nhere    {ours}\n{found.faults}"

    with contextlib.closing(ca_place()) as place:
        await asyncio.gather(*map(compare, values))
    return differ


async def test_numbers_of_a_server_mean_the_same_to_softioc() -> None:
    names = ("EPICS_CAS_SERVER_PORT", "EPICS_CAS_BEACON_PORT", "EPICS_CAS_BEACON_PERIOD")
    others = {"EPICS_CA_SERVER_PORT": "7001", "EPICS_CA_REPEATER_PORT": "7002", "EPICS_CA_BEACON_PERIOD": "7"}
    beacons = {"EPICS_CAS_BEACON_ADDR_LIST": LOOPBACK}
    assert await differing(NUMBERS, lambda value: others | beacons | dict.fromkeys(names, value)) == {}


async def test_numbers_of_clients_and_server_mean_the_same_to_softioc() -> None:
    names = ("EPICS_CA_SERVER_PORT", "EPICS_CA_REPEATER_PORT", "EPICS_CA_BEACON_PERIOD")
    # What only softIoc's buffers and clients depend on keeps neither from serving.
    unused = (
        "EPICS_CA_MAX_ARRAY_BYTES",
        "EPICS_CA_AUTO_ARRAY_BYTES",
        "EPICS_CA_CONN_TMO",
        "EPICS_CA_MCAST_TTL",
    )
    beacons = {"EPICS_CAS_BEACON_ADDR_LIST": LOOPBACK}
    values = ("", " ", "6001", "many", "-1", "0", "70000", "1e4")
    assert await differing(values, lambda value: beacons | dict.fromkeys(names + unused, value)) == {}


async def test_lists_of_addresses_mean_the_same_to_softioc() -> None:
    names = ("EPICS_CAS_INTF_ADDR_LIST", "EPICS_CAS_BEACON_ADDR_LIST", "EPICS_CAS_IGNORE_ADDR_LIST")
    assert await differing(ADDRESSES, lambda value: dict.fromkeys(names, value)) == {}


async def test_interfaces_mean_the_same_to_softioc() -> None:
    beacons = {"EPICS_CAS_BEACON_ADDR_LIST": LOOPBACK}
    assert await differing(INTERFACES, lambda value: beacons | {"EPICS_CAS_INTF_ADDR_LIST": value}) == {}


async def test_yes_and_no_mean_the_same_to_softioc() -> None:
    assert await differing(CHOICES, lambda value: {"EPICS_CAS_AUTO_BEACON_ADDR_LIST": value}) == {}
