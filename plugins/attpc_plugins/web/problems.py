"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field

MEDIA = "application/problem+json"

BODY_S = 10.0
"""The body of a request must have arrived after this time."""


class ProblemBody(BaseModel):
    """What went wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str
    """The meaning of the status code."""
    status: int
    detail: str
    """What is wrong with this request, and what would be right."""
    reasons: list[str] = Field(default_factory=list)
    """For a put that was refused or has failed: each reason by itself."""


class Problem(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reasons: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reasons = reasons
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return a `ProblemBody`."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
        }
        if self.reasons:
            body["reasons"] = list(self.reasons)
        return body

    def answer(self) -> web.Response:
        """Return the response. After too many requests the connection ends, with all that waits in it."""
        response = web.json_response(
            self.body(), status=self.status, headers=self.headers, content_type=MEDIA
        )
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            response.force_close()
        return response


async def json_body(request: web.Request) -> Any:
    """Return the body of a request, which is JSON; raises `Problem`."""
    if request.content_type != "application/json":
        raise Problem(415, f"the body must be application/json, not {request.content_type}")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Problem(415, "the body must not be compressed")
    try:
        async with asyncio.timeout(BODY_S):
            text = await request.read()
        return json.loads(text, parse_constant=_no_number)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {BODY_S:g} s") from None
    except web.RequestPayloadError:
        raise Problem(400, "the body is not that of an HTTP request") from None
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
