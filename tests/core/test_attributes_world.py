"""Attributes between real clients, over a virtual network, on one node and on two (S23, S24, S25, S39, S42, S46)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtm_sansio.config import ServerConfig
from rtm_sansio.errors import RequestRefused, RtmError
from rtm_sansio.events import (
    AttributesLost,
    AttributesReceipt,
    ChannelAttributesChanged,
    ConnectionStateChanged,
    RequestCompleted,
)
from rtm_sansio.testing import VirtualClient, World


def change(world: World, client: VirtualClient, channel: str | None = None, **fields: Any) -> int:
    """Have attributes changed; the revision."""
    number = client.call(lambda: client.core.change_attributes(channel, now=world.now, **fields), wait=True)
    receipt: AttributesReceipt = client.ends[number].result  # type: ignore[union-attr, assignment]
    return receipt.revision


def read(world: World, client: VirtualClient, **fields: Any) -> Any:
    number = client.call(lambda: client.core.read_attributes(now=world.now, **fields), wait=True)
    return client.ends[number].result  # type: ignore[union-attr]


@pytest.fixture(params=[1, 2])
def world(request: Any) -> World:
    return World(nodes=request.param)


def pair(world: World) -> tuple[VirtualClient, VirtualClient]:
    """Two users, on two nodes if there are two; the first may move."""
    alice = world.client(node=list(range(len(world.nodes))))
    alice.login("alice")
    return alice, world.login("bob", node=len(world.nodes) - 1)


def test_back_within_the_presence(world: World) -> None:
    """S23: others see them all the time, and they are as they were: what was asked for meanwhile is done once."""
    alice, bob = pair(world)
    first = change(world, alice, put={"a": "1"})
    alice.network.cut(10.0)
    world.run(8.0)
    asked = alice.call(lambda: alice.core.change_attributes(put={"b": "2"}, expected_revision=first, now=world.now))
    assert read(world, bob, uid="alice").values == {"a": "1"}
    world.run(10.0)
    assert isinstance(alice.ends[asked], RequestCompleted)
    assert read(world, bob, uid="alice").values == {"a": "1", "b": "2"}


def test_renewed_after_the_presence(world: World) -> None:
    """S24, S25, S42: gone at 30 s; set again before CONNECTED is shown, as the client knew them."""
    alice, bob = pair(world)
    before = change(world, alice, put={"a": "1", "b": "1"})
    change(world, alice, drop=["b"])
    alice.network.cut(40.0)
    world.run(29.0)
    assert read(world, bob, uid="alice").values == {"a": "1"}
    world.run(2.0)
    assert read(world, bob, uid="alice").values == {}
    world.run_until(lambda: alice.changes[-1] == ("CONNECTED", "LOGIN_SUCCESS") and len(alice.changes) > 2)
    renewed = read(world, bob, uid="alice")
    assert renewed.values == {"a": "1"}
    assert renewed.revision > before
    assert alice.of_type(AttributesLost) == []


def test_a_restart_without_memory(world: World) -> None:
    """S17, S25: the client's copy is what is left; revisions go on."""
    alice, bob = pair(world)
    before = change(world, alice, put={"a": "1"})
    change(world, alice, "room", put={"b": "1"})
    for index in range(len(world.nodes)):
        world.restart_server(index)
    world.run(20.0)
    after = read(world, bob, uid="alice")
    assert after.values == {"a": "1"}
    assert after.revision > before
    assert read(world, bob, channel="room").revision == 0


def test_a_restart_with_smaller_limits() -> None:
    """S25, S45: what no longer fits is told, and the connection goes on."""
    world = World()
    alice = world.login("alice", "room")
    change(world, alice, put={"a": "v" * 3000})
    world.server_config = ServerConfig(max_attribute_value_bytes=1000)
    world.restart_server()
    world.run(20.0)
    (lost,) = alice.of_type(AttributesLost)
    assert lost.code == "invalid_attribute"
    place = alice.events.index(lost)
    assert isinstance(alice.events[place - 1], ConnectionStateChanged)
    assert alice.state.value == "CONNECTED"
    change(world, alice, put={"a": "v"})
    world.restart_server()
    world.run(20.0)
    assert read(world, alice).values == {"a": "v"}
    assert len(alice.of_type(AttributesLost)) == 1


def test_lost_between_the_welcome_and_the_statement(world: World) -> None:
    """S25, S59: a large statement comes behind the welcome; the session that is resumed then is given it all the
    same."""
    alice, bob = pair(world)
    change(world, alice, put={"a": "v" * 8000, "b": "v" * 8000})
    change(world, alice, put={"c": "v" * 375})
    alice.network.cut(31.0)
    world.run(30.5)
    attempts = len(alice.attempts)
    alice.network.reset_after(9000, "up")  # in the middle of the statement
    world.run(20.0)
    assert len(alice.attempts) >= attempts + 2
    assert alice.state.value == "CONNECTED"
    assert set(read(world, bob, uid="alice").values) == {"a", "b", "c"}


def test_a_notice_from_one_who_is_no_member(world: World) -> None:
    """S39, S33: each member once, in the order of the log, also the one that was away."""
    alice, bob = pair(world)
    carol = world.login("carol", "room")
    bob.join("room")
    carol.network.cut(5.0)
    bob.send("room", "before")
    change(world, alice, "room", put={"topic": "tea"}, notify=True)
    bob.send("room", "after")
    world.run(20.0)
    for client in (bob, carol):
        (told,) = client.of_type(ChannelAttributesChanged)
        assert (told.uid, told.put, told.replaced) == ("alice", {"topic": "tea"}, False)
    kinds = [type(event).__name__ for event in carol.events if getattr(event, "channel", None) == "room"]
    assert kinds == [
        "MemberJoined",
        "ChannelMessageReceived",
        "ChannelAttributesChanged",
        "ChannelMessageReceived",
    ]
    assert alice.of_type(ChannelAttributesChanged) == []


def test_a_logout_ends_them(world: World) -> None:
    """S59, S39: the next login has none."""
    alice, bob = pair(world)
    change(world, alice, put={"a": "1"})
    alice.logout()
    assert read(world, bob, uid="alice").values == {}
    alice.login("alice")
    assert read(world, alice).values == {}


@pytest.mark.parametrize("seed", range(12))
def test_counters_that_nobody_loses(seed: int) -> None:
    """S39, S46: many add one by compare-and-set, through cuts and on two nodes; each that is told so has added."""
    world = World(seed=seed, nodes=1 + seed % 2)
    rng = random.Random(seed)
    clients = []
    for number in range(4):
        client = world.client(node=list(range(len(world.nodes))))
        client.login(f"user{number}")
        client.network.jitter_seconds = 0.05
        clients.append(client)
    added = unknown = 0
    codes: set[str] = set()
    for _ in range(60):
        client = rng.choice(clients)
        if rng.random() < 0.3:
            other = rng.choice(clients)
            if rng.random() < 0.5:
                other.network.cut(rng.uniform(0.0, 3.0))
            else:
                other.network.reset_after(rng.randint(1, 300), rng.choice(["up", "down"]))
        snapshot = read(world, client, channel="room")
        value = int(snapshot.values.get("count", "0")) + 1
        try:
            change(world, client, "room", put={"count": str(value)}, expected_revision=snapshot.revision)
            added += 1
        except RequestRefused as refused:
            codes.add(refused.code)
        except RtmError:
            unknown += 1
        world.run(rng.uniform(0.0, 0.5))
    world.run(10.0)
    count = int(read(world, clients[0], channel="room").values["count"])
    assert added <= count <= added + unknown
    assert codes <= {"revision_conflict"}


@pytest.mark.parametrize("seed", range(16))
def test_the_copy_is_what_the_server_has(seed: int) -> None:
    """S25, S46, S59: whatever becomes of the links, once nothing is under way both are the same; a new session too."""
    world = World(seed=seed, nodes=1 + seed % 2)
    rng = random.Random(seed)
    alice, bob = pair(world)
    for step in range(80):
        key = rng.choice("abcd")
        fields: dict[str, Any] = rng.choice(
            [
                {"put": {key: str(step)}},
                {"put": {key: str(step), "z": "z"}, "drop": [rng.choice("efa")]},
                {"drop": [key]},
                {"put": {key: str(step)}, "replace": True},
                {"replace": True},
                {"put": {key: "never"}, "expected_revision": 1},
            ]
        )
        options = {"timeout_seconds": rng.choice([None, 0.002, 0.5])}
        number = alice.call(lambda f=fields, o=options: alice.core.change_attributes(now=world.now, **f, **o))  # type: ignore[misc]
        if rng.random() < 0.1:
            alice.core.cancel(number, now=world.now)
        if rng.random() < 0.2:
            alice.network.reset_after(rng.randint(1, 500), rng.choice(["up", "down"]))
        if rng.random() < 0.05:
            alice.network.cut(rng.choice([1.0, 6.0, 35.0]))
        world.run(rng.choice([0.0, 0.0005, 0.002, 0.3, 2.0]))
    alice.network.restore()
    world.run(60.0)
    assert alice.state.value == "CONNECTED"
    copy = alice.core._conversation.own_attributes.wanted or {}
    assert read(world, bob, uid="alice").values == copy
    alice.network.cut(35.0)
    world.run(60.0)
    assert read(world, bob, uid="alice").values == copy
