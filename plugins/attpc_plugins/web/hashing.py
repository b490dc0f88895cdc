"""Hashes of secrets by argon2id, with the parameters that OWASP recommends: 19 MiB and two passes."""

from __future__ import annotations

import argon2

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_of(secret: str) -> str:
    """Return the hash; takes some 20 ms."""
    return _HASHER.hash(secret)


def fits(hashed: str, secret: str) -> bool:
    """Return whether a hash is that of a secret; takes some 20 ms."""
    try:
        return _HASHER.verify(hashed, secret)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
