"""Every fault of a settings file: where it is and what would be right."""

import os
import re
from pathlib import Path

import pytest

from attpc_ioc.errors import SettingsError
from attpc_ioc.settings import LimitSettings, load_settings, parse_settings
from attpc_ioc.settings.contract import RESERVED_NAMES, SYSTEM_PV_NAMES

LINK = '[[ecc.source.link]]\nname = "data0"\naddress = "127.0.0.1"\n'


def server(number: int = 0, *, ecc: str = "", source: str = "", link: str = "", links: str = LINK) -> str:
    """Return a server that is right, with further lines in its tables."""
    head = [] if 'name = "' in ecc else [f'name = "cobo{number}"']
    head += [] if "host = " in ecc else [f'host = "10.0.0.{number + 1}"']
    inner = [] if "id = " in source else [f'id = "CoBo[{number}]"']
    return "\n".join(["[[ecc]]", *head, ecc, "[[ecc.source]]", *inner, source, links + link, ""])


MUTANT = server(7, ecc='name = "mutant"\nkind = "mutant"', source='id = "Mutant[master]"')
OK = server() + server(1) + MUTANT


def faults_of(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "f.toml")
    assert caught.value.file == "f.toml"
    assert all(line.startswith("f.toml: ") for line in str(caught.value).split("\n"))
    return caught.value.faults


def section(name: str, line: str) -> str:
    return f"[{name}]\n{line}\n{OK}"


CASES = [
    # unknown keys
    (section("ioc", 'prefx = "A:"'), "ioc.prefx", "did you mean 'prefix'"),
    (section("ioc", 'Prefix = "A:"'), "ioc.Prefix", "did you mean 'prefix'"),
    (section("ioc", "zzz = 1"), "ioc.zzz", "known here: prefix, state_dir"),
    (section("ioc", "quiet_period_s = 1"), "ioc.quiet_period_s", "poll.quiet_period_s is one"),
    (section("pva", "port = 1"), "pva.port", "did you mean 'server_port' or 'broadcast_port'"),
    (section("pol", "a = 1"), "pol", "did you mean 'poll'"),
    (section("ioc", '"odd key" = 1'), "ioc.'odd key'", "not a known key"),
    (server(ecc="hostname = 'x'"), "ecc[0].hostname (ECC server 'cobo0')", "did you mean 'host'"),
    (server(source="ids = 1"), "ecc[0].source[0].ids (ECC server 'cobo0')", "did you mean 'id'"),
    (server(link="prot = 1"), "ecc[0].source[0].link[0].prot (ECC server 'cobo0')", "did you mean 'port'"),
    # prefix and texts
    (section("ioc", 'prefix = ""'), "ioc.prefix", "must not be empty"),
    (section("ioc", 'prefix = "A B:"'), "ioc.prefix", "must be letters"),
    (section("ioc", 'prefix = "A$(P):"'), "ioc.prefix", "must be letters"),
    (section("ioc", 'prefix = "Ä:"'), "ioc.prefix", "must be letters"),
    (section("ioc", 'prefix = ":A:"'), "ioc.prefix", "begin with a letter"),
    (section("ioc", 'prefix = "ATTPC"'), "ioc.prefix", "end with a separator"),
    (section("ioc", 'prefix = "A:\\n"'), "ioc.prefix", "must be letters"),
    (section("ioc", "prefix = 1"), "ioc.prefix", "must be a text in quotes, not 1"),
    (section("ioc", f'prefix = "{"A" * 40}:"'), "ioc.prefix", "shorten it by 1"),
    (section("ioc", 'state_dir = " "'), "ioc.state_dir", "must be the path of a directory"),
    (section("ioc", 'state_dir = "a\\u0000b"'), "ioc.state_dir", "must be the path of a directory"),
    (section("ioc", f'engineer = "{"x" * 40}"'), "ioc.engineer", "at most 39 bytes"),
    (section("ioc", f'location = "{"ä" * 20}"'), "ioc.location", "at most 39 bytes"),
    (section("ioc", 'location = "a\\nb"'), "ioc.location", "one line"),
    (section("ioc", "server_port = 0"), "ioc.server_port", "must be 1 to 65535, not 0"),
    (section("ioc", 'interfaces = ["eth0"]'), "ioc.interfaces[0]", "must be an IPv4 address"),
    (section("ioc", "interfaces = []"), "ioc.interfaces", "at least one entry"),
    (section("ioc", 'interfaces = "127.0.0.1"'), "ioc.interfaces", "must be a list"),
    ("ioc = 1\n" + OK, "ioc", "must be a table, not 1"),
    # run
    (section("run", "first_number = -1"), "run.first_number", "must be 0 to 2147483647, not -1"),
    (section("run", "first_number = 2147483648"), "run.first_number", "must be 0 to 2147483647"),
    (section("run", "first_number = 1.0"), "run.first_number", "must be a whole number, not 1.0"),
    (section("run", "first_number = true"), "run.first_number", "must be a whole number, not true"),
    (section("run", "first_number = '1'"), "run.first_number", "must be a whole number, not '1'"),
    (section("run", "stop_on_lost = 1"), "run.stop_on_lost", "must be true or false, not 1"),
    # poll
    (section("poll", "moving_period_s = 0.004"), "poll.moving_period_s", "must be 0.005 to 60, not 0.004"),
    (section("poll", "quiet_period_s = 61"), "poll.quiet_period_s", "must be 0.005 to 60, not 61"),
    (section("poll", "quiet_period_s = 0.01"), "poll.quiet_period_s", "at least poll.moving_period_s"),
    (section("poll", "moving_period_s = 1"), "poll.moving_period_s", "at most poll.quiet_period_s"),
    (section("poll", "backoff_max_s = 0.1"), "poll.backoff_max_s", "at least poll.quiet_period_s"),
    (section("poll", "backoff_max_s = 601"), "poll.backoff_max_s", "must be 0.005 to 600"),
    (section("poll", "timeout_s = 0"), "poll.timeout_s", "must be 0.01 to 60, not 0"),
    (section("poll", "timeout_s = inf"), "poll.timeout_s", "finite"),
    (section("poll", "timeout_s = nan"), "poll.timeout_s", "must be a finite number"),
    (section("poll", "timeout_s = true"), "poll.timeout_s", "must be a finite number"),
    (section("poll", "timeout_s = '1'"), "poll.timeout_s", "must be a finite number"),
    (section("poll", "offline_after = 0"), "poll.offline_after", "must be 1 to 1000, not 0"),
    # order
    (section("order", 'stop = [["mutant"], ["cobo"]]'), "order.stop", "other missing"),
    (
        section("order", 'stop = [["mutant"], ["cobo", "other", "cobo"]]'),
        "order.stop",
        "cobo more than once",
    ),
    (section("order", 'stop = [["mutant", "cobo", "other"], []]'), "order.stop", "a stage is empty"),
    (section("order", "stop = []"), "order.stop", "exactly once"),
    (section("order", 'stop = [["mutant"], ["kobo"]]'), "order.stop[1][0]", "'cobo', 'mutant' or 'other'"),
    (section("order", 'stop = [["mutant"], "cobo"]'), "order.stop[1]", "must be a list"),
    # ECC servers
    ("", "ecc", "at least one table [[ecc]]"),
    ("ecc = []", "ecc", "at least one"),
    ('[ecc]\nname = "a"', "ecc", "write [[ecc]]"),
    ("ecc = [1]", "ecc[0]", "must be a table"),
    (server().replace('name = "cobo0"', ""), "ecc[0].name", "is missing: Name of the server"),
    (server().replace("host =", "#"), "ecc[0].host (ECC server 'cobo0')", "is missing: Host name"),
    (server(ecc='name = ""'), "ecc[0].name", "must be letters"),
    (server(ecc='name = "a:b"'), "ecc[0].name", "must be letters"),
    (server(ecc='name = "-a"'), "ecc[0].name", "must be letters"),
    (server(ecc='name = "a.b"'), "ecc[0].name", "must be letters"),
    (server(ecc='name = "cobo0\\n"'), "ecc[0].name", "must be letters"),
    (server(ecc=f'name = "{"a" * 40}"'), "ecc[0].name", "at most 39"),
    (server(ecc=f'name = "{"a" * 33}"'), "ecc[0].name", "shorten it or ioc.prefix by 2"),
    (server() + server(1, ecc='name = "cobo0"'), "ecc[1].name", "'cobo0': that is at ecc[0].name already"),
    (server() + server(1, ecc='name = "CoBo0"'), "ecc[1].name", "'cobo0' but for upper and lower case"),
    (
        server() + server(1, ecc='host = "10.0.0.1"'),
        "ecc[1].host",
        "another host and port than '10.0.0.1:8083'",
    ),
    (
        server(ecc='host = "a-b"') + server(1, ecc='host = "A-B"\nport = 8083'),
        "ecc[1].host",
        "another host and port",
    ),
    (server(ecc="port = 0"), "ecc[0].port", "must be 1 to 65535, not 0"),
    (server(ecc="port = 65536"), "ecc[0].port", "must be 1 to 65535, not 65536"),
    (server(ecc='port = "8083"'), "ecc[0].port", "must be a whole number, not '8083'"),
    (server(ecc='kind = "CoBo"'), "ecc[0].kind", "'cobo', 'mutant' or 'other', not 'CoBo'"),
    (
        MUTANT + server(1, ecc='kind = "mutant"', source='id = "Mutant[b]"'),
        "ecc[1].kind",
        "clocks and triggers",
    ),
    (server(ecc='kind = "mutant"'), "ecc[0].kind", "must be 'other'"),
    (server(source='id = "Mutant[master]"'), "ecc[0].kind", "must be 'mutant', or 'other'"),
    *(
        (server(ecc=f'host = "{host}"'), "ecc[0].host", text)
        for host, text in {
            "": "must not be empty",
            "http://cobo0": "without a scheme",
            "cobo0:8083": "the port is a separate setting",
            "::1": "IPv6 is not supported",
            "[::1]": "IPv6 is not supported",
            "co bo": "must be a host name",
            "-cobo": "must be a host name",
            "cobo-": "must be a host name",
            "cobo..x": "must be a host name",
            "cobo0/": "must be a host name",
            "cöbo": "must be a host name",
            f"{'a' * 64}": "must be a host name",
            ".".join(["a" * 50] * 6): "must be a host name",
            "10.0.0.256": "must be an IPv4 address",
            "10.0.0": "must be an IPv4 address",
            "10.0.0.01": "must be an IPv4 address",
            "0.0.0.0": "one host",
            "255.255.255.255": "one host",
            "224.0.0.1": "one host",
        }.items()
    ),
    # describe rules
    (server(ecc='describe = "a/b"'), "ecc[0].describe", "without '/'"),
    (server(ecc='describe = " a"'), "ecc[0].describe", "without white space"),
    (server(ecc='describe = "{exp}"'), "ecc[0].describe", "the only one is {experiment}"),
    (server(ecc="describe = []"), "ecc[0].describe", "a name or a list of names"),
    (server(ecc='describe = ["a", ""]'), "ecc[0].describe", "its entry 1 is ''"),
    (server(ecc='describe = ["a", 1]'), "ecc[0].describe", "a name or a list of names"),
    (server(ecc="describe = 1"), "ecc[0].describe", "a name or a list of names"),
    (server(ecc='describe = "a\\u0007"'), "ecc[0].describe", "control characters"),
    (server(ecc='kind = "other"'), "ecc[0].describe", "must be given"),
    (server(source='id = "Asad[0]"'), "ecc[0].describe", "must be given"),
    (
        server(source=f'id = "CoBo[0]"\n{LINK}[[ecc.source]]\nid = "CoBo[1]"'),
        "ecc[0].describe",
        "must be given",
    ),
    # sources
    ('[[ecc]]\nname = "a"\nhost = "b"\ndescribe = "c"', "ecc[0].source", "at least one board"),
    (
        server(ecc="source = 1", source="", links="").split("[[ecc.source]]")[0],
        "ecc[0].source",
        "[[ecc.source]]",
    ),
    (server(source='id = ""'), "ecc[0].source[0].id", "must be a sender id"),
    (server(source='id = "CoBo0"'), "ecc[0].source[0].id", "must be a sender id"),
    (server(source='id = "CoBo[]"'), "ecc[0].source[0].id", "must be a sender id"),
    (server(source='id = "CoBo[*]"'), "ecc[0].source[0].id", "must be a sender id"),
    (server(source=f'id = "CoBo[{"1" * 36}]"'), "ecc[0].source[0].id", "at most 39"),
    (server(source='name = "a b"'), "ecc[0].source[0].name", "must be letters"),
    (server(source='name = "run"'), "ecc[0].source[0].name", "'Run' is a reserved part"),
    (server(source=f'name = "{"a" * 33}"'), "ecc[0].source[0].name", "shorten it or ioc.prefix by 1"),
    (
        server(source='id = "Con[trol]"', ecc='describe = "x"'),
        "ecc[0].source[0].name",
        "must be given, since the default of 'Con[trol]'",
    ),
    (server() + server(1, source='id = "CoBo[0]"'), "ecc[1].source[0].id", "ecc[0].source[0].id already"),
    (server() + server(1, source='id = "COBO[0]"'), "ecc[1].source[0].id", "but for upper and lower case"),
    (
        server() + server(1, source='name = "CoBo0"'),
        "ecc[1].source[0].name",
        "at ecc[0].source[0].name already",
    ),
    # links
    (server(links=""), "ecc[0].source[0].link", "at least one data link"),
    (server(links="link = {}"), "ecc[0].source[0].link", "write [[ecc.source.link]]"),
    (server(links='[[ecc.source.link]]\nname = "a"'), "ecc[0].source[0].link[0].address", "is missing"),
    (
        server(link="port = 70000"),
        "ecc[0].source[0].link[0].port (ECC server 'cobo0')",
        "1 to 65535, not 70000",
    ),
    (
        server(link='type = "UDP"'),
        "ecc[0].source[0].link[0].type",
        "'TCP', 'FDT', 'ICE' or 'ZBUF', not 'UDP'",
    ),
    (server(links=LINK.replace("data0", "a b")), "ecc[0].source[0].link[0].name", "letters, digits"),
    (
        server(links=LINK + LINK.replace("0.1", "0.2")),
        "ecc[0].source[0].link[1].name",
        "another name than 'data0'",
    ),
    (
        server(links=LINK + LINK.replace("data0", "b")),
        "ecc[0].source[0].link[1].address",
        "another address and port than '127.0.0.1:46005'",
    ),
    *(
        (
            server(links=LINK.replace("127.0.0.1", address)),
            "ecc[0].source[0].link[0].address",
            "255.255.255.255",
        )
        for address in (
            "",
            "localhost",
            "10.0.0.256",
            "10.0.0.01",
            "10.1",
            "::1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
        )
    ),
    # plugins
    (section("plugins", "history = 1"), "plugins.history", "must be a table, not 1"),
    (section("plugins.'a b'", "x = 1"), "plugins.'a b'", "must be a plugin's name"),
    (section("plugins.a", "enabled = 1"), "plugins.a.enabled", "true or false, not 1"),
    (section("plugins.a", "[plugins.A]"), "plugins.A", "but for upper and lower case"),
    (section(f"plugins.{'a' * 36}", "x = 1"), f"plugins.{'a' * 36}", "shorten it or ioc.prefix by 1"),
    *(
        (section("limits", f"{key} = {value}"), f"limits.{key}", text)
        for key in LimitSettings.model_fields
        for value, text in {
            "0": "more than 0",
            "-1.5": "more than 0",
            "inf": "finite",
            "nan": "number",
            "'1'": "number",
        }.items()
    ),
]


@pytest.mark.parametrize(("text", "key", "wanted"), CASES)
def test_each_fault_names_its_key_and_what_would_be_right(text, key, wanted):
    faults = faults_of(text)
    assert any(fault.startswith(key + " ") and wanted in fault for fault in faults), faults
    # One mistake is one fault.
    assert len(faults) == 1 or "shorten" in wanted, faults


def test_a_value_that_is_there_twice_names_the_whole_key_of_the_first():
    (fault,) = faults_of(server() + server(1, links=LINK + LINK.replace("0.1", "0.2")))
    assert fault.endswith("than 'data0': that is at ecc[1].source[0].link[0].name already")


def test_what_is_wrong_by_itself_is_one_fault_and_hides_no_other():
    wrong = section("ioc", f'prefix = "{"A" * 50}"') + server(2, ecc='port = 0\nname = "cobo1"')
    assert [fault.split()[0] for fault in faults_of(wrong)] == ["ioc.prefix", "ecc[3].name", "ecc[3].port"]


def test_the_settings_of_the_cases_are_right_but_for_the_one_mistake():
    assert [ecc.name for ecc in parse_settings(OK, "f").ecc] == ["cobo0", "cobo1", "mutant"]


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES | SYSTEM_PV_NAMES))
def test_reserved_names_are_refused(name):
    (fault,) = faults_of(server(ecc=f'name = "{name}"'))
    assert fault.startswith(f"ecc[0].name (ECC server '{name}') must be another name")
    for spelling in (name, name.lower(), name.upper()):
        (fault,) = faults_of(server(source=f'name = "{spelling}"'))
        assert fault.startswith("ecc[0].source[0].name (ECC server 'cobo0') must be another name")


def test_all_faults_are_reported_at_once_in_the_order_of_the_file():
    text = (
        '[ioc]\nprefix = "A"\nfoo = 1\n[poll]\nmoving_period_s = 1\n[run]\nfirst_number = -1\n'
        + server(ecc="port = 0", link="port = 0")
        + server(1, ecc='name = "cobo0"\ndescribe = ""')
        + MUTANT
        + server(8, ecc='kind = "mutant"\nname = "second"', source='id = "Mutant[x]"')
    )
    faults = faults_of(text)
    assert [fault.split()[0] for fault in faults] == [
        "ioc.foo",
        "ioc.prefix",
        "run.first_number",
        "poll.moving_period_s",
        "ecc[0].port",
        "ecc[0].source[0].link[0].port",
        "ecc[1].name",
        "ecc[3].kind",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[ioc]\nprefix = \n", "line 2, column 10:"),
        ("[ioc\n", "line 1, column 5:"),
        ('a = "x', "line 1, column 7:"),
        ("a = 1\na = 2\n", "line 2, column 6:"),
        ("a = {", "line 1, column 6:"),
    ],
)
def test_syntax_errors_have_line_and_column(text, where):
    (fault,) = faults_of(text)
    assert fault.startswith(f"{where} is not valid TOML: ")


@pytest.mark.parametrize("text", [f"a = {'9' * 5000}", f"a = {'[' * 50000}", "a = 2020-13-45"])
def test_odd_toml_is_one_fault(text):
    (fault,) = faults_of(text)
    assert "TOML" in fault


HUGE = f"0x{'f' * 5000}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (section("ioc", f"prefix = {HUGE}"), "ioc.prefix"),
        (section("plugins.a", f"x = [1, {HUGE}]"), "plugins.a.x[1]"),
        (server(ecc=f"port = {HUGE}"), "ecc[0].port (ECC server 'cobo0')"),
        (section("run", f"first_number = -{2**63 + 1}"), "run.first_number"),
    ],
)
def test_numbers_that_python_cannot_even_print(text, key):
    assert faults_of(text) == [f"{key} must be a number of at most 64 bits"]


@pytest.mark.parametrize("text", [f"plugins{'.a' * 5000} = 1", f"[ecc{'.a' * 3000}]"])
def test_tables_that_are_nested_too_deeply(text):
    (fault,) = faults_of(text)
    assert "must have at most 50 tables" in fault
    assert len(fault) < 200


def fault_of_file(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    fault, *hint = caught.value.faults  # where a demo runs on this machine, its file is named too
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert all("demo" in text for text in hint)
    return fault


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"\xef\xbb\xbf[ioc]\n", "byte order mark of UTF-8"),
        ("[ioc]".encode("utf-16"), "byte order mark of UTF-16"),
        (b"[ioc]\nlocation = '\xe4'", r"line 2, byte 13: is not UTF-8 \(byte 0xe4\)"),
        (b"\0", "is not valid TOML"),
        (b"#" * 4_000_001, "more than 4000000 bytes"),
    ],
)
def test_files_that_are_no_utf8_text(tmp_path, raw, wanted):
    file = tmp_path / "f.toml"
    file.write_bytes(raw)
    assert re.search(wanted, fault_of_file(file))


def test_files_that_cannot_be_read(tmp_path):
    assert fault_of_file(tmp_path / "none.toml").startswith("does not exist")
    assert fault_of_file(tmp_path).startswith("is a directory")
    assert fault_of_file(Path("a\0b")).startswith("cannot be read")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert fault_of_file(tmp_path / "loop").startswith("cannot be read")
    file = tmp_path / "secret.toml"
    file.write_text(OK)
    file.chmod(0)
    if os.access(file, os.R_OK):  # root may read everything
        assert load_settings(file).ecc
    else:
        assert fault_of_file(file) == "cannot be read: Permission denied"
    assert fault_of_file(file / "x").startswith("cannot be read")


def test_a_home_directory_that_does_not_exist(tmp_path):
    file = tmp_path / "f.toml"
    file.write_text(section("ioc", 'state_dir = "~no-such-user-here/x"'))
    assert fault_of_file(file).startswith("ioc.state_dir must be the path of a directory")
