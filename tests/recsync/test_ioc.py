"""The IOC in ChannelFinder: what a recceiver gets of it, and what `check --online` says."""

from __future__ import annotations

import asyncio
import socket

import pytest

from attpc_ioc.cli.online import ask_all, ask_channel_finder
from attpc_ioc.errors import AttpcError, SettingsError
from attpc_ioc.export.archiver import archive_requests
from attpc_ioc.ioc.channel_finder import announcement_socket, ioc_infos
from attpc_ioc.settings import ChannelFinderSettings, Settings, parse_settings
from tests.support.one_ecc import ONE_ECC
from tests.support.patience import PATIENCE_S
from tests.support.recceiver import Recceiver, recceiver
from tests.support.rig import rig


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def section(port: int, more: str = "") -> str:
    return f'enabled = true\nlisten_address = "127.0.0.1"\nport = {port}\nholdoff_s = 0\n{more}'


async def announcing(server: Recceiver) -> None:
    while True:
        server.announce()
        await asyncio.sleep(0.1)


async def test_a_recceiver_gets_every_pv_of_the_table(tmp_path, monkeypatch):
    monkeypatch.delenv("IOCNAME", raising=False)
    monkeypatch.setenv("ENGINEER", "Jo")
    monkeypatch.setenv("LOCATION", "Vault")
    port = free_udp_port()
    async with recceiver(port) as server:
        channel_finder = section(port, 'servers = ["127.0.0.0/8"]')
        async with rig(tmp_path, monkeypatch, channel_finder=channel_finder) as it:
            table = it.app.table
            said = asyncio.create_task(ask_all(it.settings, it.app.host, PATIENCE_S))
            announcer = asyncio.create_task(announcing(server))
            await server.until(lambda: any(upload.pongs for upload in server.uploads))
            announcer.cancel()
            (upload,) = server.uploads
            assert [name for name, _ in upload.records.values()] == [entry.name for entry in table]
            assert any(entry.row.plugin for entry in table)
            assert upload.done

            infos = {upload.records[number][0]: found for number, found in upload.record_infos.items()}
            assert {name: found["recordDesc"] for name, found in infos.items()} == {
                entry.name: entry.row.desc for entry in table if entry.row.desc
            }
            assert {name: found["archive"] for name, found in infos.items() if "archive" in found} == {
                one.pv: f"{one.method.value}@{one.period_s:g}" for one in archive_requests(table)
            }
            assert {name for name, found in infos.items() if "alarm" in found} == {
                entry.name for entry in table if entry.in_alarm_tree
            }
            assert upload.infos["IOCNAME"] == it.prefix.removesuffix(":")
            assert upload.infos["ENGINEER"] == (await it.get("IOC:ENGINEER")).strip()
            assert upload.infos["LOCATION"] == (await it.get("IOC:LOCATION")).strip()
            assert upload.infos["HOSTNAME"]
            assert upload.infos["RSRV_SERVER_PORT"] == str(it.app.server.port)
            pva_port = it.app.server.pvaccess.port
            assert upload.infos.get("PVAS_SERVER_PORT") == (None if pva_port is None else str(pva_port))

            (answer,) = [one for one in (await said)[1] if one.what == "ChannelFinder"]
            assert answer.ok
            assert answer.where == f"127.0.0.1:{server.port}"
            assert answer.text == f"took the upload of {len(table)} PVs"
            for kind, name in (("mbbi", "State_RBV"), ("waveform", "Message_RBV")):
                assert (it.prefix + name, kind) in upload.records.values()
                assert (await it.get(f"{name}.RTYP")).strip() == kind
        await server.until(lambda: server.uploads[0].ended)


async def test_check_says_when_the_running_ioc_has_no_recceiver(tmp_path, monkeypatch):
    port = free_udp_port()
    async with rig(tmp_path, monkeypatch, channel_finder=section(port)) as it:
        (answer,) = await ask_channel_finder(it.settings, 0.1)
        assert not answer.ok
        assert "is connected to no recceiver (0 announcements)" in answer.text
        liar = Recceiver(port)
        liar.port = free_udp_port()  # no TCP there
        liar.announce()

        async with asyncio.timeout(PATIENCE_S):
            while "last failure: 127.0.0.1" not in answer.text:
                (answer,) = await ask_channel_finder(it.settings, 0.0)
        assert not answer.ok


async def test_check_says_when_the_running_ioc_has_it_switched_off(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        (off,) = await ask_channel_finder(it.settings, 0.1)
        assert (off.ok, off.text) == (True, "off (channel_finder.enabled is false)")
        on = it.settings.model_copy(update={"channel_finder": ChannelFinderSettings(enabled=True)})
        (answer,) = await ask_channel_finder(on, 0.1)
        assert not answer.ok
        assert "was started without it" in answer.text


def settings_of(lines: str, ioc: str = "") -> Settings:
    return parse_settings(f"[ioc]\n{ioc}\n[channel_finder]\n{lines}\n{ONE_ECC}", "f.toml")


def not_running(tmp_path, port: int, more: str = "") -> Settings:
    return settings_of(section(port, more), f'state_dir = "{tmp_path}"')


async def test_check_hears_a_recceiver_without_an_ioc_and_uploads_nothing(tmp_path):
    port = free_udp_port()
    async with recceiver(port) as server:
        announcer = asyncio.create_task(announcing(server))
        (answer,) = await ask_channel_finder(not_running(tmp_path, port), PATIENCE_S)
        announcer.cancel()
        assert answer.ok
        assert answer.where == f"127.0.0.1:{server.port}"
        assert "whether it took an upload is not known: state directory" in answer.text
        assert server.uploads == []


async def test_check_says_that_none_is_heard_and_that_others_were(tmp_path):
    port = free_udp_port()
    (answer,) = await ask_channel_finder(not_running(tmp_path, port), 0.1)
    assert not answer.ok
    assert answer.text == "no recceiver was heard within 0.1 s"
    other = Recceiver(port)
    other.port = 5
    announcer = asyncio.create_task(announcing(other))
    (answer,) = await ask_channel_finder(not_running(tmp_path, port, 'servers = ["10.9.8.7"]'), 3.0)
    announcer.cancel()
    assert not answer.ok
    assert "datagrams from others than channel_finder.servers" in answer.text


def test_an_address_that_is_not_here_is_a_clear_error():
    wrong = ChannelFinderSettings(listen_address="192.0.2.1", port=free_udp_port())
    with pytest.raises(AttpcError, match=r"recceivers cannot be heard on 192\.0\.2\.1 .*listen_address"):
        announcement_socket(wrong)


def test_the_name_is_the_settings_then_the_environments_then_the_prefix():
    plain, named = settings_of(""), settings_of('ioc_name = "tpc"')
    assert ioc_infos(named, 1, None, {"IOCNAME": "env"})["IOCNAME"] == "tpc"
    assert ioc_infos(plain, 1, None, {"IOCNAME": "env"})["IOCNAME"] == "env"
    found = ioc_infos(plain, 5064, 5075, {"HOSTNAME": "daq0", "TOP": "", "ARCH": "linux", "SECRET": "x"})
    assert found["IOCNAME"] == plain.ioc.prefix.removesuffix(":")
    assert found["HOSTNAME"] == "daq0"
    assert found["ARCH"] == "linux"
    assert (found["RSRV_SERVER_PORT"], found["PVAS_SERVER_PORT"]) == ("5064", "5075")
    assert not {"TOP", "SECRET"} & found.keys()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('enabled = "yes"', "channel_finder.enabled must be true or false"),
        ('servers = ["recceiver"]', "channel_finder.servers[0] must be an IPv4 address or network"),
        ('servers = ["10.0.0.1/8"]', "zeros behind the network's bits"),
        ("servers = []", "channel_finder.servers must"),
        ('listen_address = "localhost"', "channel_finder.listen_address must be an IPv4 address"),
        ("port = 0", "channel_finder.port must be"),
        ('ioc_name = " "', "channel_finder.ioc_name must be one line"),
        ('ioc_name = "5064"', "channel_finder.ioc_name must not be a number"),
        (f'ioc_name = "{"x" * 61}"', "channel_finder.ioc_name must have at most 60 characters"),
        ("max_servers = 9", "channel_finder.max_servers must be"),
        ("timeout_s = 0", "channel_finder.timeout_s must be"),
        ("holdoff_s = -1", "channel_finder.holdoff_s must be"),
        ("backoff_max_s = nan", "channel_finder.backoff_max_s must be"),
    ],
)
def test_wrong_settings_are_told_clearly(line, says):
    with pytest.raises(SettingsError) as caught:
        settings_of(line)
    assert says in str(caught.value)
