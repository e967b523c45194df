"""Peers that lie, babble and flood (S50, S51): the hub raises nothing, keeps nothing, and nobody else notices."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from core.fake_client import Bench, FakeClient, channels_of
from rtm_sansio._frames import BINARY, CONTINUATION, PING, TEXT, encode_masked_frame
from rtm_sansio.codes import Code
from rtm_sansio.messages import (
    GoOn,
    Hold,
    Join,
    JoinedEntry,
    Kicked,
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

    @pytest.mark.parametrize("words", [[[200]], [[1, "eve", "token", b"i" * 16, b"l" * 16, 0], [2, []], [200]]])
    def test_no_optional_messages_before_the_welcome(self, words: Any) -> None:
        """S50: nobody has shown yet who pays for them."""
        bench = Bench()
        ghost = bench.open()
        ghost.raw(ghost.wire.frame(msgspec.msgpack.encode(words)))
        assert ghost.close_code == 1002
        assert bench.events == []
        assert bench.hub.unknown_messages == 0

    def test_no_optional_messages_while_the_login_is_judged(self) -> None:
        """S50: each batch might have a thousand, and no rate counts them."""
        bench = Bench()
        bench.auto_login = ...
        ghost = bench.open()
        ghost.login("eve")
        ghost.raw(ghost.wire.frame(msgspec.msgpack.encode([[200]])))
        assert ghost.close_code == 1002

    def test_an_unmasked_frame(self) -> None:
        """S50: the wire's own errors close with its own codes."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.raw(b"\x82\x01\x90")
        assert alice.close_code == 1002
        assert bench.login("alice", resume=alice).welcome.resumed


PING_FRAME = encode_masked_frame(b"", 1, opcode=PING)
PART = encode_masked_frame(b"", 1, opcode=CONTINUATION, fin=False)
FIRST_PART = encode_masked_frame(b"", 1, fin=False)
LAST_PART = encode_masked_frame(b"\x90", 1, opcode=CONTINUATION)
HEARTBEAT_FRAME = encode_masked_frame(b"\x90", 1)


def in_fragments(data: bytes, size: int) -> bytes:
    """One message, its frames each of so many bytes."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    frames = [
        encode_masked_frame(piece, 1, opcode=CONTINUATION if index else BINARY, fin=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]
    return b"".join(frames)


class TestFramesThatAreNoMessages:
    """F-64, S51: control frames and fragments are charged like requests."""

    @pytest.mark.parametrize(
        "flood", [PING_FRAME * 1000 + HEARTBEAT_FRAME, FIRST_PART + PART * 1000 + LAST_PART], ids=["pings", "parts"]
    )
    def test_a_flood_is_dropped(self, flood: bytes) -> None:
        """S51: 5 s after the first rate error, not before; its session goes on."""
        bench = Bench()
        witness = witnessed(bench)
        alice = bench.login("alice", "room")
        began = bench.now
        while alice.gone is None and alice.close_code is None and bench.now < began + 30.0:
            for _ in range(4):
                alice.raw(flood)
            bench.advance(0.5)
        assert alice.close_code == Code.FLOODING
        assert 5.0 <= bench.now - began <= 8.0
        assert bench.login("alice", resume=alice).welcome.resumed
        is_well(witness)

    def test_a_large_message_in_small_fragments_is_borne(self) -> None:
        """A browser, or a proxy: 128 KiB in pieces of 1 KiB, four times a second."""
        bench = Bench()
        alice = bench.login("alice", "room").keep()
        for number in range(40):
            batch = [PublishText(3 * number + index, "room", "x" * 30_000) for index in range(3)]
            alice.raw(in_fragments(encode_batch(batch), 1024))
            bench.advance(0.25)
        assert alice.gone is None
        assert alice.close_code is None

    def test_full_rate_in_two_fragments_is_borne(self) -> None:
        """The welcome's rate is one of requests, however they are framed."""
        bench = Bench(requests_per_second=100, request_burst=100)
        alice = bench.login("alice", "room")
        for number in range(1, 2001):
            if not number % 100:
                alice.heartbeat()
            alice.raw(in_fragments(encode_batch([Leave(number, "elsewhere")]), 9))
            bench.advance(0.01)
        assert alice.gone is None
        assert alice.close_code is None

    def test_a_client_that_pings_is_borne(self) -> None:
        """Every 20 s, as the websockets package does."""
        bench = Bench()
        alice = bench.login("alice", "room").keep()
        for _ in range(100):
            bench.advance(20.0)
            alice.raw(PING_FRAME)
        assert alice.gone is None
        assert alice.close_code is None

    def test_before_the_login(self) -> None:
        """A budget for all that comes before the welcome, however it is spread: 64, then 1008."""
        bench = Bench()
        witness = witnessed(bench)
        ghost = bench.open()
        for _ in range(64):
            ghost.raw(PING_FRAME)
        assert ghost.close_code is None
        ghost.raw(PING_FRAME)
        assert ghost.close_code == 1008
        ghost.raw(PING_FRAME * 100)
        bench.advance(3.0)
        assert ghost.gone is not None
        is_well(witness)

    def test_a_login_behind_too_many_pings_is_not_heard(self) -> None:
        """What came in the same read has no effect."""
        bench = Bench()
        events = len(bench.events)
        ghost = bench.open()
        login = encode_batch([Login("alice", "token", b"i" * 16, b"l" * 16, 0)])
        ghost.raw(PING_FRAME * 65 + encode_masked_frame(login, 1))
        assert ghost.close_code == 1008
        assert len(bench.events) == events

    def test_the_wires_own_limit_comes_first(self) -> None:
        """A wire that has failed by itself says why; the charge says nothing more."""
        bench = Bench()
        for client in (bench.open(), bench.login("alice")):
            client.raw(PING_FRAME * 1025)
            assert client.close_code == 1008


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
        assert channels_of(hub) <= {"room"}
        assert all(session.uid == "witness" for session in hub._sessions._by_id.values())


JUNK = [
    (encode_masked_frame(b"\x90", 1)[:1] + b"\x01\x90", 1002),  # a client masks
    (b"\xff\xff", 1002),  # bits that nobody has agreed on
    (b"\x83\x80abcd", 1002),  # an unknown kind of frame
    (b"\x89\xfe\x00\x7eabcd", 1002),  # a control frame that is too large
    (b"\x80\x80abcd", 1002),  # the end of a message that never began
    (b"\x82\xff" + b"\x00" * 4 + b"\x10\x00\x00\x00abcd", 1009),  # 256 MiB
    (encode_masked_frame(b"text", 1, opcode=TEXT), 1003),
    (encode_masked_frame(b"\xff", 1, opcode=TEXT), 1007),
    (encode_masked_frame(b"\xc1", 1), 1002),  # no MessagePack
    (encode_masked_frame(b"\x05", 1), 1002),  # no batch
    (encode_masked_frame(b"\x91\xc0", 1), 1002),  # no message
    (encode_masked_frame(b"\x91\x91\x63", 1), 1002),  # one of no kind
    (encode_masked_frame(b"\x91\x92\x12", 1), 1002),  # one that is cut off
]


def is_unharmed(bench: Bench, witness: FakeClient, ghost: FakeClient, alice: FakeClient | None) -> None:
    """S50, S51: the offender is gone; its session, if it had one, goes on as it was; nobody else notices."""
    bench.advance(13.0)
    assert set(bench.clients[0].values()) == {witness}
    assert witness.members("room") == ([] if alice is None else [JoinedEntry("alice")])
    assert witness.texts("room") == []
    if alice is not None:
        assert ghost.of(Kicked) == []
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert back.welcome.resumed
        assert back.entries("room") == []
        witness.publish("room", "hello")
        assert back.texts("room") == ["hello"]
        assert back.publish("room", "and back").offset == 4
        back.lose()
    else:
        assert "alice" not in {session.uid for session in bench.hub._sessions._by_id.values()}
        assert [event.uid for event in bench.events] == ["witness"]
    is_well(witness)


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize(("data", "close_code"), JUNK, ids=[data.hex()[:24] for data, _ in JUNK])
def test_the_code_for_junk(data: bytes, close_code: int, logged_in: bool, chunk: int) -> None:
    """S50: each violation has its close code, whichever way the bytes are cut; what comes behind it is not heard."""
    bench = Bench()
    witness = witnessed(bench)
    ghost = bench.login("alice", "room") if logged_in else bench.open()
    behind = Logout(7) if logged_in else Login("alice", "token", b"i" * 16, b"l" * 16, 0)
    stream = data + encode_masked_frame(encode_batch([behind]), 1)
    for start in range(0, len(stream), chunk):
        ghost.raw(stream[start : start + chunk])
    assert ghost.close_code == close_code
    assert ghost.answers(7) == []
    assert [session.uid for session in bench.hub._sessions._by_id.values()] == ["witness"]
    is_unharmed(bench, witness, ghost, ghost if logged_in else None)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stage", ["handshake", "login", "open"])
def test_random_bytes(seed: int, stage: str) -> None:
    """S50: at any stage of a transport: refused in HTTP, or closed with a code of the violations; an unfinished
    handshake runs into its deadline."""
    bench = Bench(seed=seed)
    rng = random.Random(seed)
    witness = witnessed(bench)
    ghost = bench.login("alice", "room") if stage == "open" else bench.open(handshake=stage == "login")
    if stage == "handshake":
        ghost._decode = lambda data: None  # type: ignore[method-assign]
    for _ in range(40):
        if ghost.gone is not None:
            break
        ghost.raw(rng.randbytes(rng.randint(1, 400)))
    if stage == "handshake":
        assert b"".join(ghost.received)[:10] == (b"" if ghost.gone is None else b"HTTP/1.1 4")
    else:
        assert ghost.close_code in (1002, 1003, 1007, 1009)
    is_unharmed(bench, witness, ghost, ghost if stage == "open" else None)


class TestMemory:
    """S50, S55: nothing that a client sends is kept beyond its bound."""

    def test_leaving_what_was_never_joined_leaves_nothing(self) -> None:
        """S50: in hub and engine."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(*(Leave(number, f"room{number}") for number in range(200)))
        alice.send(*(PublishText(number, f"room{number}", "x") for number in range(200, 400)))
        alice.send(*(Hold(f"room{number}") for number in range(200)))
        assert channels_of(bench.hub) == set()
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
