"""Who asks, and what they may write: a token, a session's cookie or a proxy gives the name."""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiohttp import hdrs, web

from attpc_ioc.model.command import Who
from attpc_ioc.plugin.contract import PvSurface
from attpc_ioc.pvs.table import PvEntry

from .client import Client, client_of
from .problems import Problem
from .proving import Proofs
from .sessions import Sessions, key_of
from .settings import WebSettings
from .tokens import Keeping, Role, Token, Tokens

VIA = "web"

CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `by` is what gave the name: a token's id, a session's key, or the name that a proxy gives."""

    who: Who
    client: Client
    role: Role | None = None
    how: Literal["", "token", "session", "proxy"] = ""
    by: str = ""

    @property
    def named(self) -> bool:
        """Whether it is known who it is."""
        return self.how != ""

    def without_name(self) -> Caller:
        """Return the same client as somebody who is not known."""
        return Caller(replace(self.who, user=""), self.client)


CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)


def caller_of(request: web.Request) -> Caller:
    """Return who asks."""
    return request[CALLER]


class Rights:
    """Tells who asks and what they may write."""

    def __init__(self, pvs: PvSurface, settings: WebSettings, keeping: Keeping, tokens: Tokens) -> None:
        self._pvs = pvs
        self._settings = settings
        self._tokens = tokens
        self._proofs = Proofs(tokens)
        self.sessions = Sessions(keeping, tokens, settings.session_hours)
        self.cookie = f"{'__Host-' if settings.tls else ''}attpc-{settings.port}"
        """The name of the cookie: browsers do not tell ports of a host apart."""

    def close(self) -> None:
        """End the thread that proves tokens."""
        self._proofs.close()

    # ------------------------------------------------------------------ who asks

    async def caller(self, request: web.Request) -> Caller:
        """Return who asks; raises `Problem` for a token that is wrong."""
        client = client_of(request, self._settings.proxy)
        nobody = Caller(Who("", client.host, client.address, via=VIA), client)
        if header := request.headers.get(hdrs.AUTHORIZATION):
            kind, _, text = header.partition(" ")
            if kind.lower() != "bearer":
                raise Problem(
                    401, "Authorization must be Bearer and a token", headers={"WWW-Authenticate": "Bearer"}
                )
            token = await self.proved(text.strip(), client)
            return self._of(nobody, token, "token", token.id)
        if client.named:
            assert self._settings.proxy is not None
            who = replace(nobody.who, user=client.named)
            return Caller(who, client, self._settings.proxy.role, "proxy", client.named)
        if cookie := request.cookies.get(self.cookie):
            key = key_of(cookie)
            token = self.sessions.token(key)
            if token is not None and client.private:
                return self._of(nobody, token, "session", key)
        return nobody

    async def proved(self, text: str, client: Client) -> Token:
        """Return the token of a text that this client has sent; raises `Problem`."""
        if not client.private:
            raise Problem(
                403,
                "tokens are not accepted over plain HTTP from another machine, where others can read them: "
                "the page needs `certificate` and `key` in [plugins.web], or a proxy with TLS",
            )
        return await self._proofs.token(text, client.host)

    def by_session(self, caller: Caller, key: str) -> Caller:
        """Return the same client as the name of a session that has just begun."""
        token = self.sessions.token(key)
        nobody = caller.without_name()
        return nobody if token is None else self._of(nobody, token, "session", key)

    def now(self, caller: Caller) -> Caller:
        """Return who somebody is now: without a name once the token was revoked or the session has ended."""
        token = None
        if caller.how == "token":
            token = self._tokens.get(caller.by)
        elif caller.how == "session":
            token = self.sessions.token(caller.by)
        else:
            return caller
        return caller.without_name() if token is None else caller

    def ends_s(self, caller: Caller) -> float:
        """Return until when somebody has the name at most, in seconds since 1970."""
        if caller.how == "session":
            return self.sessions.ends_s(caller.by)
        token = self._tokens.get(caller.by) if caller.how == "token" else None
        return math.inf if token is None else token.expires_s

    @property
    def state(self) -> tuple[int, int, int]:
        """What is another one whenever rights may have changed, except by time."""
        return self._tokens.changes, self.sessions.changes, self._pvs.rules_read

    def _of(self, nobody: Caller, token: Token, how: Literal["token", "session"], by: str) -> Caller:
        return Caller(replace(nobody.who, user=token.name), nobody.client, token.role, how, by)

    # ------------------------------------------------------------------ what they may

    def hidden(self, caller: Caller) -> frozenset[str]:
        """Return the PVs that somebody may not read."""
        may_read = self._pvs.may_read
        return frozenset(name for name in self._pvs.table if not may_read(name, caller.who))

    def writable(self, caller: Caller) -> list[str]:
        """Return the names of the PVs that somebody may write."""
        role = caller.role
        if role is None or role is Role.VIEWER:
            return []
        return [
            name
            for name, entry in self._pvs.table.items()
            if entry.row.writable
            and role.allows(entry.row.access_group)
            and self._pvs.may_write(name, caller.who)
        ]

    def session(self, caller: Caller) -> dict[str, Any]:
        """Return what a page is told about itself, without the secret of its writes."""
        role = caller.role.value if caller.role is not None else ""
        proxy = self._settings.proxy if caller.how == "proxy" else None
        return {
            "name": caller.who.user,
            "role": role,
            "by": caller.how,
            "sign_out": (proxy.sign_out or "") if proxy is not None else "",
            "writable": self.writable(caller),
        }

    def csrf(self, caller: Caller) -> str:
        """Return what a page must send with its writes; programs with a token need nothing."""
        if caller.how not in ("session", "proxy"):
            return ""
        return self.sessions.csrf(f"{caller.how} {caller.by}")

    def check_view(self, caller: Caller) -> None:
        """Raise `Problem` if somebody may see nothing."""
        if self._settings.view == "named" and not caller.named:
            raise no_name()

    def check_write(self, request: web.Request, caller: Caller) -> None:
        """Raise `Problem` if a write has no name, or may come from a foreign page."""
        if not caller.named:
            raise no_name()
        if caller.how == "token":
            return
        check_origin(request, caller.client, needed=True)
        sent = request.headers.get(CSRF_HEADER, "")
        if not _same(sent, self.csrf(caller)):
            raise Problem(
                403, f"{CSRF_HEADER} must be csrf of /api/v1/session, which a foreign page cannot read"
            )

    def check_role(self, caller: Caller, entry: PvEntry) -> None:
        """Raise `Problem` if the role does not allow to write a PV."""
        group = entry.row.access_group
        if caller.role is None or not caller.role.allows(group):
            raise Problem(403, f"{entry.name} is for {group.value}s; {caller.who.user} is {caller.role}")


def check_origin(request: web.Request, client: Client, *, needed: bool) -> None:
    """Raise `Problem` if a request comes from a foreign page; `needed`: if it does not say from which."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None and not needed:
        return
    own = f"{'https' if client.tls else 'http'}://{request.host}"
    if origin is None or origin.lower() != own.lower():
        raise Problem(403, f"Origin must be {own}, not {origin or 'missing'}: this comes from a foreign page")


def no_name() -> Problem:
    """Return the answer to somebody who must have a name."""
    return Problem(
        401,
        "this needs a name: sign in on the page, or send a token as Authorization: Bearer",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
