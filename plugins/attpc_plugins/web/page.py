"""The files of the page, read once: no request names a path of the disk."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import hdrs, web

FOLDER = Path(__file__).parent / "static"
MEDIA = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class _File:
    media: str
    content: bytes
    packed: bytes
    etag: str


class Page:
    """The page's files, by the path of their URL."""

    def __init__(self) -> None:
        self._files = {_url(path): _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA}
        # By this an open page notices that any of its files is another one.
        whole = _etag("".join(file.etag for file in self._files.values()).encode())
        self._files["/"] = replace(self._files["/"], etag=whole)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the URLs."""
        return tuple(self._files)

    async def file(self, request: web.Request) -> web.Response:
        """Return a file, unless the browser has it already."""
        file = self._files[request.path]
        headers = {hdrs.ETAG: file.etag, hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if request.headers.get(hdrs.IF_NONE_MATCH) == file.etag:
            return web.Response(status=304, headers=headers)
        content = file.content
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            content, headers[hdrs.CONTENT_ENCODING] = file.packed, "gzip"
        return web.Response(body=content, content_type=file.media, charset="utf-8", headers=headers)


def _url(path: Path) -> str:
    return "/" if path.name == "index.html" else f"/static/{path.name}"


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(MEDIA[path.suffix], content, gzip.compress(content, mtime=0), _etag(content))


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
