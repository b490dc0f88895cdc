"""An ECC client under test, and the ways in which it asks."""

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from attpc_ioc.ecc import EccClient
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation

CONFIG = ConfigName("cobo0", "e1", "e1")
SOURCES = (SourceView("CoBo0", "CoBo[0]", "cobo0", (DataLinkView("d", "127.0.0.1", 46005, "TCP"),)),)


@asynccontextmanager
async def client_of(url: str, **limits: float):
    client = EccClient(url, name="cobo0", **limits)
    try:
        yield client
    finally:
        await client.close()


def ask_state(client: EccClient) -> Awaitable[object]:
    return client.get_state()


def ask_configs(client: EccClient) -> Awaitable[object]:
    return client.get_config_ids()


def prepare(client: EccClient) -> Awaitable[object]:
    return client.transition(Operation.PREPARE, CONFIG, SOURCES)


ways = pytest.mark.parametrize("call", [ask_state, ask_configs, prepare])
Call = Callable[[EccClient], Awaitable[object]]
