"""Clients against real hubs in the virtual world: what a client sees of the whole (S12, S17, S25, S30, S31, S33, S34,
S46), under random faults from many seeds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.checked_core import CheckedClientCore
from rtm_sansio.config import ServerConfig
from rtm_sansio.errors import LoginFailed, Outcome, RequestsFull, RtmError
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    JoinReceipt,
    MemberJoined,
    MemberLeft,
    MessagesLost,
    RequestCompleted,
    RequestErred,
    SendReceipt,
)
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import VirtualClient, World, _clients

BACK = [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every core in these worlds checks its promises at each call."""
    monkeypatch.setattr(_clients, "ClientCore", CheckedClientCore)


@pytest.mark.parametrize("seed", range(5))
def test_short_outage_is_unseen(seed: int):
    """S12, S21: an outage of up to 3 s ends unnoticed, and nothing is lost."""
    world = World(seed=seed)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    world.run(12.0)
    alice.network.cut(3.0)
    for index in range(5):
        bob.send("lobby", str(index))
        world.run(0.5)
    world.run(3.0)
    assert len(alice.changes) == 2
    assert alice.messages("lobby") == list("01234")
    assert bob.of_type(MemberLeft) == []


@pytest.mark.parametrize("kind", ["cut", "stall"])
def test_outage_within_the_presence_grace(kind: str):
    """S23, S33: back within 30 s: the same session; everything arrives once, in order; members see nothing."""
    world = World(seed=2)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    getattr(alice.network, kind)(seconds=20.0)
    for index in range(10):
        bob.send("lobby", str(index))
        world.run(1.0)
    world.run(20.0)
    assert alice.changes[2:] == BACK
    assert alice.messages("lobby") == [str(index) for index in range(10)]
    assert alice.of_type(MessagesLost) == []
    assert bob.of_type(MemberLeft) == bob.of_type(MemberJoined) == []


def test_outage_beyond_the_presence_grace():
    """S24, S25: the client logs in anew by itself, rejoins, and gets what the log still has."""
    world = World(seed=2)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.cut(50.0)
    world.run(20.0)
    bob.send("lobby", "kept")
    world.run(45.0)
    assert alice.changes[2:] == BACK
    assert [type(event) for event in bob.events[2:]] == [MemberLeft, MemberJoined]
    assert alice.messages("lobby") == ["kept"]


def test_what_left_the_history_is_a_gap():
    """S33: what the log no longer has is reported first."""
    config = ServerConfig(history_entries=3, history_seconds=41.0)
    world = World(seed=2, server_config=config)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.network.cut(120.0)
    for index in range(10):
        bob.send("lobby", str(index))
        world.run(10.0)
    world.run(60.0)
    lost = alice.of_type(MessagesLost)
    assert len(lost) == 1
    assert lost[0].count is not None
    assert lost[0].count > 0
    messages = [event for event in alice.events if isinstance(event, ChannelMessageReceived)]
    assert [event.message for event in messages] == [str(index) for index in range(10 - len(messages), 10)]
    assert messages[0].lost_before == lost[0].count


def test_server_restart():
    """S17, S25, S56, F-26: the session is gone: both events, at once; rejoined; a gap of unknown size in the inbox
    and in the channel."""
    world = World(seed=2)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    bob.send("lobby", "before")
    world.run(5.0)
    world.restart_server()
    world.run(3.0)
    assert alice.changes[2:] == bob.changes[2:] == BACK
    assert [(event.channel, event.count) for event in alice.of_type(MessagesLost)] == [("", None), ("lobby", None)]
    bob.send("lobby", "after")
    world.run(1.0)
    assert alice.messages("lobby") == ["before", "after"]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("outage", [0.0, 3.0, 60.0])
def test_remote_login(nodes: int, outage: float):
    """S30, S31, F-46 to F-48: the other instance is ABORTED, at once or on its next attempt; the newest login stays."""
    world = World(seed=4, nodes=nodes)
    old = world.login("alice", "lobby")
    world.run(5.0)
    if outage:
        old.network.cut(outage)
        world.run(0.5)
    new = world.login("alice", "lobby", node=nodes - 1)
    world.run(outage + 10.0)
    assert old.changes[-1] == ("ABORTED", "REMOTE_LOGIN")
    assert new.state is ConnectionState.CONNECTED
    attempts = len(old.attempts)
    world.run(100.0)
    assert len(old.attempts) == attempts
    assert len(new.changes) == 2


def test_newest_login_wins_after_a_restart():
    """S31: whichever comes back first after a server restart."""
    for first in (0, 1):
        world = World(seed=first)
        old = world.login("alice")
        old.network.cut(40.0)
        world.run(5.0)
        new = world.login("alice")
        new.network.cut(5.0 + 10.0 * first)
        old.network.restore()
        world.stop_server()
        world.run(1.0)
        world.start_server()
        world.run(60.0)
        assert (old.state.value, new.state.value) == ("ABORTED", "CONNECTED")


def test_kick_and_ban():
    """S8, S31: kicked: a new login is free; banned: it is refused."""
    world = World(seed=1)
    alice = world.login("alice")
    world.nodes[0].hub.kick("alice", now=world.now)
    world.run(1.0)
    assert alice.changes[-1] == ("ABORTED", "KICKED_BY_SERVER")
    alice.logout()
    alice.login("alice")
    world.nodes[0].hub.ban("alice", 100.0, now=world.now)
    world.run(1.0)
    assert alice.changes[-1] == ("ABORTED", "BANNED_BY_SERVER")
    alice.logout()
    with pytest.raises(LoginFailed) as caught:
        alice.login("alice")
    assert caught.value.code == "banned"


@pytest.mark.parametrize("first", [True, False])
def test_welcome_lost_with_the_transport(first: bool):
    """S17-S19: the server has accepted the login, or the login anew after the session had ended, and the welcome never
    arrives: the next attempt gets the session that was made, and ends none."""
    lost = 0
    for byte_count in range(101, 401, 12):
        world = World(seed=byte_count)
        bob = world.login("bob", "lobby")
        alice = world.client()
        if not first:
            alice.login("alice")
            alice.join("lobby")
            alice.network.cut()
            world.run(40.0)
            alice.network.restore()
        alice.network.reset_after(byte_count, "down")
        if first:
            alice.login("alice")
        world.run(12.0)
        assert alice.state is ConnectionState.CONNECTED
        engine = world.nodes[0].hub._engine._embedded
        assert engine is not None
        home = engine._users._homes["alice"]
        assert home.session is not None
        assert len(home.past_logins) == (0 if first else 1)
        assert alice.changes[2:] == ([] if first else BACK)
        assert len(bob.of_type(MemberJoined)) == (0 if first else 2)
        lost += home.session.attach == 2 and home.session.confirmed_attach == 2
    assert lost >= 5


def test_answer_lost_with_the_transport():
    """S34, S46, F-29: the log has the message once, the sender its receipt."""
    for byte_count in range(1, 60, 3):
        world = World(seed=byte_count)
        alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
        world.run(2.0)
        alice.network.reset_after(byte_count, "down")
        number = alice.post("lobby", "once")
        world.run(5.0)
        end = alice.ends[number]
        assert isinstance(end, RequestCompleted)
        assert bob.messages("lobby") == ["once"]


@pytest.mark.parametrize("provider", [False, True])
def test_token_runs_out_during_an_outage(provider: bool):
    """S27, S25: a static token waits for renew_token; a provider is asked unseen."""
    good = {"t0": 8.0}

    def authenticate(event: Any) -> Any:
        expires = good.get(event.token)
        return (4101, "expired") if expires is None or expires <= world.elapsed else world.clock.wall + 8.0

    world = World(seed=3, authenticate=authenticate)
    alice = world.client()
    alice.login("alice", "t0", token_provider=provider)
    alice.network.cut(15.0)
    world.run(20.0)
    good["t1"] = 1000.0
    if provider:
        for _ in range(20):
            world.run(0.5)
            alice.call(lambda: alice.core.token_supplied(alice.asked[-1], "t1", now=world.now) or 0)
    else:
        assert [type(event).__name__ for event in alice.events].count("TokenExpired") == 1
        number = alice.call(lambda: alice.core.renew_token("t1", now=world.now), wait=True)
        assert isinstance(alice.ends[number], RequestCompleted)
    world.run(8.0)
    assert alice.changes[2:] == BACK


def test_flood_of_sends():
    """S45, S35: an app that sends 5,000 messages as fast as it may never sees a rate error, nor the server a flood."""
    world = World(seed=1)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    numbers: list[int] = []
    while len(numbers) < 5000:
        try:
            numbers.append(alice.post("lobby", str(len(numbers))))
        except RequestsFull:
            world.run(0.05)
    world.run(5.0)
    assert all(isinstance(alice.ends[number], RequestCompleted) for number in numbers)
    assert bob.messages("lobby") == [str(index) for index in range(5000)]
    assert len(alice.attempts) == 1


# --- random faults


class Story:
    """Three clients and their faults, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(seed=seed, nodes=self.random.choice([1, 1, 2]))
        self.clients: list[VirtualClient] = []
        self.sent: dict[int, dict[int, str]] = {}
        self.joins: dict[int, dict[int, str]] = {}
        self.count = 0
        for uid in ("alice", "bob", "carol"):
            client = self.world.client(node=self.random.randrange(len(self.world.nodes)))
            client.login(uid)
            client.network.jitter_seconds = self.random.choice([0.0, 0.05])
            client.network.max_chunk_bytes = self.random.choice([None, None, 5])
            self.clients.append(client)
            self.sent[id(client)] = {}
            self.joins[id(client)] = {}
            self.join(client, "lobby")

    def join(self, client: VirtualClient, channel: str) -> None:
        number = client.call(lambda: client.core.join(channel, echo=True, now=self.world.now))
        self.joins[id(client)][number] = channel

    def step(self) -> None:
        client, choose = self.random.choice(self.clients), self.random.choice
        kind = self.random.random()
        network = client.network
        try:
            if kind < 0.5:
                self.count += 1
                text = f"{self.count}"
                number = client.post(choose(["lobby", "other"]), text, timeout_seconds=choose([None, 2.0, 60.0]))
                self.sent[id(client)][number] = text
            elif kind < 0.56:
                self.join(client, choose(["lobby", "other"]))
            elif kind < 0.60:
                client.call(lambda: client.core.leave("other", now=self.world.now))
            elif kind < 0.64:
                client.call(lambda: client.core.retry_now(now=self.world.now) or 0)
            elif kind < 0.74:
                network.cut(choose([0.1, 1.0, 5.0, 12.0, 40.0]))
            elif kind < 0.84:
                network.stall(*choose([(), ("up",), ("down",)]), seconds=choose([0.5, 3.0, 6.0, 15.0]))
            elif kind < 0.90:
                network.reset_after(self.random.randint(1, 400), choose(["up", "down"]))
            elif kind < 0.985 or len(self.world.nodes) > 1:
                network.reset()
            else:
                self.world.restart_server()
        except RtmError:
            pass
        self.world.run(self.random.choice([0.0, 0.0, 0.01, 0.3, 2.0]))

    def finish(self) -> None:
        for client in self.clients:
            client.network.restore()
            client.network.reset()
        self.world.run(70.0)

    def check(self) -> None:
        for client in self.clients:
            assert client.state is ConnectionState.CONNECTED
            assert client.core.seen_issued == set(client.ends)  # type: ignore[attr-defined]
            assert set(client.end_count.values()) == {1}
            for channel in ("lobby", "other"):
                self.check_channel(client, channel)
            for number, text in self.sent[id(client)].items():
                self.check_sent(client, number, text)

    def check_channel(self, client: VirtualClient, channel: str) -> None:
        """Each entry once and in order, or a gap is reported: with ``echo`` every entry is an event."""
        starts = {
            end.result.offset
            for end in client.ends.values()
            if isinstance(end, RequestCompleted)
            and isinstance(end.result, JoinReceipt)
            and end.result.channel == channel
        }
        cursor: int | None = None
        for event in client.events:
            if getattr(event, "channel", None) != channel:
                continue
            if isinstance(event, (MessagesLost, ChannelLost)):
                cursor = None
                continue
            assert isinstance(event, (ChannelMessageReceived, MemberJoined, MemberLeft))
            assert cursor is None or event.offset == cursor + 1 or event.offset - 1 in starts, (channel, event, cursor)
            cursor = event.offset

    def check_sent(self, client: VirtualClient, number: int, text: str) -> None:
        """A message confirmed is received by all who had its offset, one refused by nobody; none twice."""
        end = client.ends[number]
        copies = [
            [
                event.offset
                for event in other.events
                if isinstance(event, ChannelMessageReceived) and event.message == text
            ]
            for other in self.clients
        ]
        assert all(len(one) <= 1 for one in copies)
        if isinstance(end, RequestCompleted):
            assert isinstance(end.result, SendReceipt)
            assert {offset for one in copies for offset in one} <= {end.result.offset}
        elif isinstance(end, RequestErred) and end.error.outcome is not Outcome.UNKNOWN:  # type: ignore[attr-defined]
            assert copies == [[], [], []], (end, copies)


@pytest.mark.parametrize("seed", range(10))
def test_random_faults(seed: int):
    """S2, S9, S33, S34, S46, F-27 to F-31, promises 1 to 6: each message once and in order or a gap report, each
    request ended exactly once, no forbidden switch, everybody back in the end."""
    story = Story(seed)
    for _ in range(60):
        story.step()
    story.finish()
    story.check()
