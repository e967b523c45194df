"""Everything at once, for minutes: clients, nodes and random faults of all kinds; then calm, and the truth (S2, S23 to
S26, S33, S46, E2, E5, E7, E8; F-83, F-87 to F-91)."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from core.checked_core import CheckedClientCore
from core.test_nodes_faults import check_no_ghosts
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import RtmError
from rtm_sansio.events import ChannelMessageReceived, MemberJoined, MemberLeft, MessagesLost, RequestErred
from rtm_sansio.testing import VirtualClient, World, _clients

CHANNELS = ["lobby", "den"]
CALM_SECONDS = 60.0


class Soak:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.world = world = World(
            seed=seed,
            nodes=rng.choice([2, 3]),
            client_config=ClientConfig(request_timeout_seconds=30.0),
            latency_seconds=0.01,
        )
        world.run(1.0)
        everywhere = list(range(len(world.nodes)))
        self.clients: list[VirtualClient] = []
        self.members: dict[tuple[str, str], set[str]] = {}
        """By reader and channel: who is in it, as the reader was told."""
        self.joined_at: dict[tuple[str, str], int] = {}
        for number in range(5):
            client = world.client(node=rng.sample(everywhere, len(everywhere)))
            client.login(f"user{number}")
            self.clients.append(client)
            for channel in CHANNELS:
                receipt = client.join(channel)
                assert receipt.members is not None
                self.members[f"user{number}", channel] = set(receipt.members)
                self.joined_at[f"user{number}", channel] = receipt.offset
        self.guest = world.client(node=rng.sample(everywhere, len(everywhere)))
        """Comes, joins, and goes again, whenever it can."""
        self.sent: dict[tuple[str, str], list[tuple[str, int]]] = {}
        """By sender and channel: message and request id."""

    def fault(self) -> None:
        rng, world = self.rng, self.world
        node = rng.choice(world.nodes)
        client = rng.choice([*self.clients, self.guest])
        seconds = rng.choice([0.05, 0.5, 3.0, 8.0]) * rng.random() * 2
        kind = rng.randrange(10)
        if kind == 0:
            client.network.cut(seconds)
        elif kind == 1:
            client.network.stall(seconds=seconds)
        elif kind == 2:
            client.network.reset_after(rng.randrange(300), rng.choice(["up", "down"]))
        elif kind in (3, 4):
            node.engine.survival = rng.random()
            node.engine.straggle_seconds = rng.choice([0.0, 0.5, 5.0])
            node.engine.cut(seconds)
        elif kind == 5:
            node.engine.stall(seconds)
        elif kind == 6:
            node.engine.jitter_seconds = rng.choice([0.0, 0.002, 0.1])
        elif kind == 7 and node.running:
            world.pause_node(node.index, seconds)
        elif kind == 8 and node.running and sum(one.running for one in world.nodes) > 1:
            world.kill_node(node.index, silent=rng.random() < 0.5)
            world.call_later(seconds * 2, lambda: world.start_server(node.index))
        elif kind == 9:
            node.engine.latency_seconds = rng.choice([0.0005, 0.005, 0.05])

    def run(self) -> None:
        rng, world = self.rng, self.world
        end = world.elapsed + 80.0
        number = 0
        while world.elapsed < end:
            if rng.random() < 0.15:
                self.fault()
            if rng.random() < 0.1:
                self.come_or_go()
            for client in rng.sample(self.clients, 2):
                uid, channel = client.core.uid, rng.choice(CHANNELS)
                assert uid is not None
                if client.state.value in ("CONNECTED", "RECONNECTING"):
                    number += 1
                    request = client.post(channel, f"{uid} {number}")
                    self.sent.setdefault((uid, channel), []).append((f"{uid} {number}", request))
            world.run(rng.random() * 0.4)
        self.calm()

    def come_or_go(self) -> None:
        guest, now, channel = self.guest, self.world.now, self.rng.choice(CHANNELS)
        state = guest.state.value
        if state == "DISCONNECTED":
            guest.login("guest", wait=False)
        elif state == "CONNECTED" and self.rng.random() < 0.7:
            for command in (guest.core.join, guest.core.leave):
                with contextlib.suppress(RtmError):  # it is in it already; or its join is not answered yet
                    guest.call(lambda command=command: command(channel, now=now))  # type: ignore[misc]
                    break
        elif state != "CONNECTING":
            guest.logout(wait=False)

    def calm(self) -> None:
        for client in (*self.clients, self.guest):
            client.network.restore()
        for node in self.world.nodes:
            node.engine.restore()
            node.engine.latency_seconds, node.engine.jitter_seconds = 0.0005, 0.0
            if node.paused:
                self.world.wake_node(node.index)
            elif not node.running:
                self.world.start_server(node.index)
        if self.guest.state.value != "DISCONNECTED":
            self.guest.logout(wait=False)
        self.world.run(CALM_SECONDS)

    # -- the truth

    def check(self) -> None:
        assert [client.state.value for client in self.clients] == ["CONNECTED"] * len(self.clients)
        check_no_ghosts(self.world)
        for client in self.clients:
            assert all(count == 1 for count in client.end_count.values())
            for channel in CHANNELS:
                self.check_reader(client, channel)
        engine = self.world.engine
        assert engine is not None
        assert "guest" not in engine._users._homes or engine._users._homes["guest"].session is None
        everybody = {f"user{number}" for number in range(len(self.clients))}
        for channel in CHANNELS:
            home = engine._channels._homes[channel]
            assert set(home.members) == everybody
            assert set(home.watchers) <= {f"node{node.index}" for node in self.world.nodes}

    def check_reader(self, reader: VirtualClient, channel: str) -> None:
        uid = reader.core.uid
        assert uid is not None
        last, members, gaps = self.joined_at[uid, channel], self.members[uid, channel], 0
        heard: dict[str, list[str]] = {}
        for event in reader.events:
            if getattr(event, "channel", None) != channel:
                continue
            if isinstance(event, MessagesLost):
                gaps += 1
            elif isinstance(event, (ChannelMessageReceived, MemberJoined, MemberLeft)):
                assert event.offset > last
                last = event.offset
                self.take(event, heard, members)
        assert gaps == 0, "nothing was trimmed, so nothing may be reported lost"
        assert members == {f"user{number}" for number in range(len(self.clients))}
        for sender in self.clients:
            sender_uid = sender.core.uid
            assert sender_uid is not None
            if sender is reader:
                continue
            texts = heard.get(sender_uid, [])
            asked = self.sent.get((sender_uid, channel), [])
            order = [text for text, _ in asked]
            assert texts == [text for text in order if text in set(texts)], "order, and no repetition"
            for text, request in asked:
                end = sender.ends[request]
                if isinstance(end, RequestErred):
                    # It may have been appended; what was refused or never sent was not.
                    assert text not in texts or end.error.outcome.value == "unknown"  # type: ignore[attr-defined]
                else:
                    assert text in texts, f"{text} was acknowledged, and {uid} never heard it"

    def take(self, event: Any, heard: dict[str, list[str]], members: set[str]) -> None:
        if isinstance(event, ChannelMessageReceived):
            heard.setdefault(event.uid, []).append(str(event.message))
        elif isinstance(event, MemberJoined):
            assert event.uid not in members
            members.add(event.uid)
        else:
            assert event.uid in members
            members.remove(event.uid)


@pytest.mark.parametrize("seed", range(10))
def test_random_faults_of_all_kinds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every state exact, every message once and in order, members equal on all sides, no ghosts in the engine."""
    monkeypatch.setattr(_clients, "ClientCore", CheckedClientCore)
    soak = Soak(seed)
    soak.run()
    soak.check()
