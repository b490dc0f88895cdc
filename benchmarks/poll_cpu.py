"""CPU of one `GetState`, connection included: the product's client against zeep's own reading over aiohttp.

    python benchmarks/poll_cpu.py [--polls 300] [--rounds 9]

Runs a server in a process of its own, so that only the client's CPU is counted, and prints for each way the
median over the rounds in ms a poll and the ratio to the product's client. The ways take turns in each round,
because a machine's clock and neighbours change over minutes. The goal for the product's client is 0.4 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from attpc_ioc.ecc import EccClient
from attpc_ioc.ecc.http1 import HttpReply
from attpc_ioc.ecc.soap import HEADERS, read_state, request_bytes, zeep_client

GOAL_MS = 0.4

BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"'
    b' xmlns:SOAP-ENC="http://schemas.xmlsoap.org/soap/encoding/"'
    b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    b' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:ecc="urn:ecc"><SOAP-ENV:Body><ecc:ResponseState>'
    b"<ErrorCode>0</ErrorCode><ErrorMessage/><State>4</State><Transition>0</Transition>"
    b"</ecc:ResponseState></SOAP-ENV:Body></SOAP-ENV:Envelope>"
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: gSOAP/2.8\r\nContent-Type: text/xml; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)
) + BODY


def serve(pipe: Connection) -> None:
    """Answer one request a connection, as the ECC server does."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        pipe.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            with connection:
                received = b""
                while b"Envelope>" not in received:
                    data = connection.recv(65536)
                    if not data:
                        break
                    received += data
                else:
                    connection.sendall(REPLY)


class AiohttpReply:
    """What zeep's binding reads of a reply."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status_code = status
        self.content = body
        self.headers: dict[str, str] = {}
        self.encoding = "utf-8"


async def fetch(session: aiohttp.ClientSession, url: str, envelope: bytes) -> tuple[int, bytes]:
    """POST with aiohttp."""
    async with asyncio.timeout(2), session.post(url, data=envelope, headers=HEADERS) as response:
        return response.status, await response.read()


async def measure(url: str, polls: int, rounds: int) -> dict[str, float]:
    """Return the median CPU in ms a poll of each way."""
    zeep: Any = zeep_client()
    binding = zeep.service._binding
    operation = binding.get("GetState")
    ready_made = request_bytes("GetState")
    client = EccClient(url, name="benchmark")
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def plain_zeep() -> object:
            status, body = await fetch(session, url, request_bytes("GetState"))
            return binding.process_reply(zeep, operation, AiohttpReply(status, body))

        async def bare_lxml() -> object:
            status, body = await fetch(session, url, ready_made)
            return read_state(HttpReply(status, "", body), "benchmark")

        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "this client": client.get_state,
            "aiohttp, read by lxml": bare_lxml,
            "aiohttp, zeep as it comes": plain_zeep,
        }
        used: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                for _ in range(polls):
                    await way()
                used[name].append((time.process_time() - began) / polls * 1e3)
    await client.close()
    return {name: statistics.median(values) for name, values in used.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--polls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}/"
        medians = asyncio.run(measure(url, arguments.polls, arguments.rounds))
    finally:
        server.terminate()
        server.join()
    ours = medians["this client"]
    for name, ms in medians.items():
        print(f"{name:28} {ms:6.3f} ms a poll   {ms / ours:5.2f} x")
    print(f"goal: under {GOAL_MS} ms: {'met' if ours < GOAL_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
