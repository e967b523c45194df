"""The hub in memory, without sockets: publish, deliveries, heartbeats, logins, and what an idle session costs.

Run it with ``python benchmarks/hub.py`` from the project's root. The client's bytes are made beforehand, so a figure
is the hub's CPU time alone: from the bytes of a request to the bytes that are ready for every subscriber. Medians of
several rounds; one run is comparable only with another one on the same machine at the same time.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rtm_sansio._frames import encode_masked_frame
from rtm_sansio.config import ServerConfig
from rtm_sansio.effects import Transmit
from rtm_sansio.events import LoginRequested
from rtm_sansio.hub import Hub
from rtm_sansio.messages import (
    HEARTBEAT,
    ChangeAttributes,
    Join,
    Leave,
    Login,
    PublishBytes,
    Want,
    WatchStatus,
    encode_batch,
)

MESSAGE = os.urandom(128)
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: rtm.v1.msgpack\r\n\r\n"
)
UNBOUNDED = ServerConfig(
    requests_per_second=10**9,
    request_burst=10**9,
    append_bytes_per_second=10**12,
    append_burst_bytes=10**12,
)


class Server:
    """A hub whose outputs are thrown away, and a clock that moves only when told."""

    def __init__(self, config: ServerConfig = UNBOUNDED) -> None:
        self.now = 1000.0
        self.hub = Hub(config, entropy=os.urandom, rng=random.Random(1))
        self.hub.set_wall_clock(1_700_000_000.0, now=self.now)

    def settle(self) -> int:
        """Flush and drain; returns the bytes transmitted."""
        hub, byte_count = self.hub, 0
        while True:
            for output in hub.take_outputs():
                if type(output) is Transmit:
                    byte_count += len(output.data)
                elif type(output) is LoginRequested:
                    hub.accept_login(output.transport_id, now=self.now)
            if not hub.flush_wanted:
                return byte_count
            hub.flush(now=self.now)

    def receive(self, transport_id: int, *messages: Any) -> None:
        """One batch from a client."""
        self.hub.receive_data(transport_id, frame_of(*messages), now=self.now)

    def connect_many(self, count: int, *, channels_each: int = 0, members_each: int = 500) -> list[int]:
        """Clients that share channels of ``members_each``, each of them in ``channels_each``."""
        ids = [self.connect(f"user{index}") for index in range(count)]
        for number in range(channels_each):
            for start in range(0, count, members_each):
                for transport_id in ids[start : start + members_each]:
                    self.receive(transport_id, Join(number, f"room{number}-{start}"))
                self.settle()
        return ids

    def longest_call(self, seconds: float) -> float:
        """Let time pass as a driver does; the CPU seconds of the longest single call."""
        end, longest, hub = self.now + seconds, 0.0, self.hub
        while True:
            start = time.process_time()
            hub.handle_timeout(now=self.now)
            longest = max(longest, time.process_time() - start)
            while True:
                start = time.process_time()
                outputs = hub.take_outputs()
                longest = max(longest, time.process_time() - start)
                if not hub.flush_wanted:
                    break
                del outputs
                start = time.process_time()
                hub.flush(now=self.now)
                longest = max(longest, time.process_time() - start)
            deadline = hub.next_deadline()
            if deadline is None or deadline > end:
                self.now = end
                return longest
            self.now = max(self.now, deadline)

    def connect(self, uid: str, *channels: str) -> int:
        """A client that is logged in and has joined ``channels``."""
        transport_id = self.hub.transport_accepted(now=self.now)
        self.hub.receive_data(transport_id, REQUEST, now=self.now)
        self.receive(transport_id, Login(uid, "", os.urandom(16), os.urandom(16), 0), Want(()))
        self.settle()
        for number, channel in enumerate(channels):
            self.receive(transport_id, Join(number, channel))
        self.settle()
        return transport_id


def frame_of(*messages: Any) -> bytes:
    """A client's frame with one batch."""
    return encode_masked_frame(encode_batch(messages), 0x9E3779B9)


def measure(job: Callable[[], None], rounds: int) -> float:
    """The median CPU seconds of a job."""
    job()
    times: list[float] = []
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    gc.enable()
    return statistics.median(times)


def publish(subscribers: int, per_pass: int, publishers: int, rounds: int) -> None:
    """Fan-out: ``per_pass`` messages a loop pass from all publishers together."""
    server = Server()
    senders = [server.connect(f"sender{index}", "room") for index in range(publishers)]
    for index in range(subscribers - publishers):
        server.connect(f"reader{index}", "room")
    number = 10
    passes = max(1, 4000 // per_pass // (1 + subscribers // 200))

    def job() -> None:
        nonlocal number
        server.now += 0.001
        for _ in range(passes):
            for frame, sender in next(coming):
                server.hub.receive_data(sender, frame, now=server.now)
            if server.settle() < subscribers * per_pass * len(MESSAGE):
                raise AssertionError("not everything was delivered")

    frames: list[list[tuple[bytes, int]]] = []
    for _ in range(passes * (rounds + 1)):
        batch = []
        for index in range(per_pass):
            number += 1
            batch.append((frame_of(PublishBytes(number, "room", MESSAGE)), senders[index % publishers]))
        frames.append(batch)
    coming = iter(frames)
    seconds = measure(job, rounds) / passes / per_pass
    print(
        f"publish to {subscribers:5} subscribers, {per_pass:2} a pass, {publishers:2} publishers: "
        f"{seconds * 1e6:7.2f} µs per publish, {seconds * 1e6 / subscribers:7.4f} µs per delivery"
    )


def heartbeats(sessions: int, rounds: int) -> None:
    """One heartbeat of every session and its answer, 100 of them a pass."""
    server = Server()
    ids = [server.connect(f"user{index}") for index in range(sessions)]
    frame = encode_masked_frame(HEARTBEAT, 0x9E3779B9)

    def job() -> None:
        server.now += 2.0
        for start in range(0, sessions, 100):
            for transport_id in ids[start : start + 100]:
                server.hub.receive_data(transport_id, frame, now=server.now)
            server.settle()
        server.hub.handle_timeout(now=server.now)

    seconds = measure(job, rounds)
    print(
        f"heartbeat exchange: {seconds / sessions * 1e6:.2f} µs; {sessions} sessions every 2 s: "
        f"{seconds / 2.0 * 100:.1f} % of a core"
    )
    start = time.process_time()
    for _ in range(100_000):
        server.hub.handle_timeout(now=server.now)
    print(f"a tick with nothing due, {sessions} sessions: {(time.process_time() - start) / 100_000 * 1e6:.2f} µs")


def logins(count: int) -> None:
    """Opening handshake, login and statement."""
    server = Server()
    start = time.process_time()
    for index in range(count):
        server.connect(f"user{index}")
    print(
        f"login with its handshake: {(time.process_time() - start) / count * 1e6:.0f} µs (the client's bytes included)"
    )


def joins(members: int, rounds: int) -> None:
    """Joining and leaving a channel of so many members."""
    server = Server()
    for index in range(members):
        server.connect(f"user{index}", "room")
    guest = server.connect("guest")
    number = 10

    def job() -> None:
        nonlocal number
        for _ in range(20):
            number += 2
            server.now += 0.01
            server.hub.receive_data(guest, frame_of(Join(number, "room"), Leave(number + 1, "room")), now=server.now)
            server.settle()

    seconds = measure(job, rounds) / 20
    told = "the number told to all once a second" if members >= UNBOUNDED.max_snapshot_members else "each told to all"
    print(f"a join and a leave in a channel of {members:6}: {seconds * 1e6:8.1f} µs ({told})")


def memory(sessions: int) -> None:
    """Bytes of an idle session that is a member of one channel, engine included."""
    server = Server()
    server.connect("first", "room0")
    gc.collect()
    tracemalloc.start()
    for index in range(sessions):
        server.connect(f"user{index}", f"room{index % 100}")
    server.now += 301.0  # the entries of the joins have left the history
    for index in range(sessions + 1):
        server.hub.receive_data(index + 1, encode_masked_frame(HEARTBEAT, 1), now=server.now)
    server.hub.handle_timeout(now=server.now)
    server.settle()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"an idle session in one channel: {current / sessions / 1024:.2f} KiB ({sessions} sessions, engine included)")


def rich_memory(sessions: int, *, shared: bool) -> None:
    """Bytes of a session with 20 channels, 32 attributes and 512 users whose status it watches, engine included: users
    that all sessions watch (then each user is kept once, and each subscription), or users that nobody else does."""
    server = Server()
    attributes = {f"key{index:02}": f"value {index:02}" for index in range(32)}
    server.connect("first", *[f"room{index}" for index in range(20)])
    gc.collect()
    tracemalloc.start()
    for index in range(sessions):
        transport_id = server.connect(f"user{index}", *[f"room{number}" for number in range(20)])
        server.receive(transport_id, ChangeAttributes(50, "", False, attributes))
        whose = "" if shared else f"of{index}-"
        server.receive(transport_id, WatchStatus(51, tuple(f"friend{whose}{number}" for number in range(512))))
        server.settle()
    server.now += 301.0  # the entries of the joins have left the history
    for index in range(sessions + 1):
        server.hub.receive_data(index + 1, encode_masked_frame(HEARTBEAT, 1), now=server.now)
    server.longest_call(1.0)
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    whom = "that all watch" if shared else "of its own"
    print(
        f"a session in 20 channels, with 32 attributes, watching 512 users {whom}: "
        f"{current / sessions / 1024:.1f} KiB ({sessions} sessions, engine included)"
    )


def a_change_for_many(watchers: int, rounds: int) -> None:
    """One user whom so many watch: it falls silent, and is heard again."""
    server = Server(ServerConfig(silence_timeout_seconds=20.0))
    ids = [server.connect(f"user{index}") for index in range(watchers)]
    for transport_id in ids:
        server.receive(transport_id, WatchStatus(1, ("star",)))
    server.settle()
    star = server.connect("star")
    frame = encode_masked_frame(HEARTBEAT, 0x9E3779B9)

    def job() -> None:
        server.now += 7.0
        for transport_id in ids:
            server.hub.receive_data(transport_id, frame, now=server.now)
        server.longest_call(0.1)
        start = time.process_time()
        server.hub.receive_data(star, frame, now=server.now)
        byte_count = server.settle()
        times.append(time.process_time() - start)
        if byte_count < watchers * len("star"):
            raise AssertionError("not everybody was told")

    times: list[float] = []
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        job()
    gc.enable()
    seconds = statistics.median(times)
    print(f"a change of status for {watchers} watchers: {seconds * 1e3:.1f} ms, {seconds / watchers * 1e6:.2f} µs each")


def standstills(sessions: int) -> None:
    """The longest single call of the hub while many things happen at one instant."""

    def report(what: str, seconds: float) -> None:
        print(f"longest call, {what}: {seconds * 1e3:.1f} ms")

    def alone() -> Server:
        server = Server()
        server.connect_many(sessions)
        return server

    def in_channels() -> Server:
        server = Server()
        server.connect_many(sessions, channels_each=20)
        return server

    def in_a_muted_channel() -> Server:
        server = Server()
        for transport_id in server.connect_many(sessions):
            server.receive(transport_id, Join(1, "crowd"))
        server.settle()
        return server

    def watching_each_other() -> Server:
        server = Server()
        for index, transport_id in enumerate(server.connect_many(sessions)):
            uids = tuple(f"user{(index + other) % sessions}" for other in range(512))
            server.receive(transport_id, WatchStatus(1, uids))
            server.settle()
        return server

    for what, make in (
        ("without channels", alone),
        ("in 20 channels each", in_channels),
        ("in one muted channel", in_a_muted_channel),
        ("each watching 512 others", watching_each_other),
    ):
        server = make()
        gc.collect()
        gc.disable()  # its pauses are Python's, and grow with all that a process has
        report(f"{sessions} transports {what} fall silent", server.longest_call(8.0))
        report(f"{sessions} transports {what} are dropped", server.longest_call(3.0))
        report(f"{sessions} sessions {what} expire", server.longest_call(30.0))
        report(f"{sessions} sessions {what}, all that is left to do", server.longest_call(400.0))
        gc.enable()


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sessions", type=int, default=10_000)
    arguments = parser.parse_args()
    for subscribers, per_pass, publishers in ((10, 64, 1), (100, 64, 1), (1000, 64, 1), (100, 64, 64), (100, 1, 1)):
        publish(subscribers, per_pass, publishers, arguments.rounds)
    heartbeats(arguments.sessions, arguments.rounds)
    logins(1000)
    for members in (10, 500, 600, arguments.sessions):
        joins(members, arguments.rounds)
    memory(arguments.sessions)
    rich_memory(arguments.sessions // 20, shared=True)
    rich_memory(arguments.sessions // 20, shared=False)
    a_change_for_many(arguments.sessions, arguments.rounds)
    standstills(arguments.sessions)


if __name__ == "__main__":
    main()
