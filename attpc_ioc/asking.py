"""Asks the IOC that runs with a state directory; `attpc_ioc.ioc.ask` answers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attpc_ioc.errors import NotRunning, StateDirError

SOCKET = "ask.socket"
LIMIT_S = 5.0
ANSWER_BYTES = 1 << 24
"""Maximum bytes read of an answer: another program at the socket may send without end."""

Question = Mapping[str, Any]
Answerer = Callable[[Question], Mapping[str, Any]]
"""Answers without waiting, in the IOC's event loop; the result can be written as JSON."""


def plugin_key(plugin: str) -> str:
    """Return the `ask` of questions to a plugin."""
    return f"plugin {plugin}"


def ask(folder: Path, question: Question, limit_s: float = 2 * LIMIT_S) -> dict[str, Any]:
    """Ask the IOC that runs with this state directory.

    Raises `NotRunning` if none is running, and `StateDirError` if it does not answer, or if this
    user may not ask.
    """
    try:
        with socket_path(folder) as path, socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(limit_s)
            sock.connect(path)
            sock.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(_received(sock, limit_s))
    except PermissionError as error:
        raise StateDirError(f"state directory {folder}: only the account of the IOC may ask it") from error
    except (
        TimeoutError,
        BlockingIOError,
        ConnectionResetError,
        BrokenPipeError,
        ValueError,
        RecursionError,
    ) as error:
        # The system accepted or queued the connection, so the process exists.
        raise StateDirError(
            f"state directory {folder}: the IOC runs, but did not answer within {limit_s:g} s; "
            "is it stopped, or too busy?"
        ) from error
    except OSError as error:
        raise NotRunning(f"state directory {folder}: no IOC answers there; is it running?") from error
    if "error" in answer:
        raise StateDirError(f"the IOC does not answer: {answer['error']}")
    return answer


def _received(sock: socket.socket, limit_s: float) -> bytes:
    """Return everything until the end; raises `ValueError` if that is too much, and `TimeoutError`."""
    data, end_s = bytearray(), time.monotonic() + limit_s
    while piece := sock.recv(1 << 16):
        data += piece
        if len(data) > ANSWER_BYTES:
            raise ValueError("no answer is so long")
        if time.monotonic() > end_s:
            raise TimeoutError
    return bytes(data)


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """Yield a short path of the socket: the address of a Unix socket has room for 107 bytes."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{number}/{SOCKET}"
    finally:
        os.close(number)
