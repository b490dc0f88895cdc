"""What the API can do: one list, from which routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from . import problems
from .problems import ProblemBody

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SCHEMAS = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, the path or a header."""

    name: str
    about: str
    where: str = "query"
    schema: dict[str, Any] | None = None
    """JSON schema; None: a string."""

    def described(self) -> dict[str, Any]:
        """Return it as OpenAPI has it."""
        return {
            "name": self.name,
            "in": self.where,
            "description": self.about,
            "required": self.where == "path",
            "schema": self.schema or {"type": "string"},
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    - `answers`: for each status code that is no error the model of the body (or a list of it, or its media
      type where it is no JSON, None for no body), and `problems`: the codes that are errors.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answers: dict[int, type[BaseModel] | list[type[BaseModel]] | str | None]
    body: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()
    public: bool = False
    """Whether it is there for everybody, even if viewing needs a name."""

    @property
    def models(self) -> Iterable[type[BaseModel]]:
        """The models that it uses."""
        for answer in self.answers.values():
            if isinstance(answer, list):
                yield from answer
            elif answer is not None and not isinstance(answer, str):
                yield answer
        if self.body is not None:
            yield self.body


EVERYWHERE = (400, 421, 429, 503)
"""Errors of any request: malformed, for another host, too many, and no more connections or still starting."""


def document(operations: Iterable[Operation], url: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    listed = tuple(operations)
    models = {model: None for operation in listed for model in operation.models} | {ProblemBody: None}
    refs, schemas = models_json_schema([(m, "serialization") for m in models], ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "attpc-ioc", "version": version("attpc-ioc")},
        "servers": [{"url": url.rstrip("/")}],
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {})},
    }


def _described(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    responses = {str(code): _answer(code, answer, refs) for code, answer in operation.answers.items()}
    for code in sorted({*operation.problems, *EVERYWHERE}):
        content = {problems.MEDIA: {"schema": refs[ProblemBody, "serialization"]}}
        responses[str(code)] = {"description": HTTPStatus(code).phrase, "content": content}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.handler.__name__,
        "parameters": [parameter.described() for parameter in operation.parameters],
        "responses": responses,
    }
    if operation.body is not None:
        content = {"application/json": {"schema": refs[operation.body, "serialization"]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answer(code: int, answer: Any, refs: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": HTTPStatus(code).phrase}
    if isinstance(answer, str):
        found["content"] = {answer: {"schema": {"type": "string"}}}
    elif isinstance(answer, list):
        items = refs[answer[0], "serialization"]
        found["content"] = {"application/json": {"schema": {"type": "array", "items": items}}}
    elif answer is not None:
        found["content"] = {"application/json": {"schema": refs[answer, "serialization"]}}
    return found


def packed(body: object) -> web.Response:
    """Return JSON, compressed if the client takes that."""
    response = web.json_response(body)
    response.enable_compression()
    return response
