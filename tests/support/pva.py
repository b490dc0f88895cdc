"""PVAccess clients: EPICS base's own programs, and p4p's in the test's own process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from p4p.client.asyncio import Context
from p4p.client.thread import Context as ThreadContext

from tests.support.ca import CaPlace, Ran, run
from tests.support.patience import PATIENCE_S

BLOCK = ("-r", "record[block=true]")
"""Options of `pvput` that make it wait for completion."""


async def pvget(place: CaPlace, *args: str) -> Ran:
    """Run `pvget` to its end."""
    return await run(place, "pvget", "-w", str(PATIENCE_S), *args)


async def pvput(place: CaPlace, *args: str) -> Ran:
    """Run `pvput` to its end; it prints why a put failed."""
    return await run(place, "pvput", "-w", str(PATIENCE_S), *args)


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
