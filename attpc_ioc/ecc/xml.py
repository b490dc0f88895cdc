"""Hardened XML parsing and the showing of what was received, for everything that comes from a server."""

from __future__ import annotations

import codecs
import re
from typing import Any

from lxml import etree as _etree  # pyright: ignore[reportAttributeAccessIssue]

etree: Any = _etree
"""lxml's; it brings no type information, so that elements are `Any` here."""

SHOWN_CHARACTERS = 200
"""How much of something that was received is shown in an error."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_LATIN1 = "attpc_ioc.latin1"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow, and control characters that it does allow: 0x7f to 0x9f."""
_REFERENCE = re.compile("&#(?:x([0-9a-fA-F]+)|([0-9]+));")

__all__ = ["SHOWN_CHARACTERS", "etree", "hardened_parser", "mended", "parse", "shortened"]


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


def parse(data: bytes, encoding: str | None = None) -> Any:
    """Return the root element of `data`, read as it is or, where that is no XML, as `mended` makes it.

    Raises `etree.XMLSyntaxError`, the one of the first reading.
    """
    try:
        return etree.fromstring(data, hardened_parser(encoding))
    except etree.XMLSyntaxError as error:
        try:
            return etree.fromstring(mended(data).encode(), hardened_parser("utf-8"))
        except etree.XMLSyntaxError:
            raise error from None


def mended(data: bytes) -> str:
    """Return `data` with each byte that is no UTF-8 read as Latin-1 and each control character replaced.

    References such as `&#x1;` are replaced too. Operators' files and their names hold such bytes, and what
    stands around them still counts.
    """
    text = _FORBIDDEN.sub(REPLACEMENT, data.decode("utf-8", _LATIN1))
    return _REFERENCE.sub(_allowed_reference, text)


def _allowed_reference(match: re.Match[str]) -> str:
    number = int(match[1], 16) if match[1] else int(match[2])
    allowed = number <= 0x10FFFF and not _FORBIDDEN.match(chr(number))
    return match[0] if allowed else REPLACEMENT


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN1, _as_latin1)


def shortened(received: str | bytes) -> str:
    """Return `received` in quotes on one line, cut after `SHOWN_CHARACTERS`."""
    if isinstance(received, bytes):
        received = received[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")
    text = " ".join(received[: 4 * SHOWN_CHARACTERS].split())
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
