"""Fan-out (P1): server CPU per delivery, ours beside the floor and ``websockets``, interleaved in one run, medians.

    python benchmarks/fanout.py [--subscribers 100] [--in-flight 64] [--messages 5000] [--rounds 5]

The server is pinned to one core and this load generator to another. Subscribers are raw sockets; a delivery counts when
its last byte has been read. Our server's rate limit and log bound are raised.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

_HERE = Path(__file__).parent
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_MASK = b"\x00\x00\x00\x00"  # legal, and spares the generator the work
_pack = msgspec.msgpack.encode


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x82, 0x80 | size)) + _MASK + payload
    return b"\x82" + bytes((0x80 | 126,)) + size.to_bytes(2, "big") + _MASK + payload


def _connect(port: int, subprotocol: str | None) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    extra = b"" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode()
    peer.sendall(_REQUEST + extra + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    return peer


def _read_frames(buffer: bytearray) -> list[bytes]:
    frames = []
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + size:
            break
        frames.append(bytes(buffer[start : start + size]))
        del buffer[: start + size]
    return frames


def _enter_rtm(port: int, uid: str) -> socket.socket:
    peer = _connect(port, "rtm.v1.msgpack")
    login = [1, uid, "", os.urandom(16), os.urandom(16), 0]
    peer.sendall(_frame(_pack([login, [2, []]])))
    buffer = bytearray()
    joined = welcomed = False
    while not joined:
        buffer += peer.recv(65536)
        for frame in _read_frames(buffer):
            for message in msgspec.msgpack.decode(frame):
                welcomed = welcomed or message[0] == 1
                joined = joined or message[0] == 18
                if message[0] == 3:
                    peer.sendall(_frame(_pack([[18, 1, "room"]])))
    return peer


class _Load:
    """One publisher with a window, and subscribers that wait for the last message."""

    def __init__(self, kind: str, port: int, subscribers: int) -> None:
        self.rtm = kind == "rtm"
        enter = (lambda i: _enter_rtm(port, f"u{i}")) if self.rtm else (lambda i: _connect(port, None))
        self.subscribers = [enter(i) for i in range(subscribers)]
        self.publisher = enter(subscribers) if self.rtm else self.subscribers[0]
        self.selector = selectors.DefaultSelector()
        for peer in {*self.subscribers, self.publisher}:
            peer.setblocking(False)
            self.selector.register(peer, selectors.EVENT_READ)
        self.number = 1
        self.serial = 0

    def run(self, messages: int, in_flight: int) -> None:
        self.serial += 1
        end = f"<end {self.serial}>".encode()
        body = b"x" * 128
        tails = dict.fromkeys(self.subscribers, b"")
        buffer = bytearray()
        sent = answered = 0
        waiting = set(self.subscribers)
        while waiting or answered < messages:
            room = min(in_flight - (sent - answered), messages - sent)
            if room > 0:
                batch = []
                for _ in range(room):
                    sent += 1
                    batch.append(self._message(end.rjust(128, b".") if sent == messages else body, answered))
                self.publisher.setblocking(True)
                self.publisher.sendall(b"".join(batch))
                self.publisher.setblocking(False)
            for key, _ in self.selector.select(5.0):
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                try:
                    data = peer.recv(1 << 20)
                except BlockingIOError:
                    continue
                if not data:
                    raise SystemExit("the server closed a connection")
                if peer is self.publisher:
                    buffer += data
                    answered += self._answers(_read_frames(buffer))
                if peer in waiting:
                    tails[peer] = (tails[peer] + data)[-256:]
                    if end in tails[peer]:
                        waiting.discard(peer)

    def _message(self, body: bytes, answered: int) -> bytes:
        if not self.rtm:
            return _frame(body)
        self.number += 1
        return _frame(_pack([[4, 1, self.number - 64], [17, self.number, "room", body]]))

    def _answers(self, frames: list[bytes]) -> int:
        if not self.rtm:
            return len(frames)
        return sum(message[0] == 17 for frame in frames for message in msgspec.msgpack.decode(frame))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(kind: str) -> tuple[subprocess.Popen[str], int]:
    script = _HERE / f"{kind}_server.py"
    server = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    os.sched_setaffinity(server.pid, {0})
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default="floor,rtm,websockets")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    kinds = options.kinds.split(",")
    servers = {kind: _start(kind) for kind in kinds}
    loads = {kind: _Load(kind, port, options.subscribers) for kind, (_, port) in servers.items()}
    figures: dict[str, list[float]] = {kind: [] for kind in kinds}
    for load in loads.values():
        load.run(1000, options.in_flight)
    for _ in range(options.rounds):
        for kind in kinds:
            messages = options.messages // 10 if kind == "websockets" else options.messages
            pid = servers[kind][0].pid
            before, began = _cpu_seconds(pid), time.perf_counter()
            loads[kind].run(messages, options.in_flight)
            cpu, wall = _cpu_seconds(pid) - before, time.perf_counter() - began
            figures[kind].append(cpu / (messages * options.subscribers) * 1e6)
            print(f"  {kind:12} {figures[kind][-1]:8.3f} µs CPU per delivery, {messages / wall:8.0f} messages/s")
    print(f"{options.subscribers} subscribers, {options.in_flight} in flight, medians of {options.rounds} rounds:")
    floor = statistics.median(figures[kinds[0]])
    for kind in kinds:
        median = statistics.median(figures[kind])
        print(f"  {kind:12} {median:8.3f} µs CPU per delivery = {median / floor:6.2f} x {kinds[0]}")
    for server, _ in servers.values():
        server.kill()


if __name__ == "__main__":
    main()
