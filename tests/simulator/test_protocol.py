"""Every line of the protocol that is about what a server answers, in its order: one entry a line.

Connections, boards and faults have their own files; what those lines promise of a reply is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.client import exchange, post
from attpc_ioc.simulator.documents import escape
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import request_body
from tests.support.simfleet import take_up, wait_until

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
STATE = request_body("GetState")
CRASH, WAIT = "the server crashes", "no reply"


@dataclass(frozen=True)
class Line:
    """What the protocol says; a request as bytes, or an operation with its `configID`, and what comes back.

    `has` and `lacks` are parts of the reply; `CRASH`, `WAIT` and "" (zero bytes) stand for no reply. The
    server `cobo0` begins in `start`, after `first` was done to the fleet, and ends in `end`.
    """

    says: str
    send: bytes | str
    has: str
    lacks: str = "\0"
    config: str = '<SubConfigId type="describe">cobo0</SubConfigId>'
    start: State = State.IDLE
    end: State | None = None
    first: Callable[[SimulatedFleet], None] | None = None


def http(head: str, body: bytes = STATE) -> bytes:
    return f"{head}\r\n\r\n".encode() + body


def soap(inner: str, head: str = "") -> bytes:
    return post(f'<s:Envelope xmlns:s="{SOAP}">{head}<s:Body>{inner}</s:Body></s:Envelope>'.encode())


def sub(part: str, name: str) -> str:
    return f'<SubConfigId type="{part}">{name}</SubConfigId>'


def vanish(name: str) -> Callable[[SimulatedFleet], None]:
    return lambda fleet: (fleet.xcfg.path / name).unlink()


def odd(fleet: SimulatedFleet) -> None:
    file = fleet.xcfg.path / "configure-e20009.xcfg"
    file.write_bytes(file.read_bytes().replace(b"</Setup>", b"<!-- \xe9 -->\x01</Setup>"))


OK, CODE = "<ErrorCode>0</ErrorCode>", "<ErrorCode>{}</ErrorCode>"
D, P, C = sub("describe", "cobo0"), sub("prepare", "e20009"), sub("configure", "e20009")
FAULT = "<faultcode>SOAP-ENV:Client</faultcode>"
UNKNOWN = "not implemented: method name or namespace not recognized"
IDLE, DESCRIBED, PREPARED, READY, RUNNING = (State(n) for n in range(1, 6))

LINES = [
    # HTTP
    Line("path, SOAPAction and Content-Type are ignored", http("POST /x HTTP/1.1\r\nSOAPAction: y"), OK),
    Line("GET gives 405", http("GET / HTTP/1.1", b""), "HTTP/1.1 405 "),
    Line("it always closes", post(STATE, "Connection: keep-alive\r\n"), "\r\nConnection: close\r\n"),
    Line("a pipelined second request is dropped", post(STATE) * 2, OK, "Envelope>\r\nHTTP"),
    Line("every reply has X-Frame-Options", post(STATE), "\r\nX-Frame-Options: SAMEORIGIN\r\n"),
    Line("bodies end in CR LF", post(STATE), "</SOAP-ENV:Envelope>\r\n"),
    Line("HEAD gives 200", http("HEAD / HTTP/1.1", b""), "HTTP/1.1 200 "),
    Line("OPTIONS gives 200", http("OPTIONS / HTTP/1.1", b""), "HTTP/1.1 200 "),
    Line("PUT gives 405 and its name", http("PUT / HTTP/1.1", b""), "HTTP PUT method", "Allow:"),
    Line("DELETE gives 405 and its name", http("DELETE / HTTP/1.1", b""), "HTTP DELETE method", "Allow:"),
    Line("not XML: zero bytes", post(b"hello"), ""),
    Line("no end of the envelope: no reply", post(STATE.replace(b"</soap:Envelope>", b"")), WAIT),
    Line("a garbage request line waits", b"hello\r\n\r\n", WAIT),
    Line("XML without a head is answered", STATE, OK),
    Line("a wrong Content-Length is answered", http("POST / HTTP/1.1\r\nContent-Length: 5"), OK),
    Line("unknown operation", soap('<e:Nope xmlns:e="urn:ecc"/>'), f"Method 'e:Nope' {UNKNOWN}"),
    Line("unknown namespace", soap('<e:GetState xmlns:e="urn:x"/>'), f"Method 'e:GetState' {UNKNOWN}"),
    Line("an unbound prefix", soap("<e:GetState/>"), f"Method 'e:GetState' {UNKNOWN}"),
    Line("an empty Body", soap(""), UNKNOWN),
    Line("an empty HTTP body", post(b""), "Data required for operation"),
    Line("no Body element", post(f'<s:Envelope xmlns:s="{SOAP}"/>'.encode()), "element tag expected"),
    Line("faults are HTTP 500", soap(""), "HTTP/1.1 500 "),
    Line("faults are the client's", soap(""), FAULT),
    Line(
        "an unknown mustUnderstand header",
        soap('<e:GetState xmlns:e="urn:ecc"/>', '<s:Header><k s:mustUnderstand="1"/></s:Header>'),
        "SOAP-ENV:MustUnderstand",
    ),
    Line(
        "SOAP 1.2 is answered in SOAP 1.2",
        post(STATE.replace(SOAP.encode(), b"http://www.w3.org/2003/05/soap-envelope")),
        'xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope"',
    ),
    # Messages
    Line("any prefix", soap('<zz:GetState xmlns:zz="urn:ecc"/>'), OK),
    Line(
        "a prefixed parameter arrives empty",
        soap(f'<e:Describe xmlns:e="urn:ecc"><e:configID>{escape(D)}</e:configID></e:Describe>'),
        CODE.format(1),
    ),
    Line(
        "GetState",
        "GetState",
        "<ErrorMessage/><State>1</State><Transition>0</Transition></ecc:ResponseState>",
    ),
    Line("GetConfigIDs", "GetConfigIDs", "&lt;ConfigIdSet&gt;\n\t&lt;ConfigId&gt;"),
    Line("Special", "Special", "</ecc:ResponseText>"),
    Line("ServerExit", "ServerExit", "<ecc:Response><ErrorCode>0</ErrorCode><ErrorMessage/></ecc:Response>"),
    Line("absent parameters count as empty", soap('<e:Start xmlns:e="urn:ecc"/>'), OK),
    Line("Configure: the links", "Configure", "&lt;DataLinkSet&gt;", config=C, start=PREPARED),
    Line(
        "Configure: a newline", "Configure", "&lt;/DataLinkSet&gt;\n&lt;ConfigSet", config=C, start=PREPARED
    ),
    Line(
        "Configure: the files",
        "Configure",
        'subConfigType="prepare" subConfigId="e2',
        config=C,
        start=PREPARED,
    ),
    # States and transitions
    Line("Describe 1 to 2", "Describe", OK, end=DESCRIBED),
    Line("Prepare 2 to 3", "Prepare", OK, config=P, start=DESCRIBED, end=PREPARED),
    Line("Configure 3 to 4", "Configure", OK, config=C, start=PREPARED, end=READY),
    Line("Start 4 to 5", "Start", OK, start=READY, end=RUNNING),
    Line("Stop 5 to 4", "Stop", OK, start=RUNNING, end=READY),
    Line("Pause 5 to 6", "Pause", OK, start=RUNNING, end=State.PAUSED),
    Line("Breakup 4 to 3", "Breakup", OK, start=READY, end=PREPARED),
    Line("Breakup 5 to 3", "Breakup", OK, start=RUNNING, end=PREPARED),
    Line("Undo 2 to 1", "Undo", OK, start=DESCRIBED, end=IDLE),
    Line("Undo 3 to 2", "Undo", OK, start=PREPARED, end=DESCRIBED),
    Line("the wrong state: 0 and nothing done", "Start", OK, start=PREPARED, end=PREPARED),
    Line(
        "the configure file has vanished",
        "Configure",
        f"{CODE.format(3)}<ErrorMessage>Exception: Configuration 'e20009' does not exist.</ErrorMessage>",
        config=C,
        start=PREPARED,
        first=vanish("configure-e20009.xcfg"),
        end=PREPARED,
    ),
    Line(
        "another file of the reply has vanished",
        "Configure",
        f"{CODE.format(3)}<ErrorMessage>Configuration 'cobo0' does not exist.</ErrorMessage>",
        config=C,
        start=PREPARED,
        first=vanish("describe-cobo0.xcfg"),
        end=READY,
    ),
    Line(
        "Configure in Ready tells what is loaded",
        "Configure",
        'subConfigType="configure" subConfigId="e20009"',
        "pulser",
        config=sub("configure", "pulser"),
        start=READY,
        end=READY,
    ),
    # configID
    Line("white space is trimmed", "Describe", OK, config=sub("describe", "\n cobo0\t"), end=DESCRIBED),
    Line("the first of two wins", "Describe", OK, config=D + sub("describe", "nope"), end=DESCRIBED),
    Line("extra elements and comments", "Describe", OK, config=f"<!-- x --><y/>{D}", end=DESCRIBED),
    Line("only its own sub-id is needed", "Prepare", OK, config=P, start=DESCRIBED, end=PREPARED),
    Line(
        "a wholly empty configID",
        "Describe",
        CODE.format(1)
        + "<ErrorMessage>Configuration identifier '&lt;ConfigId&gt;&lt;/ConfigId&gt;' is not valid.",
        config="",
        end=IDLE,
    ),
    Line(
        "unescaped XML in configID",
        soap(f'<e:Describe xmlns:e="urn:ecc"><configID><ConfigId>{D}</ConfigId></configID></e:Describe>'),
        OK,
        end=DESCRIBED,
    ),
    Line("an empty sub-id", "Describe", CRASH, config=sub("describe", "")),
    Line("a blank sub-id", "Describe", CRASH, config=sub("describe", " ")),
    Line("a sub-id without a type", "Describe", CRASH, config="<SubConfigId>cobo0</SubConfigId>"),
    Line("a sub-id of another type", "Describe", CRASH, config=sub("Describe", "cobo0")),
    # Messages that an operator will see
    Line(
        "a name that does not exist",
        "Describe",
        "Exception: Configuration 'nope' does not exist.",
        config=sub("describe", "nope"),
    ),
    Line(
        "an unknown Special command",
        "Special",
        f"{CODE.format(1)}<ErrorMessage>Special command '' is unknown.",
    ),
    Line("bytes of files as they are", "Configure", "\udce9 --&gt;\x01", config=C, start=PREPARED, first=odd),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.says)
async def test_a_line_of_the_protocol(line: Line) -> None:
    async with SimulatedFleet(1, False, durations=INSTANT) as fleet:
        server = fleet["cobo0"]
        await take_up(fleet, line.start, "cobo0")
        if line.first is not None:
            line.first(fleet)
        data = line.send
        if isinstance(data, str):
            links = "".join(link.to_xml() for link in fleet.links("cobo0"))
            body = request_body(
                data, f"<ConfigId>{line.config}</ConfigId>", f"<DataLinkSet>{links}</DataLinkSet>"
            )
            data = post(body)
        if line.has == WAIT:
            with pytest.raises(TimeoutError):
                await exchange(server.host, server.port, data, 0.3)
        elif line.has == CRASH:
            with suppress(ConnectionError):
                assert not await exchange(server.host, server.port, data)
            await wait_until(lambda: not server.alive)
        else:
            reply = (await exchange(server.host, server.port, data)).decode("utf-8", "surrogateescape")
            assert line.has in reply if line.has else not reply
            assert line.lacks not in reply
        if line.end is not None:
            assert server.state is line.end
