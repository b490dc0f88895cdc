"""Tokens and sessions: who is signed in, for how long, and what ends that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import aiohttp
from attpc_plugins.web import proving
from attpc_plugins.web.signin import SessionBody
from attpc_plugins.web.tokens import Role

from tests.support.ca import Ran
from tests.support.forked import PIPE, SHELL, forked
from tests.support.patience import PATIENCE_S
from tests.support.web import WebRig, streaming, web_rig

NOBODY = {"name": "", "role": "", "by": "", "sign_out": "", "csrf": "", "writable": []}
TOLD = {name: text for name, text in NOBODY.items() if name != "csrf"}
"""What a stream tells somebody without a name."""


@contextlib.asynccontextmanager
async def browser(it: WebRig) -> AsyncIterator[WebRig]:
    """A client that keeps cookies, also those of an IP address."""
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as client:
        yield WebRig(it.rig, it.plugin, it.url, client)


async def sign_in(it: WebRig, token: str) -> dict[str, str]:
    """Sign in; returns the headers of writes."""
    status, session = await it.ask("POST", "/api/v1/session", json={"token": token})
    assert status == 200, session
    SessionBody.model_validate(session, strict=True)
    return {"X-CSRF-Token": session["csrf"], "Origin": it.url}


async def test_sign_in_write_and_sign_out(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it, browser(it) as page:
        assert await page.get("/api/v1/session") == (200, NOBODY)
        token = it.token("alice")
        async with page.client.post(f"{it.url}/api/v1/session", json={"token": token}) as response:
            cookie = response.headers["Set-Cookie"]
            session = await response.json()
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path=/" in cookie
        assert "Secure" not in cookie  # plain HTTP on the same machine
        assert token not in cookie
        assert (await page.get("/api/v1/session"))[1] == session
        assert (session["name"], session["role"]) == ("alice", "operator")
        assert f"{it.rig.prefix}Run:Start" in session["writable"]
        headers = {"X-CSRF-Token": session["csrf"], "Origin": it.url}
        assert (await page.put("Run:Title", "clicked", **headers))[0] == 200
        assert await it.rig.get_text("Run:Title") == "clicked"
        assert (await page.ask("DELETE", "/api/v1/session", headers=headers))[0] == 204
        assert await page.get("/api/v1/session") == (200, NOBODY)
        assert (await page.put("Run:Title", "late", **headers))[0] == 401
        assert (await page.ask("DELETE", "/api/v1/session"))[0] == 204


async def test_a_signed_out_cookie_is_worth_nothing(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it, browser(it) as page:
        headers = await sign_in(page, it.token("alice"))
        copied = {"Cookie": "; ".join(f"{morsel.key}={morsel.value}" for morsel in page.client.cookie_jar)}
        assert (await it.get("/api/v1/session", headers=copied))[1]["name"] == "alice"
        await page.ask("DELETE", "/api/v1/session", headers=headers)
        assert (await it.get("/api/v1/session", headers=copied))[1] == NOBODY


async def test_wrong_expired_and_revoked_tokens(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        good, old, gone = it.token("alice"), it.token("alice", days=-1.0), it.token("bob")
        assert (await it.put("Run:Title", "x", gone))[0] == 200
        assert it.plugin.tokens is not None
        it.plugin.tokens.revoke("bob")
        for text in (good[:-1] + ("A" if good[-1] != "A" else "B"), old, gone, "nothing"):
            status, problem = await it.put("Run:Title", "x", text)
            assert (status, "wrong, has expired or was revoked" in problem["detail"]) == (401, True)
            status, problem = await it.ask("POST", "/api/v1/session", json={"token": text})
            assert status == 401
        status, _ = await it.get("/api/v1/pvs", headers={"Authorization": "Basic YTpi"})
        assert status == 401
        assert (await it.put("Run:Title", "x", good))[0] == 200


async def test_wrong_tokens_lock_out(tmp_path, monkeypatch):
    computed = []
    fits = proving.fits
    monkeypatch.setattr(proving, "fits", lambda *args: computed.append(args) or fits(*args))
    async with web_rig(tmp_path, monkeypatch) as it:
        used, good = it.token("alice"), it.token("bob")
        assert (await it.put("Run:Title", "x", used))[0] == 200
        begun = len(computed)
        # Of a token that was proved no wrong text costs anything.
        wrong = used[:-6] + "AAAAAA"
        assert (await it.put("Run:Title", "x", wrong))[0] == 401
        assert len(computed) == begun
        answers = [(await it.put("Run:Title", "x", good[:-6] + f"AAAA{n:02}"))[0] for n in range(15)]
        assert answers == [401] * answers.count(401) + [429] * answers.count(429)
        assert 8 <= answers.count(401) <= 10
        assert len(computed) - begun == answers.count(401)
        async with it.client.post(f"{it.url}/api/v1/session", json={"token": good}) as response:
            assert response.status == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 30
        # Who was known before goes on.
        assert (await it.put("Run:Title", "still", used))[0] == 200


async def test_sessions_last_over_a_restart(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it, browser(it) as page:
        headers = await sign_in(page, it.token("alice"))
        await it.rig.stop_ioc()
        await it.rig.start_ioc()
        assert (await page.put("Run:Title", "again", **headers))[0] == 200
        kept = (tmp_path / "state").rglob("*")
        secrets = [morsel.value.encode() for morsel in page.client.cookie_jar]
        for file in kept:
            if file.is_file():
                assert not any(secret in file.read_bytes() for secret in secrets), file


async def test_a_session_ends(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, "session_hours = 1.0") as it, browser(it) as page:
        headers = await sign_in(page, it.token("alice"))
        real = time.time
        monkeypatch.setattr("attpc_plugins.web.sessions.time.time", lambda: real() + 3601)
        assert (await page.put("Run:Title", "late", **headers))[0] == 401
        monkeypatch.undo()


async def test_of_many_sessions_the_oldest_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_plugins.web.sessions.MOST_OF_ONE", 2)
    async with web_rig(tmp_path, monkeypatch) as it:
        token, other = it.token("alice"), it.token("bob")
        async with browser(it) as first, browser(it) as second, browser(it) as third, browser(it) as bob:
            for page, text in ((bob, other), (first, token), (second, token), (third, token)):
                await sign_in(page, text)
            names = [(await page.get("/api/v1/session"))[1]["name"] for page in (bob, first, second, third)]
            assert names == ["bob", "", "alice", "alice"]


async def test_an_open_page_is_told_when_its_rights_change(tmp_path, monkeypatch):
    def rules(user: str) -> str:
        return (
            f"UAG(operators) {{ {user} }}\nASG(DEFAULT) {{ RULE(1, READ) }}\n"
            "ASG(OPERATOR) { RULE(1, READ) RULE(1, WRITE) { UAG(operators) } }\n"
        )

    file = tmp_path / "rules.acf"
    file.write_text(rules("alice"))
    async with web_rig(tmp_path, monkeypatch, access=f'file = "{file}"') as it, browser(it) as page:
        headers = await sign_in(page, it.token("alice"))
        async with streaming(page) as stream:

            async def told() -> dict[str, object]:
                while True:
                    kind, content = await stream.next()
                    if kind == "session":
                        return content

            file.write_text(rules("nobody"))
            it.rig.app.access.ask_again()
            assert await told() == TOLD | {"name": "alice", "role": "operator", "by": "session"}
            assert (await page.put("Run:Title", "x", **headers))[0] == 403
            file.write_text(rules("alice"))
            it.rig.app.access.ask_again()
            writable = (await told())["writable"]
            assert isinstance(writable, list)
            assert f"{it.rig.prefix}Run:Title" in writable
            assert it.plugin.tokens is not None
            it.plugin.tokens.revoke("alice")
            assert (await page.put("Run:Title", "x", **headers))[0] == 401
            assert await told() == TOLD
            assert (await stream.next())[0] == "change"  # it still sees what anyone sees


async def test_viewing_can_need_a_name(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, 'view = "named"') as it, browser(it) as page:
        for path in ("pvs", f"pvs/{it.rig.prefix}State_RBV", "snapshot", "stream"):
            assert (await it.get(f"/api/v1/{path}"))[0] == 401, path
        assert (await it.get("/metrics"))[0] == 401
        for path in ("/healthz", "/readyz", "/api/v1/session", "/api/v1/openapi.json"):
            assert (await it.get(path))[0] == 200, path
        await sign_in(page, it.token("alice", Role.VIEWER))
        assert (await page.get("/api/v1/pvs"))[0] == 200
        async with streaming(page) as stream:
            await stream.next()
            assert it.plugin.tokens is not None
            it.plugin.tokens.revoke("alice")
            with contextlib.suppress(AssertionError):
                while True:
                    await stream.next()
            assert stream.messages[-1] == ("session", TOLD)


# ---------------------------------------------------------------------- the shell


async def shell(it: WebRig, *words: str) -> Ran:
    """Run `attpc-ioc web token`."""
    file = str(it.rig.settings_file)
    process = await forked(SHELL, "web", "token", *words, "--settings", file, stdout=PIPE, stderr=PIPE)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def test_tokens_at_the_shell(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        for running in (True, False):
            if not running:
                await it.rig.stop_ioc()
            name = f"alice{running}"
            made = await shell(it, "add", name, "--role", "operator", "--expires", "30")
            assert made.code == 0, made.both
            token = made.out.strip()
            assert f"{name}, operator, until " in made.err
            if running:
                assert (await it.put("Run:Title", "x", token))[0] == 200
            listed = await shell(it, "list", "--json")
            (found,) = json.loads(listed.out)
            assert (found["name"], found["role"], bool(found["used_s"])) == (name, "operator", running)
            assert found["expires_s"] - found["made_s"] == 30 * 86400
            assert not {"hash", token} & set(listed.out.split('"'))
            people = await shell(it, "list")
            assert name in people.out
            gone = await shell(it, "revoke", name)
            assert (gone.code, found["id"] in gone.out) == (0, True)
            if running:
                assert (await it.put("Run:Title", "x", token))[0] == 401
            again = await shell(it, "revoke", name)
            assert (again.code, "there is no token" in again.err) == (1, True)
            assert "there are no tokens" in (await shell(it, "list")).out
        for words, fault in (
            (("add", "al ice"), "is no name"),
            (("add", "alice", "--role", "king"), "'king' is none of viewer, operator, expert"),
        ):
            ran = await shell(it, *words)
            assert ran.code == 2
            assert fault in " ".join(ran.err.split())
