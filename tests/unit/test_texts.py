"""Texts of the program: clients of Channel Access show other characters than ASCII as `\\xc2\\xb5`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("attpc_ioc", "plugins")
    for path in (ROOT / folder).rglob("*.py")
    # XML, pages and the database have more characters; these texts are for no client of Channel Access.
    if path.name not in ("xml.py", "xcfg.py", "connections.py") and not {"screens", "web"} & set(path.parts)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_ascii(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments
    ]
    # Half a surrogate pair stands for a byte of a file name.
    assert [text for text in texts if not text.isascii() and not "\udc80" <= text <= "\udcff"] == []
