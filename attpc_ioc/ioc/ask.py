"""Answers questions that shell commands ask a running IOC, in JSON over a socket in its state directory.

A Unix socket rather than a PV: answers are long, only those who may read the state directory get them, and
they must come even when Channel Access accepts no client. A question is one line, a JSON object; the answer
is one JSON object, then the connection ends. Size and time of both are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attpc_ioc.asking import LIMIT_S, SOCKET, Answerer, Question, socket_path
from attpc_ioc.errors import system_reason
from attpc_ioc.ioc.ca import CAServer
from attpc_ioc.log import get_logger
from attpc_ioc.pva import Connection

log = get_logger(__name__)

QUESTION_BYTES = 65_536
NAMES_MAX = 20_000
"""PV names in one answer for all clients together: at most 1.4 MB, made in about 10 ms."""

AT_ONCE = 4


class AskServer:
    """Answers questions on the socket of a state directory; `answers` maps each `ask` to its function."""

    def __init__(self, folder: Path, answers: Mapping[str, Answerer]) -> None:
        self._folder = folder
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; if that fails, log it and run without: nothing depends on it."""
        try:
            with socket_path(self._folder) as path:
                sock = _bound(path)
        except OSError as error:
            log.warning(
                "shell commands cannot ask this IOC", folder=self._folder, reason=system_reason(error)
            )
            return
        # start_unix_server looks up the name that the socket was bound to: that may be another file's now.
        self._server = await asyncio.start_server(self._taken, sock=sock, limit=QUESTION_BYTES)

    async def stop(self) -> None:
        """Stop, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        with contextlib.suppress(OSError):
            (self._folder / SOCKET).unlink()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._asking.add(task)
        try:
            if len(self._asking) <= AT_ONCE:
                async with asyncio.timeout(LIMIT_S):
                    writer.write(json.dumps(self._answer(await reader.readline())).encode() + b"\n")
                    await writer.drain()
                    writer.write_eof()
        except (TimeoutError, OSError, ValueError) as error:  # ValueError: a line that is too long
            log.debug("question not answered", reason=str(error))
        finally:
            self._asking.discard(task)
            writer.close()

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            question = json.loads(line)
            answer = self._answers[question["ask"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"error": f"the question is a JSON object with 'ask', one of {', '.join(self._answers)}"}
        try:
            return answer(question)
        except Exception as error:  # a bug here must not end a running IOC
            log.exception("question failed", ask=question["ask"])
            return {"error": f"fault of the program: {error}"}


def clients_answer(server: CAServer, connections: Sequence[Connection], question: Question) -> dict[str, Any]:
    """Return the connected clients, with the names of their PVs if the question has `pvs`.

    `connections` are those over PVAccess, of which no more is known.
    """
    answer = []
    for info in server.clients(NAMES_MAX if question.get("pvs") else 0):
        answer.append(
            {
                "id": info.client.id,
                "address": info.client.address,
                "user": info.client.user,
                "host": info.client.host,
                "connected_s": round(info.connected_s, 1),
                "channels": info.channels,
                "subscriptions": info.subscriptions,
                "queued": info.queued,
                "queued_bytes": info.queued_bytes,
                "dropped": info.dropped,
                "puts_at_work": info.puts_at_work,
                "pvs": list(info.pvs),
            }
        )
    over_pva = [{"address": one.address, "user": one.user} for one in connections]
    return {"clients": answer, "pvaccess": over_pva}


def _bound(path: str) -> socket.socket:
    """Return a listening socket that only this account can connect to; it replaces one left by a dead IOC."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock
