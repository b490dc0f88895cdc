"""Tokens: by which people and programs are known by name. Only their hashes are kept."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from attpc_ioc.eventlog import Kept
from attpc_ioc.pvs.row import AccessGroup

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")
"""A name that a token or a proxy may give: as the access security file has users."""

MOST = 1000
"""Tokens at a time."""

USED_EVERY_S = 60.0
"""The last use of a token is kept at most so often."""

_TEXT = re.compile(r"attpc_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Role(StrEnum):
    """What a name may write at most; the access security file may allow less."""

    VIEWER = "viewer"
    """Nothing."""
    OPERATOR = "operator"
    """Rows for operators."""
    EXPERT = "expert"
    """Every row that can be written."""

    def allows(self, group: AccessGroup) -> bool:
        """Return whether rows of this group may be written."""
        if self is Role.OPERATOR:
            return group is not AccessGroup.EXPERT
        return self is Role.EXPERT


class Token(BaseModel):
    """A token as it is kept; `hash` is that of its secret, by argon2id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    role: Role
    hash: str
    made_s: float
    expires_s: float

    def expired(self, now_s: float) -> bool:
        """Return whether it is too old at this time."""
        return now_s >= self.expires_s


class Keeping(Protocol):
    """A plugin's context, or the state that an IOC left."""

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what is kept under this topic."""
        ...


TOKEN = TypeAdapter(Token)
USED = TypeAdapter(float)


class Tokens:
    """The tokens of one IOC, over restarts."""

    def __init__(self, keeping: Keeping) -> None:
        self._kept = keeping.kept("tokens", TOKEN)
        self._used = keeping.kept("tokens_used", USED)
        self.changes = 0
        """How often one was added or revoked."""

    def get(self, token_id: str) -> Token | None:
        """Return the token of this id, unless it has expired or was revoked."""
        token = self._kept.values.get(token_id)
        return None if token is None or token.expired(time.time()) else token

    def used(self, token: Token) -> None:
        """Note that somebody has used it."""
        now_s = time.time()
        if now_s - self._used.values.get(token.id, 0.0) >= USED_EVERY_S:
            self._used.keep(token.id, now_s)

    def add(self, token: Token) -> None:
        """Keep a new one; raises `ValueError`."""
        for old in [old for old in self._kept.values.values() if old.expired(time.time() - 30 * 86400)]:
            self._drop(old.id)
        if len(self._kept.values) >= MOST:
            raise ValueError(f"there are {MOST} tokens already: revoke some")
        self._kept.keep(token.id, token)
        self.changes += 1

    def revoke(self, which: str) -> list[Token]:
        """Remove the token of this id, or all of this name; returns them."""
        found = [token for token in self._kept.values.values() if which in (token.id, token.name)]
        for token in found:
            self._drop(token.id)
        self.changes += 1
        return found

    def listed(self) -> list[dict[str, Any]]:
        """Return what people may know of each, by name."""
        return [
            token.model_dump(mode="json", exclude={"hash"}) | {"used_s": self._used.values.get(token.id)}
            for token in sorted(self._kept.values.values(), key=lambda t: (t.name, t.made_s))
        ]

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the shell commands: `do` is add, list or revoke."""
        match question:
            case {"do": "list"}:
                return {"tokens": self.listed()}
            case {"do": "revoke", "which": str(which)}:
                return {"revoked": [token.id for token in self.revoke(which)]}
            case {"do": "add", "token": dict(token)}:
                try:
                    self.add(Token.model_validate(token))
                except ValidationError:
                    return {"error": "this is no token; the shell command and the IOC differ in version"}
                except ValueError as error:
                    return {"fault": str(error)}
                return {}
        return {"error": "no such question"}

    def _drop(self, token_id: str) -> None:
        self._kept.drop(token_id)
        self._used.drop(token_id)


def name_fault(name: str) -> str:
    """Return what is wrong with a name, or an empty text."""
    if NAME.fullmatch(name):
        return ""
    return (
        f"{name!r} is no name: 1 to 40 letters, digits and . _ @ -, of which a letter or digit is the first"
    )


def parts_of(text: str) -> tuple[str, str] | None:
    """Return id and secret of the text of a token; None if it is none."""
    found = _TEXT.fullmatch(text)
    return None if found is None else (found[1], found[2])


def make(name: str, role: Role, days: float) -> tuple[Token, str]:
    """Return a new token, and its text, which nobody can get from it again."""
    from .hashing import hash_of

    token_id, secret, now_s = secrets.token_hex(6), secrets.token_urlsafe(32), time.time()
    token = Token(
        id=token_id,
        name=name,
        role=role,
        hash=hash_of(secret),
        made_s=now_s,
        expires_s=now_s + days * 86400,
    )
    return token, f"attpc_{token_id}_{secret}"
