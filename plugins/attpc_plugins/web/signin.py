"""Signing in and out: the operations of `/api/v1/session`."""

from __future__ import annotations

import time
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, StrictStr, ValidationError

from .operations import Operation
from .problems import Problem, json_body
from .rights import Caller, Rights, caller_of, check_origin
from .sessions import key_of


class SignIn(BaseModel):
    """The token of somebody who signs in."""

    model_config = ConfigDict(extra="forbid")

    token: StrictStr


class SessionBody(BaseModel):
    """Who is signed in; the name is empty if nobody is."""

    model_config = ConfigDict(extra="forbid")

    name: str
    role: str
    by: Literal["", "token", "session", "proxy"]
    """What gives the name: a token with the request, a session's cookie, or the proxy in front."""
    sign_out: str
    """Where one signs out if the proxy gives the name; empty if that is not known."""
    csrf: str
    """What each write must have in X-CSRF-Token; programs with a token of their own need it not."""
    writable: list[str]
    """The PVs that this name may write now."""


class Signing:
    """The operations."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights

    def operations(self, api: str) -> tuple[Operation, ...]:
        """Return them."""
        path = f"{api}/session"
        return (
            Operation(
                "GET",
                path,
                self.session,
                "Who is signed in, and what for",
                {200: SessionBody},
                public=True,
            ),
            Operation(
                "POST",
                path,
                self.sign_in,
                "Sign in by a token; a cookie then stands for it",
                {200: SessionBody},
                body=SignIn,
                problems=(401, 403, 408, 413, 415, 422),
                public=True,
            ),
            Operation(
                "DELETE", path, self.sign_out, "Sign out", {204: None}, problems=(403, 409), public=True
            ),
        )

    async def session(self, request: web.Request) -> web.Response:
        """Return who is signed in."""
        return self._answer(caller_of(request))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Begin a session."""
        rights, before = self._rights, caller_of(request)
        check_origin(request, before.client, needed=False)
        try:
            text = SignIn.model_validate(await json_body(request)).token
        except ValidationError:
            raise Problem(422, 'the body must be {"token": "..."}') from None
        token = await rights.proved(text.strip(), before.client)
        if before.how == "session":
            rights.sessions.end(before.by)
        cookie = rights.sessions.begin(token)
        response = self._answer(rights.by_session(before, key_of(cookie)))
        response.set_cookie(
            rights.cookie,
            cookie,
            path="/",
            max_age=int(rights.sessions.ends_s(key_of(cookie)) - time.time()),
            httponly=True,
            samesite="Strict",
            secure=before.client.tls,
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        caller = caller_of(request)
        if caller.how == "proxy":
            raise Problem(409, f"the proxy in front says that this is {caller.by}: sign out there")
        if caller.how == "session":
            self._rights.check_write(request, caller)
            self._rights.sessions.end(caller.by)
        response = web.Response(status=204)
        response.del_cookie(
            self._rights.cookie, path="/", httponly=True, samesite="Strict", secure=caller.client.tls
        )
        return response

    def _answer(self, caller: Caller) -> web.Response:
        body = self._rights.session(caller) | {"csrf": self._rights.csrf(caller)}
        return web.json_response(body)
