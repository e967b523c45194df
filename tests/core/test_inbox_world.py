"""Peer messages between real clients and hubs in the virtual world (S23, S25, S30, S33, S36, S46, S55, S56), also under
random faults from many seeds."""

from __future__ import annotations

import random

import pytest

from core.checked_core import CheckedClientCore
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import Outcome, RequestRefused, RtmError
from rtm_sansio.events import (
    ConnectionStateChanged,
    MessageReceived,
    MessagesLost,
    PeerDelivery,
    RequestCompleted,
)
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import VirtualClient, World, _clients

BACK = [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every core in these worlds checks its promises at each call."""
    monkeypatch.setattr(_clients, "ClientCore", CheckedClientCore)


@pytest.mark.parametrize("nodes", [1, 2])
def test_received(nodes: int) -> None:
    """S36: at once, with a server's time; a stranger gets nothing."""
    world = World(nodes=nodes)
    alice, bob = world.login("alice", node=nodes - 1), world.login("bob")
    delivery = bob.send_to_peer("alice", "hi", description="about")
    assert (delivery.received, delivery.kept) == (True, False)
    world.run(0.1)
    (event,) = alice.of_type(MessageReceived)
    assert (event.uid, event.message, event.description, event.kept) == ("bob", "hi", "about", False)
    assert event.sent_at == delivery.sent_at
    nowhere = bob.send_to_peer("nobody", "hi", offline=True)
    assert (nowhere.received, nowhere.kept) == (False, False)


@pytest.mark.parametrize("nodes", [1, 2])
def test_kept_for_the_next_login(nodes: int) -> None:
    """S36, S55, S56: first of all, in order, marked; once."""
    world = World(nodes=nodes)
    bob = world.login("bob")
    alice = world.login("alice", node=nodes - 1)
    alice.logout()
    for text in "abc":
        assert bob.send_to_peer("alice", text, offline=True).kept
    assert not bob.send_to_peer("alice", "not kept").kept
    alice.login("alice")
    assert bob.send_to_peer("alice", "live").received
    world.run(2.0)
    events = alice.events[-5:]
    assert isinstance(events[0], ConnectionStateChanged)
    assert [(event.message, event.kept) for event in events[1:]] == [
        ("a", True),
        ("b", True),
        ("c", True),
        ("live", False),
    ]
    alice.logout()
    alice.login("alice")
    world.run(2.0)
    assert len(alice.peer_messages) == 4


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("seconds", [2.0, 20.0, 45.0])
def test_an_interruption(seconds: float, nodes: int) -> None:
    """S23, S25, S36, S56: unseen, resumed, and after the end of the session: all that was taken arrives, once and in
    order; what was kept for it is marked only if it waited for a new session."""
    world = World(nodes=nodes)
    bob, alice = world.login("bob"), world.login("alice", node=[0, 1] if nodes == 2 else 0)
    bob.send_to_peer("alice", "before")
    alice.network.cut(seconds)
    taken = ["before"]
    for number in range(int(seconds * 2)):
        offline = number % 5 == 0
        delivery = bob.send_to_peer("alice", str(number), offline=offline)
        if delivery.received or delivery.kept:
            taken.append(str(number))
        world.run(0.5)
    world.run(15.0)
    bob.send_to_peer("alice", "after")
    world.run(2.0)
    assert alice.peer_messages == [*taken, "after"]
    assert alice.of_type(MessagesLost) == []
    assert any(event.kept for event in alice.of_type(MessageReceived)) == (seconds == 45.0)
    assert alice.changes[2:] == ([] if seconds == 2.0 else BACK)


def test_the_limits_of_received() -> None:
    """S36: heard within 6 s, or not; kept until the end of the session at 30 s, without offline as well."""
    world = World()
    bob, alice = world.login("bob"), world.login("alice")
    alice.network.cut(100.0)
    world.run(5.9)
    assert bob.send_to_peer("alice", "a").received
    world.run(0.2)
    assert bob.send_to_peer("alice", "b").kept
    world.run(23.8)
    assert bob.send_to_peer("alice", "c").kept
    world.run(0.2)
    delivery = bob.send_to_peer("alice", "d")
    assert (delivery.received, delivery.kept) == (False, False)


@pytest.mark.parametrize("nodes", [1, 2])
def test_takeover(nodes: int) -> None:
    """S30, S56: the new instance has what the old one had not confirmed; the old one has nothing of the new one's."""
    world = World(nodes=nodes)
    bob, old = world.login("bob"), world.login("alice")
    bob.send_to_peer("alice", "to the old one")
    old.network.stall("down")
    bob.send_to_peer("alice", "offline", offline=True)
    new = world.login("alice", node=nodes - 1)
    bob.send_to_peer("alice", "to the new one")
    old.network.restore()
    world.run(5.0)
    assert old.peer_messages in (["to the old one"], ["to the old one", "offline"])
    assert new.peer_messages == ["offline", "to the new one"]
    assert old.changes[-1] == ("ABORTED", "REMOTE_LOGIN")


def test_a_restart_is_a_gap() -> None:
    """S17, S33, S56: of unknown size, then what comes."""
    world = World()
    bob, alice = world.login("bob"), world.login("alice")
    bob.send_to_peer("alice", "before")
    world.restart_server()
    world.run(5.0)
    bob.send_to_peer("alice", "after")
    world.run(1.0)
    assert alice.peer_messages == ["before", "after"]
    assert alice.of_type(MessagesLost) == [MessagesLost(channel="", count=None)]
    assert alice.of_type(MessageReceived)[1].lost_before is None


def test_an_inbox_in_which_nobody_looks() -> None:
    """S52, S55: the application iterates and takes nothing: the transport goes on; what is no longer there is a gap of
    known size, and the rest comes once and in order."""
    world = World(server_config=ServerConfig(max_inbox_bytes=256 * 1024))
    bob = world.login("bob")
    alice = world.client(config=ClientConfig(max_queued_events=10))
    alice.core.iterating("", True, now=world.now)
    alice.login("alice")
    for number in range(40):
        bob.send_to_peer("alice", b"%02d" % number + bytes(10_000))
        world.run(0.5)
    assert len(alice.peer_messages) == 10
    assert alice.changes == [("CONNECTING", "LOGIN"), ("CONNECTED", "LOGIN_SUCCESS")]
    for _ in range(5):
        alice.core.consumed("", 10, 100_200, now=world.now)
        world.pump_client(alice)
        world.run(1.0)
    (lost,) = alice.of_type(MessagesLost)
    numbers = [int(message[:2]) for message in alice.peer_messages]
    assert lost.count is not None
    assert numbers == [*range(10), *range(10 + lost.count, 40)]
    events = [event for event in alice.events if isinstance(event, (MessageReceived, MessagesLost))]
    assert events.index(lost) == 10


def test_a_sender_above_its_share() -> None:
    """S55: its newest is refused; nobody else's is dropped."""
    world = World()
    bob, carol, alice = world.login("bob"), world.login("carol"), world.login("alice")
    alice.logout()
    for number in range(20):
        assert bob.send_to_peer("alice", str(number), offline=True).kept
    with pytest.raises(RequestRefused) as refusal:
        bob.send_to_peer("alice", "one too many", offline=True)
    assert (refusal.value.code, refusal.value.outcome) == ("sender_share", Outcome.REFUSED)
    assert carol.send_to_peer("alice", "hers", offline=True).kept
    alice.login("alice")
    world.run(2.0)
    assert alice.peer_messages == [*map(str, range(20)), "hers"]


def test_a_reconnect_in_the_middle_of_a_confirmation() -> None:
    """S56: what was read and not confirmed is not given again: the cursor is the client's."""
    world = World()
    bob, alice = world.login("bob"), world.login("alice")
    for number in range(10):
        bob.send_to_peer("alice", str(number), offline=True)
        alice.network.reset()
        world.run(0.3)
    world.run(5.0)
    assert alice.peer_messages == [str(number) for number in range(10)]
    home = world.nodes[0].hub._engine._embedded._users._homes["alice"]  # type: ignore[union-attr]
    assert home.inbox is not None
    assert (home.inbox.position, len(home.inbox.log)) == (10, 0)


class Story:
    """Three users write to each other while everything breaks, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(seed=seed, nodes=self.random.choice([1, 2]))
        self.clients: dict[str, VirtualClient] = {}
        self.sent: dict[str, list[tuple[int, str, str, bool]]] = {}
        self.count = 0
        self.restarted = False
        nodes = list(range(len(self.world.nodes)))
        for uid in ("alice", "bob", "carol"):
            client = self.world.client(node=self.random.choice([nodes, [self.random.choice(nodes)]]))
            client.login(uid)
            client.network.jitter_seconds = self.random.choice([0.0, 0.05])
            client.network.max_chunk_bytes = self.random.choice([None, None, 5])
            self.clients[uid] = client
            self.sent[uid] = []

    def step(self) -> None:
        choose = self.random.choice
        uid = choose(list(self.clients))
        client = self.clients[uid]
        kind = self.random.random()
        network = client.network
        if kind < 0.6:
            self.count += 1
            text, to, offline = f"{self.count}", choose(list(self.clients)), self.random.random() < 0.5
            try:
                number = client.call(
                    lambda: client.core.send_to_peer(
                        to, text, offline=offline, timeout_seconds=choose([None, 2.0, 60.0]), now=self.world.now
                    )
                )
            except RtmError:
                return
            self.sent[uid].append((number, to, text, offline))
        elif kind < 0.72:
            network.cut(choose([0.1, 1.0, 5.0, 12.0, 40.0]))
        elif kind < 0.84:
            network.stall(*choose([(), ("up",), ("down",)]), seconds=choose([0.5, 3.0, 6.0, 15.0]))
        elif kind < 0.92:
            network.reset_after(self.random.randint(1, 400), choose(["up", "down"]))
        elif kind < 0.99 or len(self.world.nodes) > 1:
            network.reset()
        else:
            self.restarted = True
            self.world.restart_server()
        self.world.run(self.random.choice([0.0, 0.0, 0.01, 0.3, 2.0]))

    def finish(self) -> None:
        for client in self.clients.values():
            client.network.restore()
            client.network.reset()
        self.world.run(70.0)

    def check(self) -> None:
        for uid, client in self.clients.items():
            assert client.state is ConnectionState.CONNECTED
            assert set(client.end_count.values()) <= {1}
            messages = client.peer_messages
            assert len(messages) == len(set(messages)), "once"
            lost = bool(client.of_type(MessagesLost))
            assert self.restarted or not lost
            for sender, sent in self.sent.items():
                theirs = [text for _, to, text, _ in sent if to == uid]
                heard = [text for text in messages if text in set(theirs)]
                assert heard == sorted(heard, key=lambda text: int(str(text))), "in the order of the calls"
                for number, to, text, _ in sent:
                    end = self.clients[sender].ends[number]
                    if to != uid or not isinstance(end, RequestCompleted):
                        continue
                    assert isinstance(end.result, PeerDelivery)
                    if end.result.received or end.result.kept:
                        assert text in messages or lost, "taken, so it arrives or is reported"
                    else:
                        assert text not in messages, "it went nowhere"


@pytest.mark.parametrize("seed", range(40))
def test_random_faults(seed: int) -> None:
    """S9, S33, S36, S46, S56: each message once, in the order of its sender's calls, or told to be gone; on one node
    and on two; through expired sessions and restarts."""
    story = Story(seed)
    for _ in range(80):
        story.step()
    story.finish()
    story.check()


@pytest.mark.parametrize("seed", range(10))
def test_random_logins(seed: int) -> None:
    """S7, S36, S56: a user comes and goes, on either node: what was sent with offline arrives exactly once and in
    order, whether the user was there, about to leave, or away."""
    rng = random.Random(seed)
    world = World(seed=seed, nodes=2)
    bob, alice = world.login("bob"), world.client(node=[0, 1])
    alice.login("alice")
    sent: list[str] = []
    refused: set[str] = set()
    for number in range(150):
        if rng.random() < 0.2:
            if alice.state is ConnectionState.CONNECTED:
                alice.logout(wait=rng.random() < 0.5)
            elif alice.state is ConnectionState.DISCONNECTED:
                alice.login("alice", wait=rng.random() < 0.5)
        try:
            bob.send_to_peer("alice", str(number), offline=True)
        except RequestRefused as refusal:
            refused.add(refusal.code)
        else:
            sent.append(str(number))
        world.run(rng.choice([0.0, 0.0005, 0.002, 0.5]))
    if alice.state is not ConnectionState.CONNECTED:
        world.run(3.0)
        if alice.state is ConnectionState.DISCONNECTED:
            alice.login("alice")
    world.run(3.0)
    assert alice.peer_messages == sent
    assert alice.of_type(MessagesLost) == []
    assert refused <= {"sender_share"}
