"""Peers that lie, babble and flood (S50, S51): the hub raises nothing, keeps nothing, and nobody else notices."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio._frames import encode_masked_frame
from rtm_sansio.codes import Code
from rtm_sansio.messages import (
    GoOn,
    Hold,
    Join,
    Leave,
    Login,
    Logout,
    Progress,
    PublishBytes,
    PublishText,
    RenewToken,
    Want,
    WantedChannel,
    encode_batch,
)

KIB = 1024


def witnessed(bench: Bench) -> FakeClient:
    return bench.login("witness", "room").keep()


def is_well(witness: FakeClient) -> None:
    """S51: none of it disturbs another client."""
    witness.heartbeat()
    text = f"at {witness.bench.now} of {witness.number}"
    witness.publish("room", text)
    assert witness.gone is None
    assert witness.texts("room")[-1] == text


REQUEST = (
    b"GET /%s HTTP/1.1\r\nHost: server.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
PROTOCOL = b"Sec-WebSocket-Protocol: rtm.v1.msgpack\r\n"


class TestHandshake:
    """S51, F-61: before there is a WebSocket."""

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (REQUEST % (b"other", PROTOCOL), b"404"),
            (REQUEST % (b"", b""), b"400"),
            (REQUEST % (b"", b"Sec-WebSocket-Protocol: rtm.v9.other\r\n"), b"400"),
            (REQUEST % (b"", PROTOCOL + b"Origin: https://evil.example\r\n"), b"403"),
            (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"4"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"4"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"4"),
            (b"x" * 100_000, b"4"),
        ],
    )
    def test_refused_with_an_answer(self, request_bytes: bytes, status: bytes) -> None:
        """S51: answered in HTTP, and closed."""
        bench = Bench()
        witness = witnessed(bench)
        ghost = bench.open(handshake=False)
        ghost._decode = lambda data: None  # type: ignore[method-assign]
        ghost.raw(request_bytes)
        assert ghost.gone == "flush"
        assert b"".join(ghost.received).startswith(b"HTTP/1.1 " + status)
        is_well(witness)

    def test_an_allowed_origin(self) -> None:
        """S51: and requests without Origin pass."""
        bench = Bench(allowed_origins=("https://app.example",))
        for origin in (b"Origin: https://app.example\r\n", b""):
            ghost = bench.open(handshake=False)
            ghost._decode = lambda data: None  # type: ignore[method-assign]
            ghost.raw(REQUEST % (b"", PROTOCOL + origin))
            assert b"".join(ghost.received).startswith(b"HTTP/1.1 101")
            assert ghost.gone is None


FIRST_WORDS: list[Any] = [
    [],
    [[3, 1]],
    [[18, 1, "room"]],
    [[2, []]],
    [[4, 1, 1]],
    [[1, "alice", "token", b"short", b"l" * 16, 0]],
    [[1, "alice", "token", b"i" * 16, b"short", 0]],
    [[1, "alice", "token", b"i" * 16, b"l" * 16, -1]],
    [[1, "alice", "token", b"i" * 16, b"l" * 16, 0, None, -5]],
    [[1, "alice"]],
    [[1, 5, "token", b"i" * 16, b"l" * 16, 0]],
    [[99]],
    {"a": 1},
    "text",
    None,
    [[1, "alice", "token", b"i" * 16, b"l" * 16, 0]] * 3 + [[3, 1]] * 9,
]


class TestBeforeTheLogin:
    """S50, S51."""

    @pytest.mark.parametrize("words", FIRST_WORDS, ids=range(len(FIRST_WORDS)))
    def test_anything_but_a_login(self, words: Any) -> None:
        """S50: closed with 1002."""
        bench = Bench()
        witness = witnessed(bench)
        ghost = bench.open()
        ghost.raw(ghost.wire.frame(msgspec.msgpack.encode(words)))
        if len(words or ()) > 3:
            assert ghost.close_code in (1002, Code.TRANSPORT_REPLACED)
        else:
            assert ghost.close_code == 1002
        bench.advance(3.0)
        assert ghost.gone is not None
        is_well(witness)

    @pytest.mark.parametrize("login", [True, False])
    def test_a_text_message(self, login: bool) -> None:
        """F-61, S50: 1003 in a binary subprotocol."""
        bench = Bench()
        ghost = bench.login("alice") if login else bench.open()
        ghost.raw(ghost.wire.frame("hello"))
        assert ghost.close_code == 1003

    def test_a_heartbeat_while_the_login_is_judged(self) -> None:
        """S10: only behind the welcome."""
        bench = Bench()
        bench.auto_login = ...
        ghost = bench.login("alice")
        ghost.heartbeat()
        assert ghost.close_code == 1002
        ghost.raw(encode_masked_frame(b"\x90", 1))
        assert ghost.heartbeats == 0


class TestAfterTheLogin:
    """S50: the session goes on as interrupted, whatever its transport did."""

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ([[99]], 1002),
            ([[18, "x", "room"]], 1002),
            (["x"], 1002),
            (7, 1002),
            ([[1, "alice", "token", b"i" * 16, b"l" * 16, 0]], 1002),
            ([[2, []]], 1002),
        ],
    )
    def test_a_protocol_error(self, words: Any, code: int) -> None:
        """S50: second login, second statement, wrong types."""
        bench = Bench()
        witness = witnessed(bench)
        alice = bench.login("alice", "room")
        alice.raw(alice.wire.frame(msgspec.msgpack.encode(words)))
        assert alice.close_code == code
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert back.welcome.resumed
        is_well(witness)

    def test_optional_messages_are_counted(self) -> None:
        """F-62."""
        bench = Bench()
        alice = bench.login("alice")
        alice.raw(alice.wire.frame(msgspec.msgpack.encode([[200, "x"], [18, 1, "room"], [201]])))
        assert bench.hub.unknown_messages == 2
        assert alice.answer(1).offset == 1
        ghost = bench.open()
        ghost.raw(ghost.wire.frame(msgspec.msgpack.encode([[200]])))
        assert bench.hub.unknown_messages == 3
        assert ghost.gone is None

    def test_an_unmasked_frame(self) -> None:
        """S50: the wire's own errors close with its own codes."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.raw(b"\x82\x01\x90")
        assert alice.close_code == 1002
        assert bench.login("alice", resume=alice).welcome.resumed


def random_message(rng: random.Random) -> Any:
    name = rng.choice(["room", "room2", "", "x" * 70, "é", "other"])
    number = rng.choice([0, 1, 2, 5, 7, 300, -1, 2**63, rng.randint(0, 50)])
    data = rng.choice([b"", b"x", b"i" * 16, rng.randbytes(8)])
    makers = [
        lambda: Login("alice", "token", data, b"l" * 16, number),
        lambda: Want((WantedChannel(name), WantedChannel("b", data, number))),
        lambda: Logout(number),
        lambda: Progress(rng.randint(0, 3), rng.choice([number, 0, 3])),
        lambda: Hold(name),
        lambda: GoOn(name, data, number),
        lambda: PublishText(number, name, "häl" * rng.choice([1, 10, 12_000])),
        lambda: PublishBytes(number, name, data),
        lambda: Join(number, name),
        lambda: Leave(number, name),
        lambda: RenewToken(number, "t" * rng.choice([1, 9000])),
    ]
    weights = [0.2, 0.3, 0.1, 1, 1, 1, 2, 2, 3, 2, 0.5]
    return rng.choices(makers, weights)[0]()


@pytest.mark.parametrize("nodes", [0, 2])
@pytest.mark.parametrize("seed", range(12))
def test_random_clients(seed: int, nodes: int) -> None:
    """S50, S51: valid and mutated batches, losses, slow sockets, late engines; the witness misses nothing."""
    bench = Bench(nodes=nodes, seed=seed, max_channels=3)
    rng = random.Random(seed)
    witness = witnessed(bench)
    clients: list[FakeClient] = []
    for _ in range(150):
        node = rng.randrange(max(1, nodes))
        if len(clients) < 4:
            client = bench.open(node=node)
            if clients and rng.random() < 0.5 and hasattr(clients[0], "login_id"):
                client.instance, client.login_id = clients[0].instance, clients[0].login_id
            client.login(rng.choice(["alice", "bob"]), want=rng.choice([None, (), [("room", b"12345678", 3)]]))
            clients.append(client)
        client = rng.choice(clients)
        if client.gone is not None or not client.wire.is_open:
            clients.remove(client)
            continue
        roll = rng.random()
        if roll < 0.7:
            data = bytearray(encode_batch([random_message(rng) for _ in range(rng.randint(1, 4))]))
            if rng.random() < 0.15:
                data[rng.randrange(len(data))] = rng.randrange(256)
            frame = encode_masked_frame(bytes(data), rng.getrandbits(32))
            if rng.random() < 0.05:
                frame = frame[: rng.randrange(len(frame))]
            client.raw(frame)
        elif roll < 0.75:
            client.lose()
        elif roll < 0.8:
            client.reading = not client.reading
            if client.reading and client.unsent:
                client.drain()
        elif roll < 0.85 and client.unsent:
            client.drain(rng.randint(0, 100_000))
        elif roll < 0.9:
            client.heartbeat()
        elif nodes and roll < 0.95:
            index = rng.randrange(nodes)
            if index in bench.held:
                bench.release(index)
            elif index != witness.node:
                bench.held.add(index)
        else:
            bench.advance(rng.choice([0.1, 1.0, 5.0]))
    for index in list(bench.held):
        bench.release(index)
    is_well(witness)
    offsets = [offset for offset, _ in witness.entries("room")]
    assert offsets == list(range(1, len(offsets) + 1))
    members: set[str] = set()
    for entry in witness.members("room"):
        joined = type(entry).__name__ == "JoinedEntry"
        assert (entry.uid in members) is not joined
        members ^= {entry.uid}
    for client in clients:
        if client.gone is None:
            client.lose()
    bench.advance(45.0)
    engine = bench.engine if nodes else bench.hub._engine._embedded
    assert engine is not None
    assert list(engine._channels._homes["room"].members) == ["witness"]
    for uid in ("alice", "bob"):
        home = engine._users._homes.get(uid)
        assert home is None or (home.session is None and not home.todos)
    for hub in bench.hubs:
        assert set(hub._channels._by_name) <= {"room"}
        assert all(session.uid == "witness" for session in hub._sessions._by_id.values())


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(seed: int) -> None:
    """S50: at any stage of a transport."""
    bench = Bench(seed=seed)
    rng = random.Random(seed)
    witness = witnessed(bench)
    for stage in range(3):
        ghost = bench.open(handshake=stage > 0)
        if stage == 2:
            ghost.login("alice")
        ghost._decode = lambda data: None  # type: ignore[method-assign]
        for _ in range(40):
            if ghost.gone is not None:
                break
            ghost.raw(rng.randbytes(rng.randint(1, 400)))
    bench.advance(13.0)
    assert set(bench.clients[0].values()) == {witness}
    is_well(witness)


class TestMemory:
    """S50, S55: nothing that a client sends is kept beyond its bound."""

    def test_leaving_what_was_never_joined_leaves_nothing(self) -> None:
        """S50: in hub and engine."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(*(Leave(number, f"room{number}") for number in range(200)))
        alice.send(*(PublishText(number, f"room{number}", "x") for number in range(200, 400)))
        alice.send(*(Hold(f"room{number}") for number in range(200)))
        assert bench.hub._channels._by_name == {}
        assert bench.hub._engine._embedded is not None
        assert bench.hub._engine._embedded._channels._homes == {}

    def test_an_unfinished_message_is_bounded(self) -> None:
        """S45, S50: by the size in its header."""
        bench = Bench()
        alice = bench.login("alice")
        header = b"\x82\xff\x00\x00\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00"  # 128 KiB less one byte
        alice.raw(header)
        for _ in range(1000):
            alice.raw(b"x" * 999)
        assert alice.close_code == 1002
        link = next(iter(bench.hub._transports._links.values()))
        assert not link.wire._buffer

    def test_logins_of_one_uid_do_not_pile_up(self) -> None:
        """S18, S50."""
        bench = Bench()
        for _ in range(100):
            bench.login("alice").lose()
        assert bench.hub._engine._embedded is not None
        home = bench.hub._engine._embedded._users._homes["alice"]
        assert len(home.past_logins) == 16
        assert home.todos is None
        assert len(bench.hub._sessions._by_id) == 0
