"""SOAP envelopes: zeep makes requests from the project's WSDL, a strict lxml reader reads replies.

zeep's binding could read the replies too, but it accepts another operation's wrapper, and for an `ErrorCode`
that is not a number it returns None and logs a traceback.

zeep is imported with the first request: its import is the slowest step of the start-up, and Channel Access
need not wait for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import unescape
from importlib import resources
from typing import TYPE_CHECKING, Any

from attpc_ioc.errors import EccBrokenReply, EccBusy, EccRefused
from attpc_ioc.model import outside
from attpc_ioc.model.states import WIRE_STATES, State, Transition

from .http1 import HttpReply
from .xml import Bomb, etree, mended, parse, shortened

if TYPE_CHECKING:
    import zeep

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_ENVELOPE, _BODY, _FAULT = f"{{{_SOAP}}}Envelope", f"{{{_SOAP}}}Body", f"{{{_SOAP}}}Fault"
_RESPONSE_STATE, _RESPONSE_TEXT = "{urn:ecc}ResponseState", "{urn:ecc}ResponseText"


_CLOSED = r"\s*</[\w.-]+:{0}\s*>\s*</[\w.-]+:Body\s*>\s*</[\w.-]+:Envelope\s*>"


def _field(name: str) -> str:
    return rf"(?:<{name}\s*/>|<{name}>(?P<{name}>[^<>]*)</{name}>)"


def _around(wrapper: str, rest: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns for the parts before and after the texts, in the server's order."""
    begin = rf"<[\w.-]+:{wrapper}\b[^<>]*>\s*{_field('ErrorCode')}\s*<ErrorMessage(?P<empty>\s*/)?>"
    return re.compile(begin), re.compile(rest + _CLOSED.format(wrapper))


_AROUND = {
    _RESPONSE_STATE: _around("ResponseState", rf"{_field('State')}\s*{_field('Transition')}"),
    _RESPONSE_TEXT: _around("ResponseText", r"(?:(?P<empty><Text\s*/>)|</Text>)"),
}
_MESSAGE_ENDS = re.compile(r"</ErrorMessage>\s*\Z")
_TEXT_BEGINS = re.compile(r"</ErrorMessage>\s*<Text>")

_INTEGER = re.compile(r"[ \t\r\n]*([+-]?[0-9]{1,10})[ \t\r\n]*")
_BUSY = "state machine is busy"
_WIRE = frozenset(WIRE_STATES)
_TRANSITIONS = frozenset(Transition)

HEADERS = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""', "Connection": "close"}
"""Headers of every request; the server ignores the first two, and always closes the connection."""


class _NoNetwork:
    """zeep's loader of imported documents: the WSDL has no imports, and nothing may be fetched."""

    def load(self, url: str) -> bytes:
        raise OSError(f"the WSDL of the ECC server must not need {url}")


@cache
def zeep_client() -> zeep.Client:
    """Return zeep's client of the project's WSDL, shared by all servers: it has no connection."""
    import zeep
    from zeep.wsdl import Document

    settings = zeep.Settings()
    settings.forbid_dtd = settings.forbid_entities = settings.forbid_external = True
    settings.force_https = False
    with resources.files("attpc_ioc.ecc").joinpath("ecc.wsdl").open("rb") as file:
        document = Document(file, _NoNetwork(), settings=settings)  # pyright: ignore[reportArgumentType]
    return zeep.Client(document, transport=_NoNetwork(), settings=settings)


def request_bytes(operation: str, **parameters: str) -> bytes:
    """Return the envelope that calls `operation`, encoded as UTF-8 with an XML declaration."""
    client = zeep_client()
    envelope: Any = client.create_message(client.service, operation, **parameters)
    return etree.tostring(envelope, encoding="UTF-8", xml_declaration=True)


@dataclass(frozen=True, slots=True)
class StateReply:
    """A reply to `GetState` with code 0; `message` is information, for instance that the server is busy."""

    state: State
    transition: Transition
    message: str


@dataclass(frozen=True, slots=True)
class TextReply:
    """A reply to any other operation with code 0."""

    code: int
    message: str
    text: str


def read_state(reply: HttpReply, where: str) -> StateReply:
    """Read the reply to `GetState`; `where` names call and server in errors.

    Raises `EccBrokenReply` for anything but a complete reply with known numbers, and `EccRefused` or
    `EccBusy` for a code other than 0.
    """
    fields = _fields(reply, _RESPONSE_STATE, where)
    message = _raise_for_code(fields, where)
    state = _integer(fields, "State", where)
    transition = _integer(fields, "Transition", where)
    if state not in _WIRE:
        raise EccBrokenReply(f"{where}: no such state as {state}")
    if transition not in _TRANSITIONS:
        raise EccBrokenReply(f"{where}: no such transition as {transition}")
    return StateReply(State(state), Transition(transition), message)


def read_text(reply: HttpReply, where: str) -> TextReply:
    """Read the reply to any operation that answers with text; raises as `read_state` does."""
    fields = _fields(reply, _RESPONSE_TEXT, where)
    message = _raise_for_code(fields, where)
    return TextReply(0, message, fields.get("Text", ""))


def _fields(reply: HttpReply, wrapper: str, where: str) -> dict[str, str]:
    if not reply.body:
        if reply.status == 200:
            raise EccBrokenReply(f"{where}: an empty reply")
        raise EccBrokenReply(f"{where}: HTTP {reply.status} {reply.reason}".rstrip())
    try:
        root = parse(reply.body)
    except Bomb as error:
        raise EccBrokenReply(f"{where}: a reply with {error}: {shortened(reply.body)}") from error
    except etree.XMLSyntaxError as error:
        if reply.status != 200:
            raise _wrong_status(reply, where) from error
        if fields := _salvaged(reply.body, wrapper):
            return fields
        raise EccBrokenReply(f"{where}: not XML ({error.msg}): {shortened(reply.body)}") from error
    body = root.find(_BODY) if root.tag == _ENVELOPE else None
    if body is None or len(body) == 0:
        if reply.status != 200:
            raise _wrong_status(reply, where)
        raise EccBrokenReply(f"{where}: no SOAP reply: {shortened(reply.body)}")
    element = body[0]
    if element.tag == _FAULT:
        raise EccBrokenReply(f"{where}: SOAP fault: {_fault_text(element)}")
    if reply.status != 200:
        raise _wrong_status(reply, where)
    if element.tag != wrapper:
        raise EccBrokenReply(f"{where}: another call's reply: {shortened(etree.tostring(element))}")
    return {child.tag: child.text or "" for child in element.iterchildren()}


def _salvaged(body: bytes, wrapper: str) -> dict[str, str]:
    """Return the fields of a complete reply whose texts make it invalid XML; empty for anything else.

    Code, state and transition are outside the texts, and commands depend on them.
    """
    before, after = _AROUND[wrapper]
    text = mended(body)
    begin = before.search(text)
    end = _last(after, text[begin.end() :]) if begin else None
    if begin is None or end is None:
        return {}
    fields = begin.groupdict() | end.groupdict()
    # Adding the end tag that an empty message lacks lets one pattern find where the texts meet.
    middle = ("</ErrorMessage>" if begin["empty"] else "") + text[begin.end() :][: end.start()]
    bare = wrapper == _RESPONSE_STATE or end["empty"]
    border = _last(_MESSAGE_ENDS if bare else _TEXT_BEGINS, middle)
    if border is None:
        return {}
    fields |= {"ErrorMessage": middle[: border.start()], "Text": middle[border.end() :]}
    return {name: unescape(value) for name, value in fields.items() if value is not None}


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match; each pattern begins with a tag and spans few tags, so this takes linear time."""
    match = None
    for match in pattern.finditer(text):  # noqa: B007 - the last one is what is wanted
        pass
    return match


def _wrong_status(reply: HttpReply, where: str) -> EccBrokenReply:
    return EccBrokenReply(f"{where}: HTTP {reply.status} {reply.reason}: {shortened(reply.body)}")


def _fault_text(fault: Any) -> str:
    text = " ".join((fault.findtext("faultstring") or "").split())
    return outside.cut(text) or shortened(etree.tostring(fault))


def _integer(fields: dict[str, str], name: str, where: str) -> int:
    text = fields.get(name)
    if text is None:
        raise EccBrokenReply(f"{where}: a reply without {name}")
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise EccBrokenReply(f"{where}: {name} is not a number: {shortened(text)}")
    return int(match[1])


def _raise_for_code(fields: dict[str, str], where: str) -> str:
    """Return the server's message, or raise unless its code is 0."""
    try:
        # `xs:int` in the WSDL, 32 bits as in the record; the 2021 server sends 0 to 9.
        code = outside.count(_integer(fields, "ErrorCode", where), outside.MOST_SHOWN)
    except ValueError as error:
        raise EccBrokenReply(f"{where}: ErrorCode is wrong: {error}") from error
    # It may have several lines; it was made printable with the document.
    message = outside.cut(fields.get("ErrorMessage", "").strip())
    if code == 0:
        return message
    if _BUSY in message:
        raise EccBusy(code, message)
    raise EccRefused(code, message)
