"""What can go wrong with the network of the virtual world, and what cannot: hold and release beside stall and cut."""

from __future__ import annotations

import pytest

from rtm_sansio.events import LeaveCause, MemberLeft
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import World


def test_hold_down_keeps_back_what_the_server_sends():
    """What the client sends arrives; what it is sent waits, all of it, and comes in order at ``release``."""
    world = World(seed=1)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.hold("down")
    number = alice.post("lobby", "hello")
    for text in ("a", "b", "c"):
        bob.send("lobby", text)
    world.run(1.0)
    assert bob.messages("lobby") == ["hello"]
    assert number not in alice.ends
    assert alice.messages("lobby") == []
    alice.network.release()
    world.run(0.01)
    assert alice.error_of(number) is None
    assert number in alice.ends
    assert alice.messages("lobby") == ["a", "b", "c"]
    assert alice.changes == bob.changes


def test_hold_up_keeps_back_what_the_client_sends():
    """And nothing else; the requests take effect in their order at ``release``."""
    world = World(seed=1)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.hold("up")
    numbers = [alice.post("lobby", text) for text in ("a", "b", "c")]
    bob.send("lobby", "hello")
    world.run(1.0)
    assert alice.messages("lobby") == ["hello"]
    assert bob.messages("lobby") == []
    assert not set(numbers) & set(alice.ends)
    alice.network.release()
    world.run(0.01)
    assert bob.messages("lobby") == ["a", "b", "c"]
    assert set(numbers) <= set(alice.ends)
    assert alice.changes == bob.changes


def test_hold_is_of_one_client():
    """Each client has a network of its own."""
    world = World(seed=1)
    alice, bob, carol = (world.login(uid, "lobby") for uid in ("alice", "bob", "carol"))
    alice.network.hold("up")
    alice.network.hold("down")
    for _ in range(30):
        bob.send("lobby", "x")
        carol.send("lobby", "y")
        world.run(1.0)
    assert bob.messages("lobby") == ["y"] * 30
    assert carol.messages("lobby") == ["x"] * 30
    assert alice.messages("lobby") == []
    assert alice.state is ConnectionState.RECONNECTING


@pytest.mark.parametrize("how", ["hold", "stall"])
def test_new_connections_work_while_one_direction_is_held(how: str):
    """A connection is made, and what goes over it is held as well; with ``stall`` both ways there is none at all."""
    world = World(seed=1)
    alice = world.login("alice", "lobby")
    if how == "hold":
        alice.network.hold("down")
    else:
        alice.network.stall()
    alice.network.reset()
    world.run(2.0)
    assert bool(alice.transports) is (how == "hold")
    assert len(alice.changes) == 2
    alice.network.release()
    world.run(0.1 if how == "hold" else 12.0)
    assert alice.state is ConnectionState.CONNECTED
    assert alice.send("lobby", "hello").offset > 0


def test_a_logout_is_held_behind_what_was_sent_before_it():
    """Bytes keep their order, whatever they are."""
    world = World(seed=1)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.hold("up")
    alice.post("lobby", "last words")
    number = alice.logout(wait=False)
    world.run(1.0)
    assert bob.messages("lobby") == []
    assert bob.of_type(MemberLeft) == []
    assert number not in alice.ends
    alice.network.release()
    world.run(0.1)
    assert bob.messages("lobby") == ["last words"]
    assert [event.cause for event in bob.of_type(MemberLeft)] == [LeaveCause.LOGGED_OUT]
    assert number in alice.ends


def test_release_without_a_hold_does_nothing():
    """As often as it is called."""
    world = World(seed=1)
    alice = world.login("alice", "lobby")
    for _ in range(2):
        alice.network.release()
        world.run(5.0)
    assert len(alice.changes) == 2
    assert len(alice.attempts) == 1
