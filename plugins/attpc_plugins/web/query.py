"""What the query of a URL says; what it cannot mean is a `Problem`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from .problems import Problem


def moment(query: Mapping[str, str], name: str) -> datetime | None:
    """Return a time; without a zone it is UTC. None if it is not given."""
    if not (text := query.get(name, "")):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(422, f"{name}: {text!r} is not a time such as 2026-04-01T12:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def switch(query: Mapping[str, str], name: str) -> bool:
    """Return whether something is wanted; not if it is not given."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Problem(422, f"{name}: {text!r} is neither true nor false")
    return text == "true"


def whole(query: Mapping[str, str], name: str, lowest: int, highest: int) -> int | None:
    """Return a whole number; None if it is not given."""
    if not (text := query.get(name, "")):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and lowest <= int(text) <= highest):
        raise Problem(422, f"{name}: {text!r} is not a number from {lowest} to {highest}")
    return int(text)
