"""SOAP requests and replies as bytes, as the ECC server writes them (gSOAP 2.8, document/literal)."""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from .documents import escape

ECC = "urn:ecc"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"

TRANSITIONS = ("Describe", "Prepare", "Configure", "Start", "Stop", "Pause", "Resume", "Breakup", "Undo")
OPERATIONS = ("GetState", "GetConfigIDs", *TRANSITIONS, "Special", "ServerExit")
_CALLS = {f"{{{ECC}}}{operation}" for operation in OPERATIONS}
_PARAMETERS = ("configID", "table", "command")

_OPEN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP}" xmlns:SOAP-ENC="http://schemas.xmlsoap.org/soap/encoding/" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    f'xmlns:ecc="{ECC}"><SOAP-ENV:Body>'
)
_OPEN12 = _OPEN.replace(SOAP, SOAP12).replace(
    "http://schemas.xmlsoap.org/soap/encoding/", "http://www.w3.org/2003/05/soap-encoding"
)
_CLOSE = "</SOAP-ENV:Body></SOAP-ENV:Envelope>"


class NotSoap(Exception):
    """The body is not XML or has no SOAP envelope: the ECC server closes without a reply."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call as the ECC server understands it; missing parameters are empty.

    `fault` is the text of the SOAP fault that answers a body that is not a call, and `fault_code` its kind.
    """

    operation: str = ""
    fault: str = ""
    fault_code: str = "Client"
    soap12: bool = False
    config_id: str = ""
    table: str = ""
    command: str = ""


def parse_request(body: bytes) -> Request:
    """Read the envelope in `body`; raises `NotSoap`."""
    if not body.strip():
        return Request(fault="Data required for operation")
    root = _read_xml(body.strip())
    name = etree.QName(root)
    if name.localname != "Envelope" or name.namespace not in (SOAP, SOAP12):
        raise NotSoap(f"the root element is {root.tag}")
    soap12 = name.namespace == SOAP12
    for header in root.iterfind(f"{{{name.namespace}}}Header/*"):
        if header.get(f"{{{name.namespace}}}mustUnderstand") in ("1", "true"):
            fault = f"The data in element '{_tag(header)}' must be understood but cannot be processed"
            return Request(fault=fault, fault_code="MustUnderstand", soap12=soap12)
    soap_body = root.find(f"{{{name.namespace}}}Body")
    if soap_body is None:
        return Request(fault="Validation constraint violation: element tag expected", soap12=soap12)
    call = next(soap_body.iterchildren("*"), None)
    if call is None or call.tag not in _CALLS:
        tag = _tag(soap_body if call is None else call)
        fault = f"Method '{tag}' not implemented: method name or namespace not recognized"
        return Request(fault=fault, soap12=soap12)
    return _read_call(call, soap12)


def _read_xml(body: bytes) -> etree._Element:
    """Return the root element; an unbound prefix is part of the name. Raises `NotSoap`."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        return etree.fromstring(body, parser)
    except etree.XMLSyntaxError as fault:
        if any(entry.domain_name != "NAMESPACE" for entry in parser.error_log):
            raise NotSoap(str(fault)) from fault
    except ValueError as fault:
        raise NotSoap(str(fault)) from fault
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, recover=True)
    return etree.fromstring(body, parser)


def _tag(element: etree._Element) -> str:
    """Return the name of an element as written, including its prefix."""
    name = str(element.tag).rpartition("}")[2]
    return f"{element.prefix}:{name}" if element.prefix else name


def _inside(element: etree._Element) -> str:
    """Return the text of a parameter; unescaped XML is text too."""
    children = "".join(etree.tostring(child, encoding="unicode") for child in element)
    return (element.text or "") + children


def _read_call(call: etree._Element, soap12: bool) -> Request:
    values: dict[str, str] = {}
    for child in call.iterchildren("*"):
        # A prefixed parameter is not recognised, whatever its prefix is bound to: gSOAP expects the bare
        # name.
        local = etree.QName(child).localname
        if child.prefix is None and local in _PARAMETERS:
            values.setdefault(local, _inside(child))
    return Request(
        etree.QName(call).localname,
        soap12=soap12,
        config_id=values.get("configID", ""),
        table=values.get("table", ""),
        command=values.get("command", ""),
    )


class Replies:
    """Makes the replies, including the head. With `old_gsoap` an empty element has an end tag.

    A SOAP 1.2 request gets a SOAP 1.2 reply. Surrogates in texts stand for bytes that are not UTF-8.
    """

    def __init__(self, *, old_gsoap: bool = False, soap12: bool = False) -> None:
        self._old = old_gsoap
        self._soap12 = soap12
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
        body = f"<ecc:{wrapper}><ErrorCode>{code}</ErrorCode>{message}{inner}</ecc:{wrapper}>"
        return _http_reply("200 OK", body, self._soap12)


def _http_reply(status: str, inner: str, soap12: bool = False) -> bytes:
    """Return a whole HTTP reply with `inner` in an envelope; it always closes the connection."""
    opening, kind = (_OPEN12, "application/soap+xml") if soap12 else (_OPEN, "text/xml")
    content = f"{opening}{inner}{_CLOSE}\r\n".encode("utf-8", "surrogateescape")
    return _head(status, len(content), kind) + content


def _head(status: str, length: int, kind: str = "text/xml") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nServer: gSOAP/2.8\r\nX-Frame-Options: SAMEORIGIN\r\n"
        f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


def fault(text: str, code: str = "Client", soap12: bool = False) -> bytes:
    """Return a SOAP fault; `code` is the kind as SOAP 1.1 names it."""
    if soap12:
        code = {"Client": "Sender"}.get(code, code)
        inner = (
            f"<SOAP-ENV:Code><SOAP-ENV:Value>SOAP-ENV:{code}</SOAP-ENV:Value></SOAP-ENV:Code><SOAP-ENV:Reason>"
            f'<SOAP-ENV:Text xml:lang="en">{escape(text)}</SOAP-ENV:Text></SOAP-ENV:Reason>'
        )
    else:
        inner = f"<faultcode>SOAP-ENV:{code}</faultcode><faultstring>{escape(text)}</faultstring>"
    return _http_reply("500 Internal Server Error", f"<SOAP-ENV:Fault>{inner}</SOAP-ENV:Fault>", soap12)


def other_method(method: str) -> bytes:
    """Return the reply to a request that is not a POST."""
    if method in ("HEAD", "OPTIONS"):
        return _head("200 OK", 0)
    inner = (
        "<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode>"
        f"<faultstring>HTTP {escape(method)} method not implemented</faultstring></SOAP-ENV:Fault>"
    )
    return _http_reply("405 Method Not Allowed", inner)


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
