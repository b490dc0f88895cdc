"""The sections Messages, configID and table of the protocol."""

from __future__ import annotations

import asyncio
from html import unescape

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.client import exchange, post
from attpc_ioc.simulator.documents import Link, config_id, escape, link_table, parse_table
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import request_body
from attpc_ioc.simulator.server import ServerOptions
from tests.support.simfleet import take_up, wait_until

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
COBO0 = escape(config_id("cobo0/e20009/e20009"))


async def send_call(fleet: SimulatedFleet, call: str) -> str:
    body = f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{call}</s:Body></s:Envelope>'.encode()
    return (await exchange(fleet["cobo0"].host, fleet["cobo0"].port, post(body))).decode()


@pytest.mark.parametrize(
    ("call", "arrives"),
    [
        (f'<e:Describe xmlns:e="urn:ecc"><configID>{COBO0}</configID><table/></e:Describe>', True),
        (f'<zz:Describe xmlns:zz="urn:ecc"><table/><configID>{COBO0}</configID></zz:Describe>', True),
        (f'<e:Describe xmlns:e="urn:ecc"><configID>{COBO0}</configID></e:Describe>', True),
        (f'<e:Describe xmlns:e="urn:ecc"><new>1</new><configID>{COBO0}</configID></e:Describe>', True),
        (f'<Describe xmlns="urn:ecc"><configID>{COBO0}</configID></Describe>', True),
        (f'<e:Describe xmlns:e="urn:ecc"><configID>{unescape(COBO0)}</configID></e:Describe>', True),
        (f'<e:Describe xmlns:e="urn:ecc"><e:configID>{COBO0}</e:configID></e:Describe>', False),
        ('<e:Describe xmlns:e="urn:ecc"/>', False),
    ],
    ids=[
        "usual",
        "other prefix and order",
        "absent",
        "unknown element",
        "default",
        "unescaped",
        "prefixed",
        "none",
    ],
)
async def test_which_parameters_arrive(fleet: SimulatedFleet, call: str, arrives: bool) -> None:
    reply = await send_call(fleet, call)
    assert ("<ErrorCode>0</ErrorCode>" in reply) is arrives
    assert ("<ErrorCode>1</ErrorCode>" in reply) is not arrives
    assert fleet["cobo0"].state is (State.DESCRIBED if arrives else State.IDLE)


@pytest.mark.parametrize(
    ("operation", "wrapper", "children"),
    [
        ("GetState", "ResponseState", ["ErrorCode", "ErrorMessage", "State", "Transition"]),
        ("GetConfigIDs", "ResponseText", ["ErrorCode", "ErrorMessage", "Text"]),
        ("Start", "ResponseText", ["ErrorCode", "ErrorMessage", "Text"]),
        ("Special", "ResponseText", ["ErrorCode", "ErrorMessage", "Text"]),
        ("ServerExit", "Response", ["ErrorCode", "ErrorMessage"]),
    ],
)
async def test_reply_wrappers(
    fleet: SimulatedFleet, operation: str, wrapper: str, children: list[str]
) -> None:
    reply = await send_call(fleet, f'<e:{operation} xmlns:e="urn:ecc"/>')
    inner = reply.partition(f"<ecc:{wrapper}>")[2].partition(f"</ecc:{wrapper}>")[0]
    positions = [inner.find(f"<{child}") for child in children]
    assert min(positions) == 0
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("old", "empty"), [(False, "<ErrorMessage/>"), (True, "<ErrorMessage></ErrorMessage>")]
)
async def test_empty_message(old: bool, empty: str) -> None:
    options = ServerOptions(old_gsoap=old)
    async with SimulatedFleet(1, False, durations=INSTANT, options=options) as fleet:
        assert empty in await send_call(fleet, '<e:GetState xmlns:e="urn:ecc"/>')


async def test_server_exit_ends_the_process(fleet: SimulatedFleet) -> None:
    assert (await fleet.call("cobo0", "ServerExit")).code == 0
    await wait_until(lambda: not fleet["cobo0"].alive)
    with pytest.raises(ConnectionRefusedError):
        await fleet.call("cobo0", "GetState")


async def test_no_special_command_is_known(fleet: SimulatedFleet) -> None:
    answer = await fleet.call("cobo0", "Special", command="nope")
    assert (answer.code, answer.message) == (1, "Special command 'nope' is unknown.")
    assert fleet.log[0].command == "nope"


# configID

CRASHING = [
    '<ConfigId><SubConfigId type="describe"></SubConfigId></ConfigId>',
    '<ConfigId><SubConfigId type="describe"/></ConfigId>',
    '<ConfigId><SubConfigId type="describe">  </SubConfigId></ConfigId>',
    "<ConfigId><SubConfigId>cobo0</SubConfigId></ConfigId>",
    '<ConfigId><SubConfigId type="Describe">cobo0</SubConfigId></ConfigId>',
    '<ConfigId><SubConfigId type="other">cobo0</SubConfigId></ConfigId>',
]


@pytest.mark.parametrize("document", CRASHING)
async def test_bad_sub_id_crashes_the_server(fleet: SimulatedFleet, document: str) -> None:
    with pytest.raises((ValueError, ConnectionError)):
        await fleet.call("cobo0", "Describe", config_id_xml=document)
    with pytest.raises(ConnectionRefusedError):
        await fleet.call("cobo0", "GetState")
    assert fleet.log[0].outcome == "crashed"
    fleet["cobo0"].revive()
    assert (await fleet.call("cobo0", "GetState")).state == State.IDLE


async def test_crashed_server_can_start_again_by_itself() -> None:
    options = ServerOptions(auto_restart_s=0.05)
    async with SimulatedFleet(1, False, durations=INSTANT, options=options) as fleet:
        with pytest.raises((ValueError, ConnectionError)):
            await fleet.call("cobo0", "Describe", config_id_xml=CRASHING[0])
        await wait_until(lambda: fleet["cobo0"].alive)
        assert (await fleet.call("cobo0", "Describe")).code == 0


@pytest.mark.parametrize(
    "document",
    [
        '<ConfigId><SubConfigId type="describe">\n  cobo0\t</SubConfigId></ConfigId>',
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ConfigId><SubConfigId type="describe">cobo0</SubConfigId></ConfigId>',
        '<ConfigId a="b"><!-- x --><More/><SubConfigId b="c" type="describe">cobo0</SubConfigId></ConfigId>',
        '<ConfigId><SubConfigId type="describe">cobo0</SubConfigId>'
        '<SubConfigId type="describe">nope</SubConfigId></ConfigId>',
    ],
    ids=["white space", "declaration", "extra things", "first of two"],
)
async def test_accepted_config_ids(fleet: SimulatedFleet, document: str) -> None:
    answer = await fleet.call("cobo0", "Describe", config_id_xml=document)
    assert (answer.code, fleet["cobo0"].state) == (0, State.DESCRIBED)
    assert fleet.log[0].ids.describe == "cobo0"


@pytest.mark.parametrize("document", ["", "<ConfigId/>", "<ConfigId></ConfigId>", "no XML", "<ConfigId>"])
async def test_empty_config_id_is_a_clean_failure(fleet: SimulatedFleet, document: str) -> None:
    answer = await fleet.call("cobo0", "Describe", config_id_xml=document)
    message = "Configuration identifier '<ConfigId></ConfigId>' is not valid."
    assert (answer.code, answer.message) == (1, message)
    assert fleet["cobo0"].state is State.IDLE


async def test_each_operation_needs_only_its_own_sub_id(fleet: SimulatedFleet) -> None:
    for operation, part, name in [
        ("Describe", "describe", "cobo0"),
        ("Prepare", "prepare", "e20009"),
        ("Configure", "configure", "pulser"),
    ]:
        document = f'<ConfigId><SubConfigId type="{part}">{name}</SubConfigId></ConfigId>'
        assert (await fleet.call("cobo0", operation, config_id_xml=document)).code == 0
    for operation in ("Start", "Stop", "Breakup", "Undo"):
        assert (await fleet.call("cobo0", operation, config_id_xml="")).code == 0
    assert fleet["cobo0"].state is State.DESCRIBED


async def test_get_config_ids(fleet: SimulatedFleet) -> None:
    (fleet.xcfg.path / "prepare-old.xcfg").write_text("<Setup/>")
    text = (await fleet.call("cobo0", "GetConfigIDs")).text or ""
    names = [
        (describe, configure)
        for describe in ("cobo0", "cobo1", "e20009", "pulser")
        for configure in ("e20009", "pulser")
    ]
    lines = [
        f'\t<ConfigId><SubConfigId type="describe">{d}</SubConfigId>'
        f'<SubConfigId type="prepare">{c}</SubConfigId>'
        f'<SubConfigId type="configure">{c}</SubConfigId></ConfigId>'
        for d, c in names
    ]
    assert text == "\n".join(["<ConfigIdSet>", *lines, "</ConfigIdSet>"])


async def test_config_files_are_looked_for_at_each_call(fleet: SimulatedFleet) -> None:
    (fleet.xcfg.path / "configure-new.xcfg").write_text(fleet.xcfg.text("configure", "pulser") or "")
    assert ">new<" in ((await fleet.call("cobo0", "GetConfigIDs")).text or "")


# table


async def test_configure_text_has_links_and_files(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.PREPARED, "cobo0")
    text = (await fleet.call("cobo0", "Configure")).text or ""
    assert 360_000 < len(text) < 380_000
    assert link_table(fleet.links("cobo0")) in text
    assert (fleet.xcfg.text("describe", "cobo0") or "nothing") in text
    assert (fleet.xcfg.text("configure", "e20009") or "nothing") in text


GOOD = Link("CoBo[0]", "data0", "127.0.0.1", 46005, "TCP")


@pytest.mark.parametrize(
    ("table", "links"),
    [
        (link_table((GOOD,)), (GOOD,)),
        ("", ()),
        ("<DataLinkSet>", ()),
        (link_table((GOOD,)).replace('port="46005"', 'port="x"'), ()),
        (link_table((GOOD,)).replace('port="46005"', 'port="70000"'), ()),
        (
            link_table((GOOD,)).replace("127.0.0.1", "host.local"),
            (Link("CoBo[0]", "data0", "255.255.255.255", 46005, "TCP"),),
        ),
    ],
    ids=["good", "none", "bad XML", "port no number", "port too large", "bad address"],
)
def test_reading_the_table(table: str, links: tuple[Link, ...]) -> None:
    assert parse_table(table) == links


@pytest.mark.parametrize("kind", ["TCP", "FDT", "ICE", "ZBUF"])
def test_types_of_links(kind: str) -> None:
    link = Link("CoBo[0]", "data0", "127.0.0.1", 46005, kind)
    assert parse_table(link_table((link,))) == (link,)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: "", "Could not find a valid data router for data sender 'CoBo[0]'"),
        (
            lambda t: t.replace("CoBo[0]", "CoBo[7]"),
            "Could not find a valid data router for data sender 'CoBo[0]'",
        ),
        (
            lambda t: t.replace("127.0.0.1", "nonsense"),
            "Could not connect data sender 'CoBo[0]' to its data router: Failed to connect to "
            "data router of type 'TCP': TCP connection to 255.255.255.255:PORT failed: "
            "Network is unreachable (errno=101).",
        ),
    ],
    ids=["no link", "another's link", "bad address"],
)
async def test_bad_table(fleet: SimulatedFleet, spoil, message: str) -> None:
    await take_up(fleet, State.PREPARED, "cobo0")
    answer = await fleet.call("cobo0", "Configure", table=spoil(link_table(fleet.links("cobo0"))))
    assert answer.code == 3
    assert answer.message == message.replace("PORT", str(fleet.routers["CoBo[0]"].port))
    assert fleet["cobo0"].state is State.PREPARED
    assert (await fleet.call("cobo0", "Configure")).code == 0


async def test_links_open_during_configure_and_close_at_breakup(fleet: SimulatedFleet) -> None:
    router = fleet.routers["CoBo[0]"]
    await take_up(fleet, State.PREPARED, "cobo0")
    assert router.connections == 0
    await fleet.call("cobo0", "Configure")
    await wait_until(lambda: router.connections == 1)
    await fleet.call("cobo0", "Breakup")
    await wait_until(lambda: router.connections == 0)


async def test_router_that_is_not_there(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.PREPARED, "cobo0")
    router = fleet.routers["CoBo[0]"]
    await router.stop()
    answer = await fleet.call("cobo0", "Configure")
    assert answer.code == 3
    assert answer.message == (
        "Could not connect data sender 'CoBo[0]' to its data router: Failed to connect to "
        f"data router of type 'TCP': TCP connection to 127.0.0.1:{router.port} failed: "
        "Connection refused (errno=111)."
    )
    await router.start()
    assert (await fleet.call("cobo0", "Configure")).code == 0


async def test_a_router_takes_one_connection_at_a_time(fleet: SimulatedFleet) -> None:
    router = fleet.routers["CoBo[0]"]
    _, writer = await asyncio.open_connection(router.host, router.port)
    with pytest.raises(ConnectionError):
        await exchange(router.host, router.port, b"data")
    writer.close()
    await wait_until(lambda: router.connections == 0)
    await take_up(fleet, State.READY, "cobo0")


async def test_configure_right_after_a_restart_of_the_server_can_fail_once(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.READY, "cobo0")
    router = fleet.routers["CoBo[0]"]
    router.release_s = 0.5
    fleet["cobo0"].restart()
    await take_up(fleet, State.PREPARED, "cobo0")
    answer = await fleet.call("cobo0", "Configure")
    assert (answer.code, fleet["cobo0"].state) == (3, State.PREPARED)
    assert answer.message.endswith(f"127.0.0.1:{router.port} failed: Connection refused (errno=111).")
    await wait_until(lambda: router.listening)
    assert (await fleet.call("cobo0", "Configure")).code == 0


@pytest.mark.parametrize(("taken", "first", "second"), [(1, 1, 0), (2, 1, 1)])
async def test_two_links_of_one_sender(taken: int, first: int, second: int) -> None:
    options = ServerOptions(links_per_sender=taken)
    async with SimulatedFleet(2, False, durations=INSTANT, options=options) as fleet:
        await take_up(fleet, State.PREPARED, "cobo0")
        mine, other = fleet.links("cobo0")[0], fleet.links("cobo1")[0]
        also = Link("CoBo[0]", "DataExporter", other.address, other.port, "TCP")
        assert (await fleet.call("cobo0", "Configure", table=link_table((mine, also)))).code == 0
        await wait_until(lambda: fleet.routers["CoBo[0]"].connections == first)
        await wait_until(lambda: fleet.routers["CoBo[1]"].connections == second)


async def test_describe_lists_the_senders(fleet: SimulatedFleet) -> None:
    assert (await fleet.call("cobo1", "Describe")).text == (
        '<DataSenderSet>\n\t<DataSender id="CoBo[1]" />\n</DataSenderSet>'
    )
    assert 'id="Mutant[master]"' in ((await fleet.call("mutant", "Describe")).text or "")


def test_request_body_is_what_a_plain_client_sends() -> None:
    assert b"<configID>&lt;ConfigId&gt;" in request_body("Start", config_id("a/b/c"))
