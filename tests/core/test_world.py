"""The virtual world itself: what apps test their own code with is like a network, and says when it cannot go on."""

from __future__ import annotations

from typing import Any

import pytest

from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.errors import InvalidArgument, RequestRefused, RequestTimeout
from rtm_sansio.events import ConnectionStateChanged, LeaveCause, LoginRequested, MemberLeft, RequestErred
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import World, _world


def test_an_outage_in_three_lines():
    """What the module is for: an app's own test of a link that is cut."""
    world = World(seed=1)
    alice = world.login("alice", "lobby")
    alice.network.cut(5.0)
    world.run(12.0)
    assert alice.changes[-2:] == [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]


def test_the_same_seed_is_the_same_run():
    """Promise 8: what a seed has shown can be looked at again."""

    def run(seed: int) -> list[tuple[float, Any]]:
        world = World(seed=seed, latency_seconds=0.01)
        alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
        alice.network.jitter_seconds = 0.05
        alice.network.cut(4.5)
        for index in range(10):
            bob.send("lobby", str(index))
            world.run(1.0)
        return alice.timeline + bob.timeline

    assert run(3) == run(3)
    assert [when for when, _ in run(3)] != [when for when, _ in run(4)]


def test_a_condition_that_never_holds():
    world = World()
    before = world.now
    with pytest.raises(TimeoutError, match="within 7 virtual seconds"):
        world.run_until(lambda: False, limit_seconds=7)
    assert world.now == before + 7


def test_a_deadline_that_never_advances(monkeypatch: pytest.MonkeyPatch):
    """A fault in a core would hang a test: it is told."""
    world = World()
    alice = world.client()
    monkeypatch.setattr(_world, "_MAX_PASSES", 50)
    monkeypatch.setattr(alice.core, "next_deadline", lambda: world.now)
    with pytest.raises(RuntimeError, match="no end after 50 passes"):
        world.run(1.0)


def test_a_slow_reader_is_paused_and_catches_up():
    """S49, S51: what a socket does not take is reported; reading stops and goes on; nothing is lost."""
    world = World(server_config=ServerConfig(slow_reader_bytes=64 * 1024, feed_below_bytes=16 * 1024))
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.socket_buffer_bytes = 10_000
    alice.network.hold("down")
    sent = [f"{number:020000}" for number in range(20)]
    for message in sent:
        bob.send("lobby", message)
    (transport,) = world.transports_of(alice.network)
    assert transport.pipes["down"].accepted == 10_000
    assert sum(map(len, transport.pipes["down"].unsent)) > 64 * 1024
    assert not transport.reading["up"]
    alice.network.release()
    world.run(2.0)
    assert transport.reading["up"]
    assert alice.messages("lobby") == sent


def test_a_client_with_more_to_say_than_its_socket_takes():
    """The client's own bytes wait as well, and arrive in order; more than one report is made of them."""
    world = World()
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.socket_buffer_bytes = 1_000
    for number in range(10):
        alice.post("lobby", f"{number:030000}")
    world.run(1.0)
    assert bob.messages("lobby") == [f"{number:030000}" for number in range(10)]


def test_what_waited_is_sent_before_the_end():
    """A close behind unsent bytes: they arrive, and then the end of the stream."""
    world = World()
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.socket_buffer_bytes = 10
    alice.post("lobby", "x" * 1000)
    alice.logout(wait=False)
    world.run(3.0)
    assert bob.messages("lobby") == ["x" * 1000]
    assert [event.cause for event in bob.of_type(MemberLeft)] == [LeaveCause.LOGGED_OUT]


def test_a_hold_that_begins_while_bytes_arrive():
    """In the middle of one delivery: the rest is kept back."""
    world = World()
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.hold("down")
    for number in range(4):
        bob.send("lobby", str(number))

    def on_event(event: Any) -> None:
        alice.network.hold("down")
        kept.append(event)

    kept: list[Any] = []
    alice.events = _Watched(on_event)
    alice.network.release()
    world.run(1.0)
    assert len(kept) == 1
    alice.events = _Watched(kept.append)
    alice.network.release()
    world.run(1.0)
    assert len(kept) == 4


class _Watched(list[Any]):
    """A list that tells what is appended to it."""

    def __init__(self, on_append: Any) -> None:
        super().__init__()
        self._on_append = on_append

    def append(self, item: Any) -> None:
        super().append(item)
        self._on_append(item)


def test_a_verdict_that_the_test_gives():
    """``...`` leaves it open; the same for a renewal."""
    asked: list[Any] = []

    def authenticate(request: Any) -> Any:
        asked.append(request)
        return ...

    world = World(authenticate=authenticate)
    alice = world.client()
    alice.login("alice", "token", wait=False)
    world.run(1.0)
    (request,) = asked
    assert isinstance(request, LoginRequested)
    world.nodes[0].hub.refuse_login(request.transport_id, Code.BAD_TOKEN, "no", now=world.now)
    world.run(1.0)
    assert alice.changes[-1] == ("DISCONNECTED", "LOGIN_FAILURE")


def test_a_connection_withdrawn_before_it_was_up():
    """A logout while the transport is opened: the server never hears of it."""
    world = World(latency_seconds=0.1)
    alice = world.client()
    alice.login("alice", wait=False)
    world.run(0.05)
    alice.logout()
    world.run(1.0)
    assert world.nodes[0].transports == {}
    assert alice.transports == {}


def test_a_server_stopped_while_its_engine_answers():
    """The answer is for nobody, and the new hub never sees it."""
    world = World(nodes=2, engine_latency_seconds=0.2)
    world.run(1.0)  # the nodes have their leases
    alice = world.client()
    alice.login("alice", wait=False)
    world.run(0.6)
    world.restart_server(0)
    world.run(20.0)
    assert alice.changes[-1] == ("CONNECTED", "LOGIN_SUCCESS")
    assert alice.core.attempts >= 2


def test_bytes_for_a_server_that_has_stopped():
    """They are lost, as in any network; the client finds out by itself."""
    world = World()
    alice = world.login("alice", "lobby")
    alice.network.latency_seconds = 0.2
    number = alice.post("lobby", "lost")
    world.stop_server(orderly=True)
    world.run(11.0)
    assert isinstance(alice.ends[number], RequestErred)
    assert alice.of_type(ConnectionStateChanged)[-1].state.value == "RECONNECTING"


def test_a_link_that_is_pulled_in_a_handler():
    """The client's next words had been said already; they are lost with the connection, and sent again later."""
    world = World()
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.cut(6.0)
    world.run(5.0)
    number = alice.post("lobby", "once")
    pulled: list[Any] = []

    def on_event(event: Any) -> None:
        if isinstance(event, ConnectionStateChanged) and event.state is ConnectionState.CONNECTED and not pulled:
            pulled.append(event)
            alice.network.reset()

    alice.events = _Watched(on_event)
    world.run(20.0)
    assert pulled
    assert alice.error_of(number) is None
    assert bob.messages("lobby") == ["once"]


def test_a_link_that_is_pulled_by_the_authenticator():
    """The same on the server's side: what it had to say is dropped, and the order of the rest stays."""

    def authenticate(request: Any) -> None:
        if request.uid == "bob":
            world.nodes[0].hub.close(now=world.now)
            alice.network.reset()

    world = World(authenticate=authenticate)
    alice = world.login("alice", "lobby")
    bob = world.client()
    bob.login("bob", wait=False)
    world.run(1.0)
    assert world.nodes[0].transports == {}
    assert alice.transports == {}


def test_calls_that_wait():
    """Each returns when its end has come, with its result or its error."""
    world = World(server_config=ServerConfig(max_channels=1))
    alice = world.login("alice", "lobby")
    alice.leave("lobby")
    alice.network.cut(60.0)
    number = alice.call(lambda: alice.core.join("lobby", timeout_seconds=1.0, now=world.now))
    assert alice.error_of(number) is None
    world.run(2.0)
    assert isinstance(alice.error_of(number), RequestTimeout)


def test_a_renewal_is_judged_like_a_login():
    """By the same function: with a pair it is refused, and the session stays."""
    world = World(authenticate=lambda request: (Code.BAD_TOKEN, "no") if request.token == "bad" else None)
    alice = world.login("alice")
    with pytest.raises(RequestRefused, match="no"):
        alice.call(lambda: alice.core.renew_token("bad", now=world.now), wait=True)
    alice.call(lambda: alice.core.renew_token("good", now=world.now), wait=True)
    assert alice.state is ConnectionState.CONNECTED


@pytest.mark.parametrize(
    "mistake",
    [
        lambda world, network: network.stall("sideways"),
        lambda world, network: network.hold("both"),
        lambda world, network: network.reset_after(1, "left"),
        lambda world, network: network.cut(-5),
        lambda world, network: network.cut("5"),
        lambda world, network: network.stall(seconds=-1),
        lambda world, network: world.run(-1),
        lambda world, network: world.run(float("inf")),
        lambda world, network: World(nodes=0),
    ],
)
def test_a_mistake_in_a_test_is_told(mistake: Any):
    """A test that does nothing would pass."""
    world = World()
    network = world.client().network
    with pytest.raises(InvalidArgument):
        mistake(world, network)
    assert not network.stalled
    assert not network.refusing
