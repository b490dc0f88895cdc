"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

MEDIA = "application/problem+json"


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

    def answer(self) -> web.Response:
        """Return the response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
        }
        if self.reasons:
            body["reasons"] = list(self.reasons)
        return web.json_response(body, status=self.status, headers=self.headers, content_type=MEDIA)
