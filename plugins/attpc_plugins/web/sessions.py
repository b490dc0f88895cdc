"""Sessions of browsers: a token is shown once, then a cookie stands for it. They last over restarts."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from pydantic import BaseModel, ConfigDict, TypeAdapter

from .tokens import Keeping, Token, Tokens

MOST = 1000
"""Sessions at a time, and of one token `MOST_OF_ONE`; the oldest ends when another begins."""

MOST_OF_ONE = 50


class Session(BaseModel):
    """A session as it is kept, by the hash of its cookie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str
    made_s: float
    expires_s: float


class Sessions:
    """The sessions of one IOC."""

    def __init__(self, keeping: Keeping, tokens: Tokens, hours: float) -> None:
        self._tokens = tokens
        self._length_s = hours * 3600
        self._kept = keeping.kept("sessions", TypeAdapter(Session))
        self._secret = keeping.kept("csrf", TypeAdapter(str))
        if not self._secret.values.get(""):
            self._secret.keep("", secrets.token_hex(32))
        self.changes = 0
        """How often one was ended."""

    def begin(self, token: Token) -> str:
        """Begin one; returns its cookie."""
        now_s = time.time()
        for key in list(self._kept.values):
            if self.token(key) is None:
                self._kept.drop(key)
        ages = sorted((session.made_s, key) for key, session in self._kept.values.items())
        own = [key for _, key in ages if self._kept.values[key].token == token.id]
        for key in (*own[: max(0, len(own) - MOST_OF_ONE + 1)], *([ages[0][1]] if len(ages) >= MOST else ())):
            self.end(key)
        cookie = secrets.token_urlsafe(32)
        expires_s = min(now_s + self._length_s, token.expires_s)
        self._kept.keep(key_of(cookie), Session(token=token.id, made_s=now_s, expires_s=expires_s))
        return cookie

    def ends_s(self, key: str) -> float:
        """Return when a session ends, in seconds since 1970; 0 if it has ended."""
        session = self._kept.values.get(key)
        return session.expires_s if session is not None else 0.0

    def token(self, key: str) -> Token | None:
        """Return the token of a session; None if it has ended."""
        session = self._kept.values.get(key)
        if session is None or time.time() >= session.expires_s:
            return None
        return self._tokens.get(session.token)

    def end(self, key: str) -> None:
        """End a session, if there is one."""
        self._kept.drop(key)
        self.changes += 1

    def csrf(self, of: str) -> str:
        """Return what a page must send with a write: foreign pages cannot read it."""
        secret = bytes.fromhex(self._secret.values[""])
        return hmac.new(secret, of.encode(), hashlib.sha256).hexdigest()[:40]


def key_of(cookie: str) -> str:
    """Return the key of a session: its cookie is not kept."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
