"""Hardened parsing of XML from servers, and display of received text."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree as _etree  # pyright: ignore[reportAttributeAccessIssue]

etree: Any = _etree
"""lxml has no type information: elements are `Any` here."""

SHOWN_CHARACTERS = 200
"""Characters of a received text that an error shows."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MAX_TAGS = 40_000
MAX_QUOTES = 60_000
MAX_REFERENCES = 40_000
"""An element or attribute takes up to fifty times its bytes in memory, and mending a megabyte of references
such as `&#1;` takes 0.2 s. A list of 4000 configurations has 32 000 tags and 24 000 quotes; Configure's reply
has fewer than twenty tags, and some ten thousand quotes in its text."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, and the control characters 0x7f to 0x9f that it does allow."""
_REFERENCE = re.compile("&#(?:x[0-9a-fA-F]+|[0-9]+);")
_NO_UTF8 = re.compile("[\udc80-\udcff]+")

__all__ = ["SHOWN_CHARACTERS", "Bomb", "etree", "hardened_parser", "mended", "parse", "shortened"]


class Bomb(Exception):
    """A document that no ECC server sends and that would take too much memory or time to parse."""


def hardened_parser() -> Any:
    """Return a new parser that reads UTF-8, whatever the document declares.

    It resolves no entities, fetches nothing and reads at most 256 levels of elements. Each document needs its
    own parser: a parser keeps the errors of its last document.
    """
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def parse(data: bytes) -> Any:
    """Return the root element of `data`, parsed as it is or, if that fails, after `mended`.

    Raises the `etree.XMLSyntaxError` of the first attempt, and `Bomb`.
    """
    if data.count(b"<") > MAX_TAGS:
        raise Bomb(f"more than {MAX_TAGS} tags")
    if data.count(b'"') + data.count(b"'") > MAX_QUOTES:
        raise Bomb(f"more than {MAX_QUOTES} quotes")
    if data.count(b"&#") > MAX_REFERENCES:
        raise Bomb(f"more than {MAX_REFERENCES} character references")
    try:
        root = etree.fromstring(data, hardened_parser())
    except etree.XMLSyntaxError as error:
        try:
            root = etree.fromstring(mended(data).encode(), hardened_parser())
        except etree.XMLSyntaxError:
            raise error from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Bomb("a DTD")
    return root


def mended(data: bytes) -> str:
    """Return `data` with each byte that is not UTF-8 read as Latin-1 and each control character replaced.

    References such as `&#x1;` are replaced too. Operators' files and file names contain such bytes, and the
    rest of the text is still needed.
    """
    text = _NO_UTF8.sub(_as_latin1, data.decode("utf-8", "surrogateescape"))
    # Functions rather than constants, so that the event loop can run between two calls.
    return _REFERENCE.sub(_allowed_reference, _FORBIDDEN.sub(lambda _: REPLACEMENT, text))


def _as_latin1(match: re.Match[str]) -> str:
    return match[0].encode("utf-8", "surrogateescape").decode("latin-1")


def _allowed_reference(match: re.Match[str]) -> str:
    digits = match[0][2:-1]
    number = int(digits[1:], 16) if digits[0] == "x" else int(digits) if len(digits) < 10 else 0
    allowed = number <= 0x10FFFF and not _FORBIDDEN.match(chr(number))
    return match[0] if allowed else REPLACEMENT


def shortened(received: str | bytes) -> str:
    """Return `received` quoted on one line, cut after `SHOWN_CHARACTERS`."""
    if isinstance(received, bytes):
        received = received[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")
    text = " ".join(received[: 4 * SHOWN_CHARACTERS].split())
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")
