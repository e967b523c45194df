"""Real-time messaging on asyncio: a client that stays logged in through every interruption, and a server."""

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
