"""Proves tokens: in a thread, one at a time, and with a limit for whoever tries wrong ones."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

from .door import Requests
from .hashing import fits
from .problems import Problem
from .tokens import Token, Tokens, parts_of

FAILURES = 10
"""Wrong tokens of one address, or of one id, that are looked at at once."""

FAILURE_S = 30.0
"""Then one more is looked at after this time."""

MOST_WAITING = 8
"""Tokens that wait for the thread."""


class Proofs:
    """Tells whose token a text is.

    A token that was proved once is known by a short hash in memory: programs send theirs with each request.
    Of another text with the same id that hash shows that it is wrong. So argon2 computes once for each token,
    and then for texts with an id that nobody has used since the start, as often as the limits let it.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._proved: dict[str, bytes] = {}
        self._failures = Requests(1 / FAILURE_S, FAILURES)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="web tokens")
        self._waiting = 0

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def token(self, text: str, address: str) -> Token:
        """Return the token of this text; raises `Problem` (401, and 429 for too many wrong ones)."""
        token_id, secret = parts_of(text) or ("", "")
        token = self._tokens.get(token_id)
        digest = hashlib.sha256(secret.encode()).digest()
        proved = self._proved.get(token_id)
        if token is not None and proved is not None and hmac.compare_digest(proved, digest):
            self._tokens.used(token)
            return token
        keys = (f"address {address}", f"id {token_id}")
        if wait_s := max(self._failures.peek_s(key) for key in keys):
            raise Problem(
                429,
                f"too many wrong tokens, by this id or from {address or 'here'}: again in {wait_s:.0f} s",
                headers=retry_after(wait_s),
            )
        if token is None or proved is not None or not await self._fits(token, secret):
            for key in keys[: 1 if token is None else 2]:
                self._failures.wait_s(key)
            raise wrong()
        # It may have been revoked while the thread computed.
        if self._tokens.get(token_id) is not token:
            raise wrong()
        self._proved = {i: d for i, d in self._proved.items() if self._tokens.get(i)} | {token_id: digest}
        self._tokens.used(token)
        return token

    async def _fits(self, token: Token, secret: str) -> bool:
        if self._waiting >= MOST_WAITING:
            raise Problem(429, "too many tokens are being looked at", headers=retry_after(1.0))
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, fits, token.hash, secret)
        finally:
            self._waiting -= 1


def retry_after(wait_s: float) -> dict[str, str]:
    """Return the header that says how long to wait."""
    return {"Retry-After": str(max(1, round(wait_s)))}


def wrong() -> Problem:
    """Return the answer to a token that is not known."""
    return Problem(
        401,
        "this token is wrong, has expired or was revoked; whoever runs the IOC can make another",
        headers={"WWW-Authenticate": "Bearer"},
    )
