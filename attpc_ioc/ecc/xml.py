"""Hardened XML parsing and the showing of what was received, for everything that comes from a server."""

from __future__ import annotations

from typing import Any

from lxml import etree as _etree  # pyright: ignore[reportAttributeAccessIssue]

etree: Any = _etree
"""lxml's; it brings no type information, so that elements are `Any` here."""

SHOWN_CHARACTERS = 200
"""How much of something that was received is shown in an error."""

__all__ = ["SHOWN_CHARACTERS", "etree", "hardened_parser", "shortened"]


def hardened_parser(encoding: str | None = None) -> Any:
    """Return a new parser that resolves no entity, fetches nothing and takes long text nodes.

    `encoding` overrides what the document declares. One parser for each document: it keeps the errors of the
    last one.
    """
    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )


def shortened(received: str | bytes) -> str:
    """Return `received` in quotes on one line, cut after `SHOWN_CHARACTERS`."""
    if isinstance(received, bytes):
        received = received[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")
    text = " ".join(received[: 4 * SHOWN_CHARACTERS].split())
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
