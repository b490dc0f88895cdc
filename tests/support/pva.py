"""PVAccess clients: EPICS base's own programs, and p4p's in the test's own process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from p4p.client.asyncio import Context
from p4p.client.thread import Context as ThreadContext

from attpc_ioc.ioc.ca import PV, STATUS_LABELS
from attpc_ioc.pva import Form, PVAServer
from attpc_ioc.pva.puts import PutTo
from tests.support.ca import LOOPBACK, CaPlace, Ran, ca_place, run
from tests.support.patience import PATIENCE_S

BLOCK = ("-r", "record[block=true]")
"""Options of `pvput` that make it wait for completion."""

UNNAMED = "<NULL>"


async def pvget(place: CaPlace, *args: str) -> Ran:
    """Run `pvget` to its end, and again where it printed `<NULL>` for the name of a PV.

    It takes the name from what `ClientChannel::get` returns, in the thread that gets the answer: on a busy
    machine that may be before the call has returned.
    """
    while UNNAMED in (ran := await pva_run(place, "pvget", *args)).out:
        pass
    return ran


async def pvput(place: CaPlace, *args: str) -> Ran:
    """Run `pvput` to its end; it prints why a put failed."""
    return await pva_run(place, "pvput", *args)


async def pva_run(place: CaPlace, name: str, *args: str) -> Ran:
    """Run one of EPICS base's programs to its end, and again if it found no server.

    Its socket for searches sets SO_REUSEADDR before the system chooses its port, so that it may be that of
    another client on this host, which then gets the answers: one run in 28000 for each such client. What
    found no server has put nothing.
    """
    ran = await run(place, name, "-w", str(PATIENCE_S / 2), *args)
    if ran.code and ran.out.strip() in ("", "Old :") and "timeout" in ran.err.lower():
        ran = await run(place, name, "-w", str(PATIENCE_S), *args)
    return ran


@contextlib.asynccontextmanager
async def pva_server(
    records: Iterable[tuple[PV, Form]] = (),
    *,
    put_to: PutTo = lambda _record, _put: None,
    conf: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[PVAServer, CaPlace]]:
    """Serve without an IOC, in a corner of its own, for the length of a block."""
    place = ca_place()
    ports = {
        f"EPICS_PVAS_{kind}_PORT": place.env[f"EPICS_PVA_{kind}_PORT"] for kind in ("SERVER", "BROADCAST")
    }
    server = PVAServer(
        records,
        put_to=put_to,
        conf={"EPICS_PVAS_INTF_ADDR_LIST": LOOPBACK, **ports, **(conf or {})},
        status_names=STATUS_LABELS,
        **options,
    )
    await server.start()
    try:
        yield server, place
    finally:
        await server.stop()
        place.close()


def client_conf(place: CaPlace) -> dict[str, str]:
    """What a client in the test's own process needs to find the servers of a corner."""
    return {key: value for key, value in place.env.items() if key.startswith("EPICS_PVA_")}


@contextlib.asynccontextmanager
async def p4p_client(place: CaPlace) -> AsyncIterator[Context]:
    """p4p's client: it gets values as the server sent them."""
    with Context("pva", conf=client_conf(place), useenv=False, nt=False) as context:
        yield context


@contextlib.contextmanager
def p4p_thread_client(place: CaPlace) -> Iterator[ThreadContext]:
    """p4p's client for tests without an event loop."""
    with ThreadContext("pva", conf=client_conf(place), useenv=False, nt=False) as context:
        yield context


def fields(value: Any) -> dict[str, Any]:
    """All fields of a value by their full names, arrays as lists."""
    found: dict[str, Any] = {}

    def walk(prefix: str, part: dict[str, Any]) -> None:
        for key, inner in part.items():
            if isinstance(inner, dict):
                walk(f"{prefix}{key}.", inner)
            else:
                found[prefix + key] = inner.tolist() if hasattr(inner, "tolist") else inner

    walk("", value.todict())
    return found
