"""A real nginx with the configuration that the how-to shows, and people who sign in beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.support.ca import free_port
from tests.support.certificates import make_certificate
from tests.support.needs import found
from tests.support.pages import files
from tests.support.patience import PATIENCE_S
from tests.support.process import started

PAGE = "docs/how-to/web.md"

COOKIE = "signed_in"

FRAME = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/attpc-web.conf;
}}
"""


@dataclass
class Front:
    """nginx before the page, and who has a session there: by a cookie, which names them."""

    url: str
    trust: ssl.SSLContext
    people: set[str] = field(default_factory=set)


def proxy_section(folder: Path) -> str:
    """Return the settings of the page behind nginx."""
    return (
        f'[plugins.web.proxy]\nheader = "X-Remote-User"\nsocket = "{folder}/web.socket"\n'
        'role = "operator"\nsign_out = "/oauth2/sign_out"\n'
    )


@contextlib.asynccontextmanager
async def nginx(folder: Path, front: Front | None = None) -> AsyncIterator[Front]:
    """Serve what listens at `web.socket` of a folder; again as `front`, if that is given."""
    program = found("nginx")
    assert program is not None
    if front is None:
        certificate, _ = make_certificate(folder, "front")
        trust = ssl.create_default_context(cafile=str(certificate))
        front = Front(f"https://127.0.0.1:{free_port()}", trust)
    async with _signing_in(front) as at:
        text = files(PAGE)["attpc-web.conf"]
        for shown, here in (
            ("listen 443 ssl", f"listen {front.url.removeprefix('https://')} ssl"),
            ("/etc/nginx/attpc.pem", f"{folder}/front.pem"),
            ("/etc/nginx/attpc.key", f"{folder}/front.key"),
            ("/run/attpc-web/", f"{folder}/"),
            ("127.0.0.1:4180", at),
        ):
            assert shown in text
            text = text.replace(shown, here)
        (folder / "attpc-web.conf").write_text(text)
        (folder / "nginx.conf").write_text(FRAME.format(folder=folder))
        command = [program, "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf"]
        async with started(*command, env=dict(os.environ), folder=folder) as running:
            async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as client:
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectorError):
                        async with client.get(front.url, ssl=front.trust):
                            break
                    assert running.process.returncode is None, running.text
                    await asyncio.sleep(0.02)
            yield front
            await running.end()


@contextlib.asynccontextmanager
async def _signing_in(front: Front) -> AsyncIterator[str]:
    """Do what oauth2-proxy does for nginx: say who asks, show a page to sign in, and sign out."""

    async def who(request: web.Request) -> web.Response:
        await request.read()  # waits if a body is promised that does not come
        name = request.cookies.get(COOKIE, "")
        if name not in front.people:
            return web.Response(status=401)
        return web.Response(status=202, headers={"X-Auth-Request-Preferred-Username": name})

    async def page(_request: web.Request) -> web.Response:
        form = "<p>Who are you?<form action=/oauth2/start><button>Sign in as alice</button></form>"
        return web.Response(text=form, content_type="text/html")

    async def start(_request: web.Request) -> web.Response:
        front.people.add("alice")
        response = web.Response(status=302, headers={"Location": "/"})
        response.set_cookie(COOKIE, "alice", path="/", secure=True, httponly=True)
        return response

    async def sign_out(request: web.Request) -> web.Response:
        front.people.discard(request.cookies.get(COOKIE, ""))
        return web.Response(status=302, headers={"Location": "/"})

    app = web.Application()
    for path, handler in (("auth", who), ("sign_in", page), ("start", start), ("sign_out", sign_out)):
        app.router.add_get(f"/oauth2/{path}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
