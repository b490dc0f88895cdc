"""Puts of PVs: commands and setpoints, by the same door as those of EPICS clients."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError

from attpc_ioc.errors import PutFailed
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Who
from attpc_ioc.plugin.contract import PvSurface
from attpc_ioc.pvs.table import PvEntry

from .problems import MEDIA, Problem, json_body
from .query import switch
from .repeats import Answer, Repeats, key_of
from .rights import Rights, caller_of
from .shown import value_of

log = get_logger(__name__)

REFUSED_S = 0.25
"""A refusal that comes within this time is answered, although the request does not wait."""


class PutBody(BaseModel):
    """What to write: a number, a label or its number, or a text."""

    model_config = ConfigDict(extra="forbid")

    value: StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr


class Puts:
    """Writes PVs for people and programs that have a name."""

    def __init__(self, pvs: PvSurface, rights: Rights, repeats: Repeats) -> None:
        self._pvs = pvs
        self._rights = rights
        self._repeats = repeats

    async def put(self, request: web.Request, entry: PvEntry) -> web.Response:
        """Write a PV, and answer how that ended or that it goes on."""
        caller = caller_of(request)
        self._rights.check_write(request, caller)
        self._rights.check_role(caller, entry)
        wait = switch(request.query, "wait")
        key = key_of(request.headers.get("Idempotency-Key"))
        value = _value(await json_body(request))
        # The body may have taken long.
        self._rights.check_write(request, self._rights.now(caller))
        task = self._repeats.begin(
            caller.who.user, key, ["PUT", entry.name, value], self._put(entry, value, caller.who)
        )
        done, _ = await asyncio.wait((task,), timeout=None if wait else REFUSED_S)
        if not done:
            return web.json_response(value_of(entry, self._pvs.read(entry.name)), status=202)
        if task.cancelled():
            raise Problem(503, "the IOC stopped before this was done")
        answer = task.result()
        media = MEDIA if answer.status >= 400 else "application/json"
        return web.json_response(answer.body, status=answer.status, content_type=media)

    async def _put(self, entry: PvEntry, value: float | str, who: Who) -> Answer:
        try:
            await self._pvs.put(entry.name, value, who)
        except PutFailed as error:
            return _failed(entry, error)
        except Exception:
            log.exception("put failed unexpectedly", pv=entry.name)
            return _answer(Problem(500, "a fault of the program; its log has the details"))
        return Answer(200, value_of(entry, self._pvs.read(entry.name)))


def _failed(entry: PvEntry, error: PutFailed) -> Answer:
    status = 403 if error.no_access else 422 if error.bad_value else 409
    return _answer(Problem(status, f"{entry.name}: {error}", reasons=error.reasons))


def _answer(problem: Problem) -> Answer:
    return Answer(problem.status, problem.body())


def _value(body: Any) -> float | str:
    try:
        value = PutBody.model_validate(body).value
    except ValidationError:
        raise Problem(422, 'the body must be {"value": ...}, with a number or a text, alone') from None
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise Problem(422, "the text has half of a character (a surrogate)")
    try:
        float(value if not isinstance(value, str) else 0)
    except OverflowError:
        raise Problem(422, "the number is too large") from None
    return value
