"""Requests that may come twice: one with the key of an earlier one gets its answer, and begins nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from .problems import Problem
from .tokens import Keeping

MOST = 1000
"""Keys that are remembered, and for how long."""

FOR_S = 24 * 3600.0

KEY_CHARACTERS = 100


class Asked(BaseModel):
    """A request that was taken up; the status is 0 until it has ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: str
    time_s: float
    status: int = 0
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request has ended: status and body."""

    status: int
    body: dict[str, Any]


STOPPED = Answer(409, Problem(409, "the IOC was stopped before it was done").body())


class Repeats:
    """The keys of one IOC, over restarts.

    A key is kept in the turn of the event loop in which its request begins: on disk it is before
    whatever that changes.
    """

    def __init__(self, keeping: Keeping) -> None:
        self._kept = keeping.kept("keys", TypeAdapter(Asked))
        self._under_way: dict[str, asyncio.Task[Answer]] = {}
        self._tasks: set[asyncio.Task[Answer]] = set()

    async def close(self) -> None:
        """End what goes on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(
        self, user: str, key: str | None, request: object, work: Coroutine[Any, Any, Answer]
    ) -> asyncio.Task[Answer]:
        """Return the task of a request, begun now or before; raises `Problem`, and does not begin then."""
        if key is None:
            return self._start(work)
        known = hashlib.sha256(f"{user}\n{key}".encode("utf-8", "replace")).hexdigest()
        digest = hashlib.sha256(json.dumps(request).encode()).hexdigest()
        asked = self._kept.values.get(known)
        if asked is not None and time.time() - asked.time_s < FOR_S:
            work.close()
            return self._again(known, asked, digest)
        self._make_room()
        self._kept.keep(known, Asked(request=digest, time_s=time.time()))
        task = self._under_way[known] = self._start(work)
        task.add_done_callback(lambda task: self._ended(known, task))
        return task

    def _start(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.get_running_loop().create_task(work, name="web put")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _again(self, known: str, asked: Asked, digest: str) -> asyncio.Task[Answer]:
        if asked.request != digest:
            raise Problem(422, "this Idempotency-Key came with another request before: each needs its own")
        if task := self._under_way.get(known):
            return task
        if asked.body is None:
            raise Problem(
                409,
                "this request was taken up before the IOC restarted, and how it ended is not known: "
                "the PVs show what is",
            )
        return self._start(_known(Answer(asked.status, asked.body)))

    def _ended(self, known: str, task: asyncio.Task[Answer]) -> None:
        del self._under_way[known]
        if not task.cancelled() and task.exception() is not None:
            return
        # Only `close` cancels.
        asked, answer = self._kept.values[known], STOPPED if task.cancelled() else task.result()
        self._kept.keep(known, asked.model_copy(update={"status": answer.status, "body": answer.body}))

    def _make_room(self) -> None:
        now_s = time.time()
        ages = sorted((asked.time_s, known) for known, asked in self._kept.values.items())
        over = len(ages) - MOST + 1
        for number, (time_s, known) in enumerate(ages):
            if number >= over and now_s - time_s < FOR_S:
                break
            if known not in self._under_way:
                self._kept.drop(known)


async def _known(answer: Answer) -> Answer:
    return answer


def key_of(header: str | None) -> str | None:
    """Return the key of a request; raises `Problem` for one that is none."""
    if header is not None and not (0 < len(header) <= KEY_CHARACTERS and header.isascii()):
        raise Problem(400, f"Idempotency-Key must have 1 to {KEY_CHARACTERS} ASCII characters")
    return header
