"""Names that a proxy gives, and TLS: believed only from the proxy, where nobody can read on the way."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import stat

import aiohttp
import pytest
from attpc_plugins.web import plugin as Web
from attpc_plugins.web.settings import WebSettings

from attpc_ioc.errors import SettingsError
from attpc_ioc.plugin.sections import checked_section
from tests.support.certificates import PASSWORD, make_certificate
from tests.support.patience import HANGS_S, PATIENCE_S
from tests.support.rig import rig
from tests.support.simfleet import wait_until
from tests.support.web import NAME, WebRig, streaming, web_rig

PROXY = """
[plugins.web.proxy]
header = "X-Remote-User"
addresses = ["127.0.0.1"]
role = "operator"
"""

RULES = """
UAG(operators) { alice }
HAG(office) { "192.0.2.7" }
ASG(DEFAULT) { RULE(1, READ) }
ASG(OPERATOR) { RULE(1, READ) RULE(1, WRITE) { UAG(operators) HAG(office) } }
"""


async def session_of(it: WebRig, **headers: str) -> tuple[int, dict[str, object]]:
    """Who one is with these headers; underscores stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await it.get("/api/v1/session", headers=named)


async def test_a_name_from_the_proxy(tmp_path, monkeypatch):
    (tmp_path / "rules.acf").write_text(RULES)
    access = f'file = "{tmp_path / "rules.acf"}"'
    async with web_rig(tmp_path, monkeypatch, PROXY, access=access) as it:
        forwarded = {"X_Remote_User": "alice", "X_Forwarded_For": "203.0.113.9, 192.0.2.7"}
        status, session = await session_of(it, **forwarded)
        assert (status, session["name"], session["role"]) == (200, "alice", "operator")
        assert f"{it.rig.prefix}Run:Title" in session["writable"]  # type: ignore[operator]
        # A foreign page could make the browser send the request, but knows neither of these.
        assert (await it.put("Run:Title", "x", **forwarded))[0] == 403
        csrf = str(session["csrf"])
        assert (await it.put("Run:Title", "x", **forwarded, Origin=it.url))[0] == 403
        assert (await it.put("Run:Title", "x", **forwarded, X_CSRF_Token=csrf))[0] == 403
        own = {"Origin": it.url, "X_CSRF_Token": csrf}
        assert (await it.put("Run:Title", "by proxy", **forwarded, **own))[0] == 200
        assert await it.rig.get_text("Run:Title") == "by proxy"
        # The browser is where the proxy says, and nobody else has the right.
        elsewhere = forwarded | {"X_Forwarded_For": "192.0.2.7, 192.0.2.8"}
        assert (await it.put("Run:Title", "x", **elsewhere, **own))[0] == 403
        assert (await session_of(it, **forwarded | {"X_Remote_User": "mallory"}))[1]["writable"] == []
        assert (await session_of(it, X_Forwarded_For="192.0.2.7"))[1]["name"] == ""
        for bad, status in (("al ice", 400), ("a" * 100, 400), ("plugin:web", 400), ("é", 400)):
            assert (await session_of(it, X_Remote_User=bad))[0] == status, bad
        for bad in ("nonsense", "192.0.2.7:80, x"):
            assert (await session_of(it, X_Forwarded_For=bad))[0] == 400
        twice = [("X-Remote-User", "alice"), ("X-Remote-User", "bob")]
        assert (await it.get("/api/v1/session", headers=twice))[0] == 400


async def test_a_forged_name_is_refused(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, PROXY.replace('"127.0.0.1"', '"192.0.2.1"')) as it:
        status, problem = await session_of(it, X_Remote_User="alice")
        assert status == 403
        assert "not in addresses of [plugins.web.proxy]" in str(problem["detail"])
        assert (await session_of(it, X_Forwarded_For="192.0.2.1"))[1]["name"] == ""


async def test_without_a_proxy_its_header_means_nothing(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        assert (await session_of(it, X_Remote_User="alice", X_Forwarded_For="x"))[1]["name"] == ""


async def test_a_token_needs_tls_to_the_browser(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, PROXY) as it:
        token = it.token("alice")
        for headers, status in (
            ({"X_Forwarded_For": "192.0.2.7"}, 403),
            ({"X_Forwarded_For": "192.0.2.7", "X_Forwarded_Proto": "http"}, 403),
            ({"X_Forwarded_For": "192.0.2.7", "X_Forwarded_Proto": "https"}, 200),
            ({}, 200),
        ):
            found, problem = await session_of(it, Authorization=f"Bearer {token}", **headers)
            assert found == status, problem
            if status == 403:
                assert "plain HTTP" in str(problem["detail"])
        headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        async with it.client.post(
            f"{it.url}/api/v1/session", json={"token": token}, headers=headers
        ) as response:
            assert "; Secure" in response.headers["Set-Cookie"]


async def test_a_unix_socket_is_the_proxy(tmp_path, monkeypatch):
    path = tmp_path / "web.socket"
    proxy = f'[plugins.web.proxy]\nheader = "X-Remote-User"\nsocket = "{path}"\nrole = "expert"\n'
    async with web_rig(tmp_path, monkeypatch, proxy) as it:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
            here = WebRig(it.rig, it.plugin, "http://localhost", client)
            _, session = await session_of(here, X_Remote_User="alice", X_Forwarded_For="192.0.2.7")
            assert (session["name"], session["role"]) == ("alice", "expert")
            own = {"Origin": "http://localhost", "X_CSRF_Token": str(session["csrf"])}
            assert (await here.put("Run:Title", "by socket", X_Remote_User="alice", **own))[0] == 200
        assert (await session_of(it, X_Remote_User="alice"))[0] == 403
        async with streaming(it) as stream:
            assert (await stream.next())[0] == "snapshot"
    assert not path.exists()


# ---------------------------------------------------------------------- TLS


async def test_tls(tmp_path, monkeypatch):
    certificate, key = make_certificate(tmp_path)
    more = f'certificate = "{certificate}"\nkey = "{key}"\n'
    monkeypatch.setattr("attpc_plugins.web.service.CERTIFICATE_S", 0.05)
    async with web_rig(tmp_path, monkeypatch, more) as it:
        assert await it.rig.get_text(f"Plugin:{NAME}:Message_RBV") == f"at {https(it)}/"
        trust = ssl.create_default_context(cafile=str(certificate))
        connector = aiohttp.TCPConnector(ssl=trust, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as client:
            secure = WebRig(it.rig, it.plugin, https(it), client)
            token = it.token("alice")
            async with client.post(f"{secure.url}/api/v1/session", json={"token": token}) as response:
                cookie = response.headers["Set-Cookie"]
                assert cookie.startswith("__Host-")
                assert "; Secure" in cookie
            assert (await secure.put("Run:Title", "by TLS", token))[0] == 200
            with pytest.raises(aiohttp.ClientError):
                await it.get("/healthz")  # plain HTTP
            # A renewed certificate is used without a restart, and a broken one is not.
            certificate.write_text("nothing")
            await wait_until(lambda: "no certificate in PEM" in message(it), 10.0, "a fault")
            assert "the earlier certificate is in use" in message(it)
            assert (await secure.get("/healthz"))[0] == 200
            other, its_key = make_certificate(tmp_path, "other")
            its_key.rename(key)
            other.rename(certificate)
            await wait_until(lambda: message(it) == f"at {https(it)}/", 10.0, "the renewed one")
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await secure.get("/healthz")


async def test_handshakes_have_places_and_a_limit(tmp_path, monkeypatch):
    certificate, key = make_certificate(tmp_path)
    more = f'certificate = "{certificate}"\nkey = "{key}"\nmax_connections = 3\n'
    monkeypatch.setattr("attpc_plugins.web.gate.HANDSHAKE_S", HANGS_S)
    async with web_rig(tmp_path, monkeypatch, more) as it:
        port = int(it.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        held[0][1].write(b"\x16\x03\x01")
        held[1][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")  # ends at once
        assert await held[1][0].read() == b""
        held.append(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        assert not held[0][0].at_eof()  # it had no place, and no handshake has had its time yet
        for quiet, _ in (held[0], held[2], held[3]):
            assert await asyncio.wait_for(quiet.read(), PATIENCE_S) == b""
        for _, other in (*held, (reader, writer)):
            other.close()
        trust = ssl.create_default_context(cafile=str(certificate))
        async with it.client.get(f"{https(it)}/healthz", ssl=trust) as response:
            assert await response.text() == "ok\n"


def https(it: WebRig) -> str:
    """The page's address."""
    return it.url.replace("http:", "https:")


def message(it: WebRig) -> str:
    """What the plugin says."""
    reading = it.rig.posted(f"Plugin:{NAME}:Message_RBV")
    assert reading is not None
    return str(reading.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("no certificate", "certificate in [plugins.web], {certificate}: No such file or directory"),
        ("no key", "key in [plugins.web], {key}: No such file or directory"),
        ("swapped", "certificate in [plugins.web], {key}: there is no certificate in PEM in it"),
        ("foreign key", "they do not belong together"),
        ("password", "it has a password, and must have none"),
    ],
)
async def test_faults_of_certificates_name_the_file(tmp_path, monkeypatch, spoil, words):
    certificate, key = make_certificate(tmp_path, password=PASSWORD if spoil == "password" else None)
    given = [certificate, key]
    if spoil == "swapped":
        given.reverse()
    elif spoil == "foreign key":
        given[1] = make_certificate(tmp_path, "other")[1]
    elif spoil.startswith("no "):
        (certificate if spoil == "no certificate" else key).unlink()
    section = f'port = 1\ncertificate = "{given[0]}"\nkey = "{given[1]}"\n'
    sections = {f"plugins.{NAME}": section}
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[(NAME, Web())], **sections) as it:
        assert await it.get(f"Plugin:{NAME}:Status_RBV") == "Degraded"
        text = await it.get_text(f"Plugin:{NAME}:Message_RBV")
        assert words.format(certificate=certificate, key=key) in text


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"certificate": "/a"}, "`certificate` and `key` belong together"),
        ({"certificate": "a", "key": "/b"}, "must be an absolute path"),
        ({"proxy": {"header": "X-User"}}, "must have the proxy's address"),
        ({"proxy": {"header": "X User", "addresses": ["::1"]}}, "must be the name of a header"),
        ({"proxy": {"header": "X", "addresses": ["localhost"]}}, "must be an IP address"),
        ({"proxy": {"header": "X", "addresses": ["::1"], "role": "king"}}, "viewer"),
        ({"proxy": {"header": "X", "addresses": ["::1"], "sign_out": "javascript:x"}}, "or an https URL"),
        ({"proxy": {"header": "X", "addresses": ["::1"], "sign_out": "//evil"}}, "or an https URL"),
        ({"view": "nobody"}, "named"),
    ],
)
def test_settings_that_cannot_be(section, words):
    with pytest.raises(SettingsError) as error:
        checked_section("ioc.toml", NAME, {NAME: section}, WebSettings)
    assert words in str(error.value)
