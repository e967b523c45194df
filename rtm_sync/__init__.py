"""Real-time messaging with threads: a blocking client, and a server for scripts and tests.

The protocol is in ``rtm_sansio``; this package drives it over sockets, with one I/O thread for each client
and each server.
"""

from rtm_sansio.auth import Identity, JwtAuthenticator, LoginDenied, allow_any_uid

from .client import Channel, Client
from .server import Server

__all__ = ["Channel", "Client", "Identity", "JwtAuthenticator", "LoginDenied", "Server", "allow_any_uid"]
