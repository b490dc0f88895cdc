"""Nothing that could harm a server can be built; everything that a server sends can be read or is refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.ecc import PartialConfig, config_id_xml, configs_in, data_link_set_xml, senders_in
from attpc_ioc.ecc.xml import etree
from attpc_ioc.errors import EccBrokenReply
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation
from tests.support.thorough import examples

CONFIG = ConfigName("cobo0", "e20009", "e20009b")
LINK = DataLinkView("data0", "192.168.41.60", 46005, "TCP")


def parts_of(document: str) -> list[tuple[str | None, str | None]]:
    return [(sub.get("type"), sub.text) for sub in etree.fromstring(document)]


def source(*links: DataLinkView, sender: str = "CoBo[0]") -> SourceView:
    return SourceView("CoBo0", sender, "cobo0", links)


def test_a_config_id_is_written_as_existing_clients_write_it():
    assert config_id_xml(Operation.PREPARE, CONFIG) == (
        '<ConfigId><SubConfigId type="describe">cobo0</SubConfigId>'
        '<SubConfigId type="prepare">e20009</SubConfigId>'
        '<SubConfigId type="configure">e20009b</SubConfigId></ConfigId>'
    )


def test_what_must_be_escaped_reads_back_as_it_was():
    config = ConfigName("a<b>&'\"]]>", "ü€", "x y")
    assert parts_of(config_id_xml(Operation.DESCRIBE, config)) == [
        ("describe", "a<b>&'\"]]>"),
        ("prepare", "ü€"),
        ("configure", "x y"),
    ]


@pytest.mark.parametrize("operation", list(Operation))
def test_an_operation_goes_out_where_its_own_part_is_known(operation: Operation):
    own = {"Describe": "describe", "Prepare": "prepare", "Configure": "configure"}.get(operation.value)
    config = PartialConfig(**({own: "name"} if own else {}))
    parts = parts_of(config_id_xml(operation, config))
    assert [kind for kind, _ in parts] == ["describe", "prepare", "configure"]
    assert all(text and text.strip() == text for _, text in parts)
    assert own is None or dict(parts)[own] == "name"


@pytest.mark.parametrize("operation", [Operation.DESCRIBE, Operation.PREPARE, Operation.CONFIGURE])
def test_an_operation_is_refused_where_its_own_part_is_not_known(operation: Operation):
    with pytest.raises(ValueError, match=f"{operation} needs the {operation.value.lower()} part"):
        config_id_xml(operation, PartialConfig())
    with pytest.raises(ValueError, match="is not known"):
        config_id_xml(operation, PartialConfig.of(Loaded("?", "?", "?")))


@pytest.mark.parametrize(
    "blank", ["", " ", "\t\n", "\u00a0", "\u200b", "a\x00", "a\nb", " a", "a ", "\ud800"]
)
@pytest.mark.parametrize("part", ["describe", "prepare", "configure"])
def test_a_blank_or_unprintable_part_is_never_written(part: str, blank: str):
    with pytest.raises(ValueError, match=f"the {part} part of a config name"):
        config_id_xml(Operation.UNDO, PartialConfig(**{part: blank}))


@settings(max_examples=examples(100, 300), deadline=None)
@given(st.text(max_size=6), st.text(max_size=6), st.sampled_from(list(Operation)))
def test_whatever_is_put_in_either_is_refused_or_reads_back(describe: str, other: str, operation: Operation):
    try:
        document = config_id_xml(operation, PartialConfig(describe, other, other))
    except ValueError:
        return
    for kind, text in parts_of(document):
        given_text = describe if kind == "describe" else other
        assert text == ("unused" if given_text == "?" else given_text)
        assert text is not None
        assert text.strip()


def test_every_link_of_every_source_is_written():
    second = DataLinkView("export0", "10.0.0.2", 46007, "ICE")
    mutant = source(DataLinkView("m", "10.0.0.3", 1, "FDT"), sender="Mutant[master]")
    assert data_link_set_xml((source(LINK, second), source(), mutant)) == (
        '<DataLinkSet><DataLink><DataSender id="CoBo[0]"/>'
        '<DataRouter name="data0" ipAddress="192.168.41.60" port="46005" type="TCP"/></DataLink>'
        '<DataLink><DataSender id="CoBo[0]"/>'
        '<DataRouter name="export0" ipAddress="10.0.0.2" port="46007" type="ICE"/></DataLink>'
        '<DataLink><DataSender id="Mutant[master]"/>'
        '<DataRouter name="m" ipAddress="10.0.0.3" port="1" type="FDT"/></DataLink></DataLinkSet>'
    )
    assert data_link_set_xml(()) == "<DataLinkSet/>"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "data0",
        "localhost",
        "192.168.41.256",
        "192.168.41",
        "192.168.041.60",
        "1.2.3.4 ",
        "::1",
        "0x7f.1",
        "\u0661.2.3.4",
        "255.255.255.255",
        "0.0.0.0",
        "224.0.0.1",
        "3232235777",
    ],
)
def test_an_address_that_would_become_another_is_never_written(address: str):
    with pytest.raises(ValueError, match="the address of a data link must be"):
        data_link_set_xml([source(DataLinkView("r", address, 46005, "TCP"))])


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_never_written(port: int):
    with pytest.raises(ValueError, match="1 to 65535"):
        data_link_set_xml([source(DataLinkView("r", "10.0.0.1", port, "TCP"))])


def test_other_faults_of_a_link_are_refused():
    with pytest.raises(ValueError, match="TCP, FDT, ICE, ZBUF"):
        data_link_set_xml([source(DataLinkView("r", "10.0.0.1", 1, "UDP"))])
    with pytest.raises(ValueError, match="the name of a data router"):
        data_link_set_xml([source(DataLinkView(" ", "10.0.0.1", 1, "TCP"))])
    with pytest.raises(ValueError, match="a sender id"):
        data_link_set_xml([source(LINK, sender="")])


def config_id(describe: str, prepare: str, configure: str) -> str:
    return (
        f'<ConfigId><SubConfigId type="describe">{describe}</SubConfigId>'
        f'<SubConfigId type="prepare">{prepare}</SubConfigId>'
        f'<SubConfigId type="configure">{configure}</SubConfigId></ConfigId>'
    )


def test_configs_are_read_in_their_order_and_once():
    text = (
        f"<ConfigIdSet>\n\t{config_id('b', 'x', 'x')}\n\t{config_id('a', 'x', 'x')}\n"
        f"\t{config_id('b', 'x', 'x')}\n</ConfigIdSet>"
    )
    assert [str(c) for c in configs_in(text)] == ["b/x/x", "a/x/x"]
    assert configs_in("<ConfigIdSet/>") == ()


def test_configs_are_read_through_everything_that_xml_allows():
    text = (
        '\n<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n<!-- c --><ConfigIdSet n="2">\n'
        ' <other/><ConfigId x="1"><!-- c --><SubConfigId a="b" type="describe">\n co<!-- c -->bo0 '
        "</SubConfigId>"
        '<SubConfigId type="describe">second</SubConfigId><?pi?><SubConfigId>none</SubConfigId>'
        '<SubConfigId type="prepare"> ü </SubConfigId>'
        '<SubConfigId type="configure"><![CDATA[e&1]]></SubConfigId>'
        "</ConfigId></ConfigIdSet> \n"
    )
    assert configs_in(text) == (ConfigName("cobo0", "ü", "e&1"),)


def test_an_unusable_config_does_not_hide_the_others(caplog: pytest.LogCaptureFixture):
    text = f"<ConfigIdSet>{config_id('a', ' ', 'x')}{config_id('a/b', 'x', 'x')}<ConfigId/>"
    text += f"{config_id('good', 'x', 'x')}</ConfigIdSet>"
    assert configs_in(text) == (ConfigName("good", "x", "x"),)
    assert [r.message for r in caplog.records] == ["unusable config left out"] * 3


def test_senders_are_read():
    assert senders_in('<DataSenderSet>\n\t<DataSender id="CoBo[0]" />\n</DataSenderSet>') == ("CoBo[0]",)
    assert senders_in(
        '<DataSenderSet><DataSender id=" b " c=""/><!----><DataSender id="a"/></DataSenderSet>'
    ) == (
        "b",
        "a",
    )
    assert senders_in("<DataSenderSet/>") == ()


def test_a_sender_without_an_id_is_a_broken_reply():
    with pytest.raises(EccBrokenReply, match="without an id"):
        senders_in("<DataSenderSet><DataSender/></DataSenderSet>")


@pytest.mark.parametrize("read", [configs_in, senders_in])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "no xml",
        "<ConfigIdSet>",
        "<DataSenderSet",
        "<Other/>",
        "\x00",
        "\ud800",
        "<a/><b/>",
        "&lt;",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    ],
)
def test_what_is_no_such_document_is_a_broken_reply_that_shows_it(read, text: str):
    with pytest.raises(EccBrokenReply, match=r"^no (ConfigIdSet|DataSenderSet) but '"):
        read(text)


def test_entities_are_not_resolved(tmp_path):
    secret = tmp_path / "file"
    secret.write_text("secret")
    text = f'<!DOCTYPE c [<!ENTITY x SYSTEM "file://{secret}">]><ConfigIdSet>{config_id("&x;", "a", "b")}'
    with pytest.raises(EccBrokenReply, match="a DTD") as caught:
        configs_in(text + "</ConfigIdSet>")
    assert "secret" not in str(caught.value)


xml_words = st.sampled_from(
    [
        "<ConfigIdSet>",
        "</ConfigIdSet>",
        "<ConfigId>",
        "</ConfigId>",
        "<SubConfigId",
        ' type="describe"',
        ">",
        "x",
        "</SubConfigId>",
        "<DataSenderSet>",
        "</DataSenderSet>",
        '<DataSender id="',
        '"/>',
        "<!--",
        "-->",
        "&amp;",
        *["&x;", "<?xml version='1.0'?>", "\x00", "\ud800", "\n", "<![CDATA[", "]]>", "<!DOCTYPE a>"],
    ]
)


@settings(max_examples=examples(150, 400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(st.text(st.characters(exclude_categories=())), st.lists(xml_words, max_size=14).map("".join))
)
def test_any_text_is_read_or_is_a_broken_reply(text: str):
    for read in (configs_in, senders_in):
        try:
            assert isinstance(read(text), tuple)
        except EccBrokenReply as error:
            shown = str(error)
        else:
            continue
        assert len(shown) < 500


def test_what_was_received_is_shown_short():
    with pytest.raises(EccBrokenReply) as caught:
        configs_in("x" * 100_000)
    assert len(str(caught.value)) < 400


def test_names_of_configs_and_senders_are_bounded():
    good = config_id("cobo0", "a", "a")
    for odd in ("x" * 241, "x" * 100_000):
        assert len(configs_in(f"<ConfigIdSet>{config_id(odd, 'a', 'a')}{good}</ConfigIdSet>")) == 1
        with pytest.raises(EccBrokenReply, match="more than 240 characters") as caught:
            senders_in(f'<DataSenderSet><DataSender id="{odd}"/></DataSenderSet>')
        assert len(str(caught.value)) < 400
    with pytest.raises(EccBrokenReply, match="257 DataSenders"):
        senders_in("<DataSenderSet>" + '<DataSender id="x"/>' * 257 + "</DataSenderSet>")


def test_of_many_unusable_configs_a_few_are_logged(caplog: pytest.LogCaptureFixture):
    odd = config_id("a/b", "a", "a") * 3000
    assert configs_in(f"<ConfigIdSet>{odd}{config_id('c', 'a', 'a')}</ConfigIdSet>")
    assert len(caplog.records) == 9
