"""Real-time messaging on asyncio: a client that stays logged in through every interruption, and a server.

A name is imported when it is first asked for: the command ``rtm`` lives in this package, and Ctrl-C is to end it from
its first moment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtm_sansio.auth import Identity, JwtAuthenticator, LoginDenied, allow_any_uid

    from .client import Channel, Client
    from .server import Server

__all__ = [
    "Channel",
    "Client",
    "Identity",
    "JwtAuthenticator",
    "LoginDenied",
    "Server",
    "allow_any_uid",
]

_OWN = {"Channel": "rtm_async.client", "Client": "rtm_async.client", "Server": "rtm_async.server"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_OWN.get(name, "rtm_sansio.auth")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
