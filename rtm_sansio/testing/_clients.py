"""The clients of a virtual world: real cores, and calls that let virtual time pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..client import ClientCore
from ..config import ClientConfig
from ..endpoints import parse_endpoint
from ..errors import RtmError
from ..events import (
    ChannelMessageReceived,
    ConnectionStateChanged,
    JoinReceipt,
    MessageReceived,
    PeerDelivery,
    RequestCompleted,
    RequestErred,
    SendReceipt,
)
from ..states import ConnectionState
from ._network import VirtualNetwork, VirtualTransport

if TYPE_CHECKING:
    from ._world import World


class VirtualClient:
    """A real ``ClientCore`` in a world, with calls that let virtual time pass until they are answered.

    ``network`` is its path to the servers, ``core`` the core itself. ``events`` holds all that came out of it but the
    ends of requests, ``timeline`` the same with the virtual time of each, ``ends`` the end of each request by its id,
    ``attempts`` when a transport was asked for, ``asked`` the ids of its ``AskToken``.
    """

    def __init__(self, world: World, config: ClientConfig, *, nodes: list[int]) -> None:
        self._world = world
        self.network = VirtualNetwork(world)
        self.nodes = nodes
        endpoints = [parse_endpoint(f"ws://node{index}.test:80/") for index in nodes]
        self.core = ClientCore(
            config, endpoints=endpoints, rng=random.Random(world.rng.random()), entropy=world.entropy
        )
        self.events: list[Any] = []
        """Everything but the ends of requests, in order."""
        self.timeline: list[tuple[float, Any]] = []
        """The same, each with its virtual time since the start of the world."""
        self.attempts: list[float] = []
        """When each transport was asked for."""
        self.ends: dict[int, RequestCompleted | RequestErred] = {}
        self.end_count: dict[int, int] = {}
        self.transports: dict[int, VirtualTransport] = {}
        self.opening: set[int] = set()
        self.pumping = False
        self.asked: list[int] = []
        """Ids of ``AskToken`` effects."""

    # -- what an app does

    def login(self, uid: str, token: str | None = None, *, wait: bool = True, **options: Any) -> int:
        """Log in; with ``wait`` until it is done, raising what it fails with."""
        return self._do(self.core.login(uid, token, now=self._world.now, **options), wait)[0]

    def logout(self, *, wait: bool = True) -> int:
        """Log out."""
        return self._do(self.core.logout(now=self._world.now), wait)[0]

    def join(self, channel: str, *, echo: bool = False) -> JoinReceipt:
        """Join a channel and wait for it."""
        receipt: JoinReceipt = self._do(self.core.join(channel, echo=echo, now=self._world.now), True)[1]
        return receipt

    def leave(self, channel: str) -> None:
        """Leave a channel and wait for it."""
        self._do(self.core.leave(channel, now=self._world.now), True)

    def send(self, channel: str, message: str | bytes) -> SendReceipt:
        """Send a message and wait for its receipt."""
        receipt: SendReceipt = self._do(self.core.publish(channel, message, now=self._world.now), True)[1]
        return receipt

    def post(self, channel: str, message: str | bytes, **options: Any) -> int:
        """Send a message without waiting; returns the request id, under which ``ends`` will have its end."""
        return self._do(self.core.publish(channel, message, now=self._world.now, **options), False)[0]

    def send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> PeerDelivery:
        """Send a message to a user and wait for where it went."""
        number = self.core.send_to_peer(uid, message, offline=offline, description=description, now=self._world.now)
        delivery: PeerDelivery = self._do(number, True)[1]
        return delivery

    def call(self, command: Callable[[], int], *, wait: bool = False) -> int:
        """Any other command of the core, whose outputs are then carried out::

        client.call(lambda: client.core.renew_token("new", now=world.now), wait=True)
        """
        return self._do(command(), wait)[0]

    def _do(self, request_id: int, wait: bool) -> tuple[int, Any]:
        self._world.pump_client(self)
        if not wait:
            return request_id, None
        self._world.run_until(lambda: request_id in self.ends, limit_seconds=60.0)
        end = self.ends[request_id]
        if isinstance(end, RequestErred):
            raise end.error
        return request_id, end.result

    # -- what a test asks

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self.core.state

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Every switch of state so far: pairs of state and reason."""
        return [(e.state.value, e.reason.value) for e in self.events if isinstance(e, ConnectionStateChanged)]

    def messages(self, channel: str) -> list[str | bytes]:
        """The messages received in a channel so far."""
        return [e.message for e in self.events if isinstance(e, ChannelMessageReceived) and e.channel == channel]

    @property
    def peer_messages(self) -> list[str | bytes]:
        """The messages received from users so far."""
        return [event.message for event in self.events if isinstance(event, MessageReceived)]

    def of_type(self, event_type: type[Any]) -> list[Any]:
        """The events of one type so far."""
        return [event for event in self.events if isinstance(event, event_type)]

    def error_of(self, request_id: int) -> RtmError | None:
        """What a request failed with, or None if it has not failed."""
        end = self.ends.get(request_id)
        return end.error if isinstance(end, RequestErred) else None
