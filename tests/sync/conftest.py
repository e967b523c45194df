"""A server and clients on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rtm_sync import Client, Server, allow_any_uid


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(authenticate=allow_any_uid) as one:
        yield one


@pytest.fixture
def new_client(server: Server) -> Iterator[Callable[..., Client]]:
    """Makes clients that are closed at the end; with a uid they are logged in."""
    with contextlib.ExitStack() as stack:

        def make(uid: str | None = None, *, url: str | None = None, **options: Any) -> Client:
            client = stack.enter_context(Client(url or server.url, **options))
            if uid is not None:
                client.login(uid)
            return client

        yield make
