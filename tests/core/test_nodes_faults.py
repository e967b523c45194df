"""Nodes that die, stand still, or are cut from the engine, with real clients, from many seeds (E2, E5, E7, E8; S14,
S22-S24, S26, S33; F-83, F-87 to F-91)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtm_sansio.config import ClientConfig
from rtm_sansio.events import ChannelMessageReceived, LeaveCause, MemberJoined, MemberLeft, MessagesLost, RequestErred
from rtm_sansio.testing import VirtualClient, World

PATIENT = ClientConfig(request_timeout_seconds=120.0)
SOON = 0.1
"""Latencies."""


def make_world(seed: int, **settings: Any) -> World:
    """Two or three nodes; how long the engine's answers take differs from call to call."""
    world = World(seed=seed, nodes=settings.pop("nodes", 2), client_config=PATIENT, **settings)
    for node in world.nodes:
        node.engine.jitter_seconds = 0.003
    world.run(1.0 + random.Random(seed).random() * 2.0)  # anywhere between two renewals
    return world


def left(witness: VirtualClient, uid: str) -> list[tuple[float, LeaveCause]]:
    """When, and why, a witness saw somebody leave."""
    return [(when, one.cause) for when, one in witness.timeline if isinstance(one, MemberLeft) and one.uid == uid]


def check_order(reader: VirtualClient, channel: str, sent: list[str]) -> None:
    """All of it arrived, once, in order, and no gap was told."""
    assert reader.messages(channel) == sent
    assert reader.of_type(MessagesLost) == []
    offsets = [event.offset for event in reader.of_type(ChannelMessageReceived)]
    assert offsets == sorted(set(offsets))


def check_no_ghosts(world: World) -> None:
    """Every member is a session that lists the channel, every list is right, and nothing is left to be done."""
    engine = world.engine
    assert engine is not None
    users, channels = engine._users._homes, engine._channels._homes
    for home in channels.values():
        for uid, session_id in home.members.items():
            session = users[uid].session
            assert session is not None, f"{uid} haunts {home.name}"
            assert session.session_id == session_id
            assert home.name in session.channels
    for user in users.values():
        assert not user.todos
        if user.session is not None:
            for name in user.session.channels:
                assert channels[name].members.get(user.uid) == user.session.session_id
    assert not engine._nodes.has_lost


@pytest.mark.parametrize("seed", range(10))
class TestDeath:
    """A node dies without a word."""

    @pytest.mark.parametrize("silent", [False, True])
    def test_sessions_of_a_dead_node_end_once(self, seed: int, silent: bool) -> None:
        """S24, E7, F-87: 30 s from the interruption, never early, at most 4 s late; each witness sees one MemberLeft,
        whichever node carries it out."""
        world = make_world(seed, nodes=3)
        witnesses = [world.login(f"witness{node}", "room", node=node) for node in (1, 2)]
        alice = world.login("alice", "room", node=0)
        world.run(random.Random(seed).random() * 5.0)
        world.kill_node(0, silent=silent)
        died_at = world.elapsed
        world.run(60.0)
        for witness in witnesses:
            ((when, cause),) = left(witness, "alice")
            assert cause is LeaveCause.TIMED_OUT
            assert died_at + 30.0 <= when <= died_at + 34.0 + SOON
        assert alice.state.value == "RECONNECTING"
        check_no_ghosts(world)

    @pytest.mark.parametrize("silent", [False, True])
    def test_clients_of_a_dead_node_go_on_elsewhere(self, seed: int, silent: bool) -> None:
        """S23, F-40, F-87: the same session, nobody sees anything, and what was sent meanwhile arrives."""
        world = make_world(seed)
        bob = world.login("bob", "room", node=1)
        alice = world.client(node=[0, 1])
        alice.login("alice")
        alice.join("room")
        sent: list[str] = []
        for number in range(60):
            if number == 10:
                world.kill_node(0, silent=silent)
            sent.append(str(number))
            bob.send("room", str(number))
            alice.post("room", f"a{number}")
            world.run(0.3)
        world.run(60.0)
        assert alice.state.value == "CONNECTED"
        check_order(alice, "room", sent)
        check_order(bob, "room", [f"a{number}" for number in range(60)])
        assert [type(one) for one in bob.events if isinstance(one, (MemberLeft, MemberJoined))] == [MemberJoined]
        check_no_ghosts(world)

    def test_a_node_that_starts_anew_under_its_name(self, seed: int) -> None:
        """E7: its old lease ends with the new one's beginning; whoever comes back in time goes on, whoever does not
        ends once."""
        world = make_world(seed)
        witness = world.login("witness", "room", node=1)
        alice = world.login("alice", "room", node=0)
        bob = world.login("bob", "room", node=0)
        world.kill_node(0)
        bob.network.cut()
        died_at = world.elapsed
        world.run(random.Random(seed).random() * 8.0)
        world.start_server(0)
        world.run(50.0)
        assert alice.state.value == "CONNECTED"
        assert left(witness, "alice") == []
        ((when, _),) = left(witness, "bob")
        assert died_at + 30.0 <= when <= died_at + 34.0 + SOON
        check_no_ghosts(world)

    def test_nobody_is_left_to_do_it(self, seed: int) -> None:
        """E2, E7: all nodes die; what follows is done by the first one that starts, however late."""
        world = make_world(seed)
        clients = [world.login("alice", "room", node=0), world.login("bob", "room", node=1)]
        for client in clients:
            client.network.stall()
        for index in (0, 1):
            world.kill_node(index, silent=bool(seed % 2))
        world.run(10.0 + seed * 3)
        world.start_server(0)
        world.run(60.0)
        check_no_ghosts(world)
        assert world.engine is not None
        assert world.engine._channels._homes["room"].members == {}


@pytest.mark.parametrize("seed", range(10))
class TestCuts:
    """The connection to the engine breaks."""

    @pytest.mark.parametrize("straggle_seconds", [0.0, 1.0])
    def test_publish_on_one_arrives_on_the_other(self, seed: int, straggle_seconds: float) -> None:
        """S33, S46, E5, F-83: exactly once and in order, over any number of short cuts; calls that were under way may
        be carried out twice, and late."""
        world = make_world(seed)
        rng = random.Random(seed)
        alice, bob = world.login("alice", "room", node=0), world.login("bob", "room", node=1)
        for node in world.nodes:
            node.engine.straggle_seconds = straggle_seconds
        sent: dict[str, list[str]] = {"alice": [], "bob": []}
        for number in range(80):
            if rng.random() < 0.2:
                link = rng.choice(world.nodes).engine
                rng.choice([link.cut, link.stall])(rng.random() * 2.0)
            for client, uid in ((alice, "alice"), (bob, "bob")):
                client.post("room", f"{uid} {number}")
                sent[uid].append(f"{uid} {number}")
            world.run(rng.random() * 0.3)
        world.run(20.0)
        assert alice.changes == bob.changes == [("CONNECTING", "LOGIN"), ("CONNECTED", "LOGIN_SUCCESS")]
        check_order(alice, "room", sent["bob"])
        check_order(bob, "room", sent["alice"])
        check_no_ghosts(world)

    def test_announcements_that_are_lost_for_good(self, seed: int) -> None:
        """E5, F-85, F-86: nobody says anything more; the ends are compared, at the latest after 30 s."""
        world = make_world(seed)
        alice, bob = world.login("alice", "room", node=0), world.login("bob", "room", node=1)
        assert world.engine is not None
        world.engine._channels._homes["room"].watchers.pop("node1")  # as if the subscription had gone silently
        alice.send("room", "one")
        assert bob.messages("room") == []
        world.run(30.0 + SOON)
        check_order(bob, "room", ["one"])
        alice.send("room", "two")
        world.run(SOON)
        check_order(bob, "room", ["one", "two"])

    def test_a_node_that_was_cut_acknowledges_nothing(self, seed: int) -> None:
        """E7, S26, F-89: and after 6 s its clients go elsewhere; nothing is lost, nothing comes twice."""
        world = make_world(seed)
        rng = random.Random(seed)
        bob = world.login("bob", "room", node=1)
        alice = world.client(node=[0, 1])
        alice.login("alice")
        alice.join("room")
        world.run(rng.random() * 3.0)
        link = world.nodes[0].engine
        link.survival = 1.0 if seed % 2 else 0.0
        link.straggle_seconds = 10.0
        before = alice.post("room", "under way")
        world.run(0.0015)  # it is with the hub, and what the hub asks for is on its way
        if seed % 3:
            link.cut()
        else:
            link.stall()
        cut_at = world.elapsed
        sent = ["under way"]
        for number in range(40):
            sent.append(str(number))
            pending = alice.post("room", str(number))
            bob.send("room", f"bob {number}")
            world.run(0.1)
            if 0.1 < world.elapsed - cut_at < 3.9:
                assert before not in alice.ends
                assert pending not in alice.ends
        world.run(20.0)
        assert alice.state.value == "CONNECTED"
        assert world.nodes[0].transports == {}
        assert len(world.nodes[1].transports) == 2
        check_order(bob, "room", sent)
        check_order(alice, "room", [f"bob {number}" for number in range(40)])
        assert all(not isinstance(end, RequestErred) for end in alice.ends.values())
        link.restore()
        world.run(20.0)
        check_order(bob, "room", sent)
        assert left(bob, "alice") == []
        check_no_ghosts(world)
        newcomer = world.login("carol", "room", node=0)  # it serves again
        bob.send("room", "welcome back")
        world.run(SOON)
        assert newcomer.messages("room") == ["welcome back"]

    def test_logins_while_the_node_is_cut(self, seed: int) -> None:
        """E7: refused as soon as it knows; a client with two URLs gets in, and whatever the cut node had begun is
        harmless."""
        world = make_world(seed)
        link = world.nodes[0].engine
        link.survival, link.straggle_seconds = 0.5, 10.0
        alice = world.client(node=[0, 1])
        alice.login("alice", wait=False)
        world.run(0.002 + 0.003 * (seed % 7) / 7)
        link.cut()
        world.run(7.0)
        bob = world.client(node=[0, 1])
        bob.login("bob")
        assert bob.core.attempts == 2
        bob.join("room")
        if alice.state.value == "DISCONNECTED":  # all of its 6 s had gone into the cut node
            alice.login("alice")
        world.run(10.0)
        assert alice.state.value == "CONNECTED"
        alice.join("room")
        link.restore()
        world.run(40.0)
        assert alice.state.value == bob.state.value == "CONNECTED"
        check_no_ghosts(world)


@pytest.mark.parametrize("seed", range(10))
class TestStandstill:
    """A node's process stands still."""

    def test_shorter_than_its_lease(self, seed: int) -> None:
        """E7, S14: nothing is lost, nobody is dropped."""
        world = make_world(seed)
        rng = random.Random(seed)
        world.client_config = ClientConfig(interruption_grace_seconds=8.0, request_timeout_seconds=60.0)
        alice, bob = world.login("alice", "room", node=0), world.login("bob", "room", node=1)
        world.run(rng.random() * 2.0)
        world.pause_node(0, rng.random() * 3.9)
        for number in range(10):
            alice.post("room", f"a{number}")
            bob.send("room", f"b{number}")
            world.run(0.3)
        world.run(10.0)
        check_order(bob, "room", [f"a{number}" for number in range(10)])
        check_order(alice, "room", [f"b{number}" for number in range(10)])
        assert alice.changes == [("CONNECTING", "LOGIN"), ("CONNECTED", "LOGIN_SUCCESS")]
        assert len(alice.attempts) == 1

    def test_longer_than_its_lease(self, seed: int) -> None:
        """E8, F-90: its clients resumed elsewhere; what it had gathered is recognised or gone, and nobody is
        disturbed when it wakes."""
        world = make_world(seed)
        rng = random.Random(seed)
        bob = world.login("bob", "room", node=1)
        alice, carol = world.client(node=[0, 1]), world.client(node=[0, 1])
        for client, uid in ((alice, "alice"), (carol, "carol")):
            client.login(uid)
            client.join("room")
        sent = []
        for number in range(5):
            sent.append(f"early {number}")
            alice.post("room", f"early {number}")
        world.run(rng.random() * 0.004)  # with the client, the network, the hub or the engine
        world.pause_node(0)
        carol.logout(wait=False)
        for number in range(10):
            sent.append(str(number))
            alice.post("room", str(number))
            world.run(rng.random())
        world.run(7.0 + rng.random() * 50.0)
        assert alice.state.value == "CONNECTED"
        assert world.engine is not None
        assert world.engine._users._homes["alice"].session is not None
        attach = world.engine._users._homes["alice"].session.attach
        state = [list(alice.changes), list(alice.attempts)]
        world.wake_node(0)
        world.run(40.0)
        assert [alice.changes, alice.attempts] == state
        assert world.engine._users._homes["alice"].session.attach == attach
        assert [message for message in bob.messages("room") if message in sent] == sent
        assert bob.of_type(MessagesLost) == []
        assert left(bob, "alice") == []
        assert len(left(bob, "carol")) == 1
        check_no_ghosts(world)
