"""Defaults derived from what a server drives: names of sources and describe names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attpc_ioc.model.describe_rule import EXPERIMENT
from attpc_ioc.model.states import Kind

_SENDER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\[([A-Za-z0-9_-]+)\]")


def sender_parts(sender_id: str) -> tuple[str, str] | None:
    """Return board and instance of a sender id (`CoBo` and `0` for `CoBo[0]`), or None for any other text."""
    match = _SENDER.fullmatch(sender_id)
    return (match[1], match[2]) if match else None


def default_source_name(sender_id: str) -> str:
    """Return a source's part of the PV name: `CoBo0` for `CoBo[0]`, `MuTAnT` for `Mutant[master]`."""
    parts = sender_parts(sender_id)
    if parts is None:
        return sender_id
    board, instance = parts
    if board.lower() == "mutant":
        return "MuTAnT" if instance.lower() == "master" else f"MuTAnT{instance}"
    return f"{board}{instance}"


def default_describe(kind: Kind, sender_ids: Sequence[str]) -> str | None:
    """Return the describe name by the AT-TPC's convention, or None if there is no default.

    A CoBo's is `cobo<i>`, the MuTAnT's is the experiment's name; any other server needs the setting.
    """
    if kind is Kind.MUTANT:
        return EXPERIMENT
    if kind is Kind.COBO and len(sender_ids) == 1:
        parts = sender_parts(sender_ids[0])
        if parts and parts[0].lower() == "cobo" and parts[1].isdecimal():
            return f"cobo{int(parts[1])}"
    return None
