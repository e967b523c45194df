"""Nanoseconds per WebSocket frame and per opening handshake, in memory: ours, wsproto's, and websockets'.

Run it with ``python benchmarks/wire.py`` from the project's root. The peers are measured in turn within
each round, and the medians of the rounds are printed: only the ratios of one run mean something, not its
absolute numbers. Each figure includes handing over the payload, one frame per read unless it says
otherwise.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from websockets.client import ClientProtocol
from websockets.extensions.base import Extension
from websockets.http11 import Request as WebsocketsRequest
from websockets.http11 import Response as WebsocketsResponse
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri
from wsproto import WSConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, Ping, Request

from rtm_sansio._frames import BINARY, CONTINUATION, PING, encode_masked_frame
from rtm_sansio._wire import ClientWire, Opened, ServerWire, Wire, encode_frame

Job = Callable[[int], None]

SUBPROTOCOL = "rtm.v1.msgpack"
MESSAGE = os.urandom(128)
HEARTBEAT = b"\x90"  # the empty array in MessagePack
BATCH = 64
MASK = 0x9E3779B9


def open_wires() -> tuple[ServerWire, ClientWire]:
    """A server and a client wire whose opening handshake is done."""
    server = ServerWire(subprotocols=(SUBPROTOCOL,), max_message_bytes=131_072)
    client = ClientWire(
        host="127.0.0.1:8765",
        target="/",
        subprotocols=(SUBPROTOCOL,),
        max_message_bytes=131_072,
        entropy=os.urandom,
    )
    client.start()
    [opened] = server.receive(client.data_to_send())
    assert isinstance(opened, Opened)
    [opened] = client.receive(server.data_to_send())
    assert isinstance(opened, Opened)
    return server, client


def websockets_protocol(role: str) -> ServerProtocol | ClientProtocol:
    """A websockets protocol as it is after the opening handshake."""
    if role == "server":
        return ServerProtocol(state=State.OPEN)
    return ClientProtocol(parse_uri("ws://127.0.0.1:8765/"), state=State.OPEN)


# --- receiving: from the bytes of a read to the payload in the caller's hands -----------------------------


def receive_ours(role: str, stream: bytes) -> Job:
    wire: Wire = open_wires()[0 if role == "server" else 1]

    def job(rounds: int) -> None:
        for _ in range(rounds):
            for payload in wire.receive(stream):
                assert payload

    return job


def receive_wsproto(role: str, stream: bytes) -> Job:
    connection = Connection(ConnectionType.SERVER if role == "server" else ConnectionType.CLIENT)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            connection.receive_data(stream)
            for event in connection.events():
                assert isinstance(event, BytesMessage)
                assert event.data

    return job


def receive_websockets(role: str, stream: bytes) -> Job:
    protocol = websockets_protocol(role)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            protocol.receive_data(stream)
            for frame in protocol.events_received():
                assert not isinstance(frame, (WebsocketsRequest, WebsocketsResponse))
                assert frame.data

    return job


# --- rare frames: pings with their pongs, and fragments --------------------------------------------------


def rare_ours(role: str, stream: bytes) -> Job:
    wire: Wire = open_wires()[0 if role == "server" else 1]

    def job(rounds: int) -> None:
        for _ in range(rounds):
            assert wire.receive(stream)
            wire.data_to_send()

    return job


def rare_wsproto(role: str, stream: bytes) -> Job:
    connection = Connection(ConnectionType.SERVER if role == "server" else ConnectionType.CLIENT)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            connection.receive_data(stream)
            for event in connection.events():
                if isinstance(event, Ping):
                    connection.send(event.response())

    return job


def rare_websockets(role: str, stream: bytes) -> Job:
    protocol = websockets_protocol(role)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            protocol.receive_data(stream)
            assert protocol.events_received()
            protocol.data_to_send()

    return job


def rare_streams(role: str) -> list[tuple[str, bytes]]:
    """As a flood would be: 64 frames without a payload, and a heartbeat (in the last fragment)."""

    def frame(payload: bytes, opcode: int, *, fin: bool = True) -> bytes:
        if role == "server":
            return encode_masked_frame(payload, MASK, opcode=opcode, fin=fin)
        return encode_frame(payload, opcode=opcode, fin=fin)

    pings = frame(b"", PING) * BATCH + frame(HEARTBEAT, BINARY)
    fragments = frame(b"", CONTINUATION, fin=False) * (BATCH - 1)
    return [
        (f"pings, {BATCH} a read", pings),
        (f"fragments, {BATCH} a read", frame(b"", BINARY, fin=False) + fragments + frame(HEARTBEAT, CONTINUATION)),
    ]


# --- sending: from the payload to the bytes for a write ---------------------------------------------------


def send_ours(role: str, payload: bytes) -> Job:
    wire: Wire = open_wires()[0 if role == "server" else 1]

    def job(rounds: int) -> None:
        for _ in range(rounds):
            assert wire.frame(payload)

    return job


def send_shared(payload: bytes) -> Job:
    def job(rounds: int) -> None:
        for _ in range(rounds):
            assert encode_frame(payload)

    return job


def send_wsproto(role: str, payload: bytes) -> Job:
    connection = Connection(ConnectionType.SERVER if role == "server" else ConnectionType.CLIENT)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            assert connection.send(BytesMessage(data=payload))

    return job


def send_websockets(role: str, payload: bytes) -> Job:
    protocol = websockets_protocol(role)

    def job(rounds: int) -> None:
        for _ in range(rounds):
            protocol.send_binary(payload)
            assert protocol.data_to_send()

    return job


# --- the opening handshake, both roles together -------------------------------------------------------------


def handshake_ours(rounds: int) -> None:
    for _ in range(rounds):
        open_wires()


def handshake_wsproto(rounds: int) -> None:
    for _ in range(rounds):
        server = WSConnection(ConnectionType.SERVER)
        client = WSConnection(ConnectionType.CLIENT)
        server.receive_data(client.send(Request(host="127.0.0.1:8765", target="/", subprotocols=[SUBPROTOCOL])))
        [request] = server.events()
        assert isinstance(request, Request)
        client.receive_data(server.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
        [accepted] = client.events()
        assert isinstance(accepted, AcceptConnection)


def handshake_websockets(rounds: int) -> None:
    uri = parse_uri("ws://127.0.0.1:8765/")
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    no_extensions: list[Extension] = []
    assert not no_extensions
    for _ in range(rounds):
        server = ServerProtocol(subprotocols=subprotocols)
        client = ClientProtocol(uri, subprotocols=subprotocols)
        client.send_request(client.connect())
        server.receive_data(b"".join(client.data_to_send()))
        [request] = server.events_received()
        assert isinstance(request, WebsocketsRequest)
        server.send_response(server.accept(request))
        client.receive_data(b"".join(server.data_to_send()))
        [response] = client.events_received()
        assert isinstance(response, WebsocketsResponse)
        assert client.state is State.OPEN


# --- measuring ----------------------------------------------------------------------------------------------


def measure(jobs: Sequence[Job], *, rounds: int, repeats: int, per_call: int) -> list[float]:
    """Median nanoseconds per frame (or handshake) of each job, the jobs taking turns."""
    samples: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job(max(1, rounds // 10))
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for job, taken in zip(jobs, samples, strict=True):
                started = time.process_time_ns()
                job(rounds)
                taken.append((time.process_time_ns() - started) / rounds / per_call)
    finally:
        gc.enable()
    return [statistics.median(taken) for taken in samples]


def report(label: str, ours: float, wsproto: float, websockets: float) -> None:
    print(
        f"{label:<44}{ours:>9.0f}{wsproto:>10.0f}{websockets:>12.0f}"
        f"{wsproto / ours:>12.1f}x{websockets / ours:>14.1f}x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="rounds to take the median of")
    parser.add_argument("--frames", type=int, default=5_000, help="frames per round")
    arguments = parser.parse_args()
    repeats, frames = arguments.repeats, arguments.frames

    print(f"{'ns, medians':<44}{'ours':>9}{'wsproto':>10}{'websockets':>12}{'wsproto/ours':>13}{'websockets/ours':>15}")
    for role in ("server", "client"):
        for name, payload in (("128 bytes", MESSAGE), ("heartbeat", HEARTBEAT)):
            frame = encode_masked_frame(payload, MASK) if role == "server" else encode_frame(payload)
            for kind, count in (("", 1), (f", {BATCH} frames a read", BATCH)):
                stream = frame * count
                jobs = [receive(role, stream) for receive in (receive_ours, receive_wsproto, receive_websockets)]
                figures = measure(jobs, rounds=max(1, frames // count), repeats=repeats, per_call=count)
                report(f"{role} receives {name}{kind}", *figures)
            jobs = [send(role, payload) for send in (send_ours, send_wsproto, send_websockets)]
            report(f"{role} sends {name}", *measure(jobs, rounds=frames, repeats=repeats, per_call=1))
        for name, stream in rare_streams(role):
            jobs = [receive(role, stream) for receive in (rare_ours, rare_wsproto, rare_websockets)]
            figures = measure(jobs, rounds=max(1, frames // BATCH), repeats=repeats, per_call=BATCH + 1)
            report(f"{role} receives {name}", *figures)
    jobs = [send_shared(MESSAGE), send_wsproto("server", MESSAGE), send_websockets("server", MESSAGE)]
    report(
        "one frame for all (encode_frame), 128 bytes",
        *measure(jobs, rounds=frames, repeats=repeats, per_call=1),
    )
    handshakes: list[Job] = [handshake_ours, handshake_wsproto, handshake_websockets]
    report(
        "opening handshake, both roles",
        *measure(handshakes, rounds=frames // 25, repeats=repeats, per_call=1),
    )


if __name__ == "__main__":
    main()
