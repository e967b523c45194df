"""A virtual world for tests: a clock, a network that carries bytes between real cores, one or several hubs, and an
engine that they share; all from one seed.

Nothing in it sleeps, and no time passes but in ``run``. Between the cores run the real wire bytes, so what is proved
here is proved for the protocol that goes over real sockets. Three lines of an app's own test::

    world = World(seed=1)
    alice = world.login("alice")
    alice.network.cut(5.0)
"""

from __future__ import annotations

from ._clients import VirtualClient
from ._network import Direction, VirtualClock, VirtualNetwork, VirtualTransport
from ._nodes import VirtualEngineLink, VirtualNode
from ._world import World

__all__ = [
    "Direction",
    "VirtualClient",
    "VirtualClock",
    "VirtualEngineLink",
    "VirtualNetwork",
    "VirtualNode",
    "VirtualTransport",
    "World",
]
