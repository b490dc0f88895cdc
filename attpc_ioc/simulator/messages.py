"""SOAP requests and replies as bytes, in the ECC server's own hand (gSOAP 2.8, document/literal)."""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from .documents import escape

ECC = "urn:ecc"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"

TRANSITIONS = ("Describe", "Prepare", "Configure", "Start", "Stop", "Pause", "Resume", "Breakup", "Undo")
OPERATIONS = ("GetState", "GetConfigIDs", *TRANSITIONS, "Special", "ServerExit")
_PARAMETERS = ("configID", "table", "command")

_OPEN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP}" xmlns:SOAP-ENC="http://schemas.xmlsoap.org/soap/encoding/" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    f'xmlns:ecc="{ECC}"><SOAP-ENV:Body>'
)
_CLOSE = "</SOAP-ENV:Body></SOAP-ENV:Envelope>"


class NotSoap(Exception):
    """The body is no XML or has no SOAP envelope: the ECC server closes without a byte."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call as the ECC server understands it; parameters that did not arrive are empty.

    `tag` is the operation's element as it was written, prefix included; `known` tells whether there is such
    an operation in the namespace `urn:ecc`.
    """

    operation: str
    tag: str
    known: bool = True
    config_id: str = ""
    table: str = ""
    command: str = ""


def parse_request(body: bytes) -> Request:
    """Read the envelope in `body`; raises `NotSoap`."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(body.strip(), parser)
    except (etree.XMLSyntaxError, ValueError) as fault:
        raise NotSoap(str(fault)) from fault
    name = etree.QName(root)
    if name.localname != "Envelope" or name.namespace not in (SOAP, SOAP12):
        raise NotSoap(f"the root element is {root.tag}")
    soap_body = root.find(f"{{{name.namespace}}}Body")
    call = None if soap_body is None else next(soap_body.iterchildren("*"), None)
    if call is None:
        raise NotSoap("the envelope has no body with an operation in it")
    return _read_call(call)


def _read_call(call: etree._Element) -> Request:
    name = etree.QName(call)
    tag = f"{call.prefix}:{name.localname}" if call.prefix else name.localname
    if name.namespace != ECC or name.localname not in OPERATIONS:
        return Request(name.localname, tag, known=False)
    values: dict[str, str] = {}
    for child in call.iterchildren("*"):
        # A prefixed parameter is not recognised, whatever its prefix is bound to: gSOAP wants the bare name.
        local = etree.QName(child).localname
        if child.prefix is None and local in _PARAMETERS:
            values.setdefault(local, "".join(child.itertext()))
    return Request(
        name.localname,
        tag,
        config_id=values.get("configID", ""),
        table=values.get("table", ""),
        command=values.get("command", ""),
    )


class Replies:
    """Makes the replies, head included. With `old_gsoap` an empty element has an end tag."""

    def __init__(self, *, old_gsoap: bool = False) -> None:
        self._old = old_gsoap
        self._states: dict[tuple[int, str, int, int], bytes] = {}

    def state(self, code: int, message: str, state: int, transition: int) -> bytes:
        """Return a `ResponseState`."""
        key = (code, message, state, transition)
        if (known := self._states.get(key)) is not None:
            return known
        if len(self._states) > 1000:
            self._states.clear()
        inner = f"<State>{state}</State><Transition>{transition}</Transition>"
        made = self._states[key] = self._wrap("ResponseState", code, message, inner)
        return made

    def text(self, code: int, message: str, text: str) -> bytes:
        """Return a `ResponseText`."""
        return self._wrap("ResponseText", code, message, self._element("Text", text))

    def plain(self, code: int, message: str) -> bytes:
        """Return a `Response`."""
        return self._wrap("Response", code, message, "")

    def _element(self, name: str, text: str) -> str:
        return f"<{name}>{escape(text)}</{name}>" if text or self._old else f"<{name}/>"

    def _wrap(self, wrapper: str, code: int, message: str, inner: str) -> bytes:
        message = self._element("ErrorMessage", message)
        body = f"{_OPEN}<ecc:{wrapper}><ErrorCode>{code}</ErrorCode>{message}{inner}</ecc:{wrapper}>{_CLOSE}"
        return http_reply("200 OK", body)


def http_reply(status: str, body: str, extra: str = "") -> bytes:
    """Return a whole HTTP reply; it always closes the connection."""
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nServer: gSOAP/2.8\r\nContent-Type: text/xml; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode() + content


def _fault(text: str) -> str:
    return (
        f"{_OPEN}<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode>"
        f"<faultstring>{escape(text)}</faultstring></SOAP-ENV:Fault>{_CLOSE}"
    )


def not_implemented(tag: str) -> bytes:
    """Return the fault for an operation or a namespace that the server does not know."""
    text = f"Method '{tag}' not implemented: method name or namespace not recognized"
    return http_reply("500 Internal Server Error", _fault(text))


METHOD_NOT_ALLOWED = http_reply(
    "405 Method Not Allowed", _fault("HTTP GET method not implemented"), "Allow: POST\r\n"
)


def request_body(operation: str, config_id: str = "", table: str = "", command: str = "") -> bytes:
    """Return the envelope of a call, as a plain client would write it."""
    parameters = ""
    if operation in TRANSITIONS:
        parameters = f"<configID>{escape(config_id)}</configID><table>{escape(table)}</table>"
    elif operation == "Special":
        parameters = f"<command>{escape(command)}</command><table>{escape(table)}</table>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="{SOAP}"><soap:Body>'
        f'<ecc:{operation} xmlns:ecc="{ECC}">{parameters}</ecc:{operation}></soap:Body></soap:Envelope>'
    ).encode()
