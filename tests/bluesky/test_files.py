"""The documents that are made of a run's files."""

from __future__ import annotations

from typing import Any

from attpc_ioc.bluesky.files import stream_docs

FILE = {"name": "CoBo0_AsAd0_0000.graw", "size": 7, "modified_s": 1.5}


def docs(routers: list[dict[str, Any]] | None) -> list[tuple[str, Any]]:
    return list(stream_docs({"experiment": "e1", "run": 4, "routers": routers}, "attpc-files", 3))


def router(files: list[dict[str, Any]] | None, folder: str | None = "/data/e 1/run_0004") -> dict[str, Any]:
    return {"router": "CoBo0", "sources": ["CoBo0"], "host": "daq0", "folder": folder, "files": files}


def test_a_file_is_a_resource_with_one_datum():
    (kind, resource), (datum_kind, datum) = docs([router([FILE])])
    assert (kind, datum_kind) == ("stream_resource", "stream_datum")
    assert resource["uri"] == "file://daq0/data/e%201/run_0004/CoBo0_AsAd0_0000.graw"
    assert (resource["mimetype"], resource["data_key"]) == ("application/x-graw", "attpc-files")
    assert resource["parameters"] == {
        "run": 4, "experiment": "e1", "router": "CoBo0", "sources": ["CoBo0"], "size": 7, "modified_s": 1.5,
    }  # fmt: skip
    assert datum["stream_resource"] == resource["uid"]
    assert datum["indices"] == {"start": 3, "stop": 4}


def test_a_name_keeps_its_bytes():
    file = {**FILE, "name": "a\\xff b.txt", "name_bytes": b"a\xff b.txt".hex()}
    (_, resource), _ = docs([router([file])])
    assert resource["uri"].endswith("/run_0004/a%FF%20b.txt")
    assert resource["mimetype"] == "application/octet-stream"


def test_what_is_not_known_has_no_documents():
    assert docs([router(None, folder=None)]) == []
    assert docs(None) == []
