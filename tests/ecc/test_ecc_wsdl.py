"""The WSDL stands alone, and what is made from it is what the server takes."""

import subprocess
import sys
from types import SimpleNamespace

from attpc_ioc.ecc.http1 import HttpReply
from attpc_ioc.ecc.soap import read_state, read_text, request_bytes, zeep_client
from attpc_ioc.ecc.xml import etree
from tests.support.ecc_raw import envelope, state_xml, text_xml


def test_it_loads_where_no_socket_can_be_made():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was made')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from attpc_ioc.ecc.soap import request_bytes\n"
        "import sys\n"
        "assert b'GetState' in request_bytes('GetState')\n"
        "assert 'httpx' not in sys.modules\n"
        "print('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("loaded\n", 0), done.stderr


def test_it_imports_nothing():
    from importlib.resources import files

    root = etree.fromstring(files("attpc_ioc.ecc").joinpath("ecc.wsdl").read_bytes())
    tags = {etree.QName(e).localname for e in root.iter(etree.Element)}
    assert not tags & {"import", "include", "redefine"}
    assert "schemaLocation" not in etree.tostring(root).decode()


def test_parameters_are_unqualified_on_the_wire():
    sent = request_bytes("Configure", configID="<ConfigId/>", table="<DataLinkSet/>")
    assert b"<configID>&lt;ConfigId/&gt;</configID><table>&lt;DataLinkSet/&gt;</table>" in sent
    operation = etree.fromstring(sent)[0][0]
    assert operation.tag == "{urn:ecc}Configure"
    assert [child.tag for child in operation] == ["configID", "table"]


def test_every_operation_of_the_server_is_there():
    binding = zeep_client().service._binding
    assert sorted(binding.all()) == sorted(
        [
            "Breakup",
            "Configure",
            "Describe",
            "GetConfigIDs",
            "GetState",
            "Pause",
            "Prepare",
            "Resume",
            "ServerExit",
            "Special",
            "Start",
            "Stop",
            "Undo",
        ]
    )


def test_zeep_reads_the_same_as_our_reader():
    # The WSDL is for other people's clients too: it must describe the replies truly.
    client = zeep_client()
    binding = client.service._binding

    def by_zeep(operation: str, body: bytes):
        reply = SimpleNamespace(status_code=200, content=body, headers={}, encoding="utf-8")
        return binding.process_reply(client, binding.get(operation), reply)

    body = envelope(state_xml(4, 3, message="The ECC state machine is busy!"))
    ours, theirs = read_state(HttpReply(200, "OK", body), "here"), by_zeep("GetState", body)
    assert (ours.state, ours.transition, ours.message) == (
        theirs.State,
        theirs.Transition,
        theirs.ErrorMessage,
    )
    body = envelope(text_xml("&lt;a/&gt;"))
    ours, theirs = read_text(HttpReply(200, "OK", body), "here"), by_zeep("Describe", body)
    assert (ours.code, ours.text) == (theirs.ErrorCode, theirs.Text)
    assert theirs.ErrorMessage is None
    assert ours.message == ""
