"""The two encodings: the same messages, the same rules of growth, and entries of any version in both (S45, S50, E4)."""

from __future__ import annotations

import random
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtm_sansio import messages as wire
from rtm_sansio._encodings import BY_NAME, BY_SUBPROTOCOL, ENCODINGS, JSON, MSGPACK, Encoding, mistaken_kind
from rtm_sansio._frames import BINARY, TEXT, encode_frame
from rtm_sansio.messages import (
    BytesEntry,
    Done,
    Entries,
    Failed,
    Join,
    JoinedEntry,
    Leave,
    LeftEntry,
    Login,
    MalformedBatch,
    Progress,
    PublishBytes,
    PublishText,
    Renewed,
    Sent,
    TextEntry,
    UnknownEntry,
    Want,
    WantedChannel,
    encode_entry,
)

encode = msgspec.msgpack.encode
client, server = JSON.client_decoder, JSON.server_decoder

INTS = st.integers(-(2**63), 2**64 - 1)
VALUES: dict[Any, Any] = {
    int: INTS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
}


def messages_of(union: Any) -> Any:
    """Any message of one side, made from the schema: so those of later versions are tested as well."""
    return st.lists(st.one_of(*map(struct_of, get_args(union))), max_size=4)


def struct_of(struct: Any) -> Any:
    fields = msgspec.structs.fields(struct)
    return st.builds(struct, **{field.name: value_of(field.type) for field in fields})


def value_of(kind: Any) -> Any:
    if kind in VALUES:
        return VALUES[kind]
    if kind is type(None):
        return st.none()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return struct_of(kind)
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        return st.lists(value_of(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(value_of(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(value_of(arguments[0]), value_of(arguments[1]), max_size=3)
    return st.one_of(*map(value_of, arguments))


ANYTHING = st.recursive(
    st.one_of(st.none(), *VALUES.values()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(), INTS), inner, max_size=3)
    ),
    max_leaves=12,
)


class TestBothSayTheSame:
    @given(messages_of(wire.ClientMessage))
    def test_what_a_client_says(self, batch: list[Any]) -> None:
        """Each encoding reads what it has written, as the same messages; JSON is at most ``growth`` times as long."""
        self.check(batch, MSGPACK.client_decoder, JSON.client_decoder)

    @given(messages_of(wire.ServerMessage))
    def test_what_a_server_says(self, batch: list[Any]) -> None:
        """The same for the other side."""
        self.check(batch, MSGPACK.server_decoder, JSON.server_decoder)

    def check(self, batch: list[Any], msgpack_decoder: Any, json_decoder: Any) -> None:
        payload, text = MSGPACK.encode_batch(batch), JSON.encode_batch(batch)
        assert msgpack_decoder.decode(payload) == (batch, 0)
        assert json_decoder.decode(text) == json_decoder.decode(text.decode()) == (batch, 0)
        assert len(text) <= JSON.growth * len(payload) + 1

    @given(ANYTHING)
    @example(False)
    @example([False] * 15)
    @example("\x00" * 100)
    @example(-2.2250738585072014e-308)
    @example({-32: False})
    def test_no_value_is_longer_than_it_may_be(self, value: Any) -> None:
        """S45: whatever a later version says in MessagePack, JSON has room for it."""
        entry = encode([200, value])
        text = JSON.encode_block("room", b"epoch", 1, [entry])
        assert len(text) <= JSON.growth * len(MSGPACK.encode_block("room", b"epoch", 1, [entry]))

    def test_numbers_of_a_server(self) -> None:
        """JavaScript counts up to 2 ** 53: the largest numbers are login epochs, in microseconds since 1970."""
        year_2200 = 7_258_118_400 * 1_000_000
        assert year_2200 < 2**53


def test_names() -> None:
    assert list(BY_NAME) == ["msgpack", "json"]
    assert list(BY_SUBPROTOCOL) == ["rtm.v1.msgpack", "rtm.v1.json"]
    assert [encoding.index for encoding in ENCODINGS] == [0, 1]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_the_heartbeat_is_the_empty_batch(encoding: Encoding) -> None:
    """S10."""
    payload = encoding.encode_batch([])
    assert encoding.message_of(payload) == encoding.heartbeat
    assert encoding.payload_of(encoding.heartbeat) == payload
    assert type(encoding.heartbeat) is encoding.message_type
    opcode = BINARY if encoding is MSGPACK else TEXT
    assert encoding.frame(payload) == encoding.heartbeat_frame == encode_frame(payload, opcode=opcode)
    assert encoding.client_decoder.decode(encoding.heartbeat) == ([], 0)


def test_the_wrong_kind_of_message() -> None:
    """F-61."""
    assert mistaken_kind("x") == "a text message in a binary subprotocol"
    assert mistaken_kind(b"x") == "a binary message in a text subprotocol"


def test_a_message_is_an_array_with_base64() -> None:
    """The schema on the wire."""
    batch = [Join(7, "röm"), PublishBytes(8, "room", b"\x00\xff"), Want((WantedChannel("a"),))]
    text = '[[18,7,"röm"],[17,8,"room","AP8="],[2,[["a",null,null]],null,null,[]]]'
    assert JSON.encode_batch(batch).decode() == text
    assert client.decode(text) == (batch, 0)


class TestGrowth:
    """F-62: what a later version adds is passed over."""

    def test_trailing_fields(self) -> None:
        assert client.decode('[[18,7,"room","new",{}]]') == ([Join(7, "room")], 0)
        assert client.decode('[[2,[["room"],["b","ZQ==",1,"new"]]]]') == (
            [Want((WantedChannel("room"), WantedChannel("b", b"e", 1)))],
            0,
        )

    def test_unknown_messages(self) -> None:
        text = '[[128,"x"],[18,7,"room"],[\n200 ] , [1099511627776,1]]'
        assert client.decode(text) == ([Join(7, "room")], 3)

    def test_unknown_messages_have_a_bound(self) -> None:
        """S50: 1,024 of them in a batch."""
        assert client.decode(f'[[18,7,"room"]{",[200]" * 1024}]') == ([Join(7, "room")], 1024)
        with pytest.raises(MalformedBatch, match="more than 1024 unknown"):
            client.decode(f'[[18,7,"room"]{",[200]" * 1025}]')

    def test_unknown_entries(self) -> None:
        """Those of 128 and above take an offset; a lower one is a protocol error."""
        ((block,), skipped) = server.decode('[[5,"room","ZQ==",7,[[3,"a"],[130,{"x":[]}],[4,"a",1]]]]')
        assert block == Entries("room", b"e", 7, [JoinedEntry("a"), UnknownEntry(130), LeftEntry("a", 1)])  # type: ignore[list-item]
        assert skipped == 0
        with pytest.raises(MalformedBatch):
            server.decode('[[5,"room","ZQ==",7,[[99,"x"]]]]')

    def test_unknown_entries_have_a_bound(self) -> None:
        """S50: 16,384 of them in a batch."""
        entries = ",".join(["[128]"] * 16_384)
        ((block,), _) = server.decode(f'[[5,"room","ZQ==",7,[{entries}]]]')
        assert isinstance(block, Entries)
        assert len(block.entries) == 16_384
        with pytest.raises(MalformedBatch, match="more than 16384 unknown entries"):
            server.decode(f'[[5,"room","ZQ==",7,[{entries},[128]]]]')

    def test_a_bound_on_the_messages_of_a_batch(self) -> None:
        """S51: seen before any of them is decoded; brackets elsewhere are none of them."""
        text = "[" + ",".join(['[5,"x"]'] * 1001) + "]"
        assert len(client.decode(text, 1001)[0]) == 1001
        with pytest.raises(MalformedBatch, match="more than 1000 messages"):
            client.decode(text, 1000)
        with pytest.raises(MalformedBatch, match="more than 1000 messages"):
            client.decode("[" + ",".join(["[]"] * 1001) + "]", 1000)
        batch = [PublishText(1, "room", "[" * 2000)]
        assert client.decode(JSON.encode_batch(batch), 1000) == (batch, 0)
        with pytest.raises(MalformedBatch, match="not a batch"):
            client.decode("[" * 2000, 1000)


HOSTILE = [
    "",
    " ",
    "{}",
    "null",
    "5",
    '"[]"',
    "[",
    "[[]]",
    "[5]",
    "[{}]",
    '[{"18":1}]',
    '[["18",7,"room"]]',
    "[[127]]",
    "[[18]]",
    "[[0200]]",
    "[[-200]]",
    '[[18,"7","room"]]',
    "[[18,7,8]]",
    "[[18,7,null]]",
    "[[18,7,true]]",
    '[[18,7.0,"room"]]',
    '[[18,7e0,"room"]]',
    '[[18,NaN,"room"]]',
    '[[18,-Infinity,"room"]]',
    '[[18,1e999,"room"]]',
    '[[18,18446744073709551616,"room"]]',
    '[[18,-9223372036854775809,"room"]]',
    f'[[18,{"9" * 400},"room"]]',
    f'[[18,{"9" * 10_000},"room"]]',
    f'[[200],[18,{"9" * 30},"room"]]',
    f"[[{'9' * 10_000}]]",
    '[[18,7,"\\ud800"]]',
    '[[18,7,"\\udc00\\ud800"]]',
    '[[18,7,"\\u00"]]',
    '[[18,7,"\\x41"]]',
    '[[18,7,"\n"]]',
    '[[17,7,"room","a"]]',
    '[[17,7,"room","aGk"]]',
    '[[17,7,"room","aG k="]]',
    '[[17,7,"room","_-8="]]',
    '[[18,7,"room"]] x',
    '[[18,7,"room"],]',
    "[[200],[18,7]]",
    "[" * 5000,
    "[" * 5000 + "]" * 5000,
    "[[200," + "[" * 100_000 + "]" * 100_000 + "]]",  # deeper than any Python goes
    "[[200," + '{"a":' * 100_000 + "1" + "}" * 100_000 + "]]",
    b"\xff",
    b'[[18,7,"\xed\xa0\x80"]]',
    b'[[18,7,"\xff"]]',
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:24]))
def test_anything_else_is_refused(payload: str | bytes) -> None:
    """S50: by one documented error, whatever msgspec raises; with and without a bound on the messages."""
    for bound in (None, 10):
        with pytest.raises(MalformedBatch):
            client.decode(payload, bound)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 2**53 + 1])
def test_numbers_of_64_bits(number: int) -> None:
    """S50: what MessagePack has, and no more."""
    assert client.decode(f'[[18,{number},"room"]]') == ([Join(number, "room")], 0)
    text = f'[[18,1,"{"9" * 40}"]]'
    assert client.decode(text) == ([Join(1, "9" * 40)], 0)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**20, 10**400])
@pytest.mark.parametrize(
    "template", ["[[18,%d,'room']]", "[[18,1,'1234567890123456789'],[4,1,1,%d]]", "[[6,'','',%d ]]"]
)
def test_numbers_beyond_64_bits(number: int, template: str) -> None:
    """S50: the documented error, wherever they stand; long digits in texts are none."""
    payload = (template % number).replace("'", '"')
    with pytest.raises(MalformedBatch):
        client.decode(payload)


@pytest.mark.parametrize("seed", range(20))
def test_random_and_mutated_text(seed: int) -> None:
    """S50: never anything but the documented error."""
    rng = random.Random(seed)
    valid = JSON.encode_batch(
        [
            Login("alice", "token", b"i" * 16, b"l" * 16, 0, b"s", 5, 1),
            Want((WantedChannel("room", b"e", 1),)),
            PublishText(1, "room", "häl\x00"),
        ]
    )
    for decoder in (client, server):
        for _ in range(300):
            data = bytearray(valid if rng.random() < 0.8 else rng.randbytes(rng.randint(0, 60)))
            for _ in range(rng.randint(0, 4)):
                if data:
                    data[rng.randrange(len(data))] = rng.choice(b'[]{},:"\\0129eE.-u \xc3\xff')
            try:
                messages, skipped = decoder.decode(bytes(data))
            except MalformedBatch:
                continue
            assert len(messages) + skipped <= len(data)


class TestEntries:
    """E4: entries are kept in MessagePack, and made JSON for those who read it."""

    ENTRIES = (TextEntry("a", "t\x00xt", 5), BytesEntry("b", b"bytes", 6), JoinedEntry("c"), LeftEntry("d", 2))

    def test_both_blocks_say_the_same(self) -> None:
        encoded = [encode_entry(entry) for entry in self.ENTRIES]
        expected = ([Entries("room", b"epoch", 7, list(self.ENTRIES))], 0)
        assert MSGPACK.server_decoder.decode(MSGPACK.encode_block("room", b"epoch", 7, encoded)) == expected
        assert server.decode(JSON.encode_block("room", b"epoch", 7, encoded)) == expected

    def block_of(self, *entries: bytes) -> list[Any]:
        ((_, _, _, _, found),) = msgspec.json.decode(JSON.encode_block("room", b"epoch", 7, entries))
        return found  # type: ignore[no-any-return]

    def test_entries_of_a_later_version_are_as_they_were(self) -> None:
        """F-62: with all that they say; bytes are base64, keys of objects are text."""
        new = [130, "text", b"\x00\xff", {"key": [1, 2.5, None], 7: True}]
        assert self.block_of(encode(new)) == [[130, "text", "AP8=", {"key": [1, 2.5, None], "7": True}]]
        longer = encode([1, "bob", "hi", 5, ["new"]])
        assert self.block_of(longer) == [[1, "bob", "hi", 5, ["new"]]]

    @pytest.mark.parametrize(
        "unsayable",
        [
            encode(msgspec.msgpack.Ext(5, b"x")),
            encode({(1, 2): 3}),
            encode({None: 1}),
            b"\x81\x80\x01",  # a map as a key
            b"\xa2\xff\xfe",  # a text that is none
        ],
        ids=["extension", "array as key", "nil as key", "map as key", "no text"],
    )
    def test_what_json_cannot_say_is_null(self, unsayable: bytes) -> None:
        """F-62: one such field does not cost the others, and the entry keeps its tag and its offset."""
        entry = b"\x95\x01\xa3bob\xa2hi\x05" + unsayable
        assert self.block_of(entry, encode_entry(JoinedEntry("c"))) == [[1, "bob", "hi", 5, None], [3, "c"]]
        ((block,), _) = server.decode(JSON.encode_block("room", b"epoch", 7, [entry]))
        assert block == Entries("room", b"epoch", 7, [TextEntry("bob", "hi", 5)])

    def test_what_is_no_entry_at_all(self) -> None:
        """S50: a reader judges, as it does in MessagePack; the hub goes on."""
        deep = b"\x92\xcc\x82" + b"\x91" * 100_000 + b"\x90"
        assert self.block_of(b"\xc1", b"", b"\x92\x01", deep) == [None, None, None, None]

    def test_floats_that_json_has_not(self) -> None:
        assert self.block_of(encode([140, float("inf"), float("nan")])) == [[140, None, None]]
        assert server.decode(JSON.encode_batch([Renewed(1, float("inf"))])) == ([Renewed(1, None)], 0)


class TestPieces:
    """S45: senders split batches."""

    def test_as_few_as_needed(self) -> None:
        """S45: in bytes of JSON; nothing is lost or moved."""
        messages = [PublishText(number, "room", "\x00" * 50) for number in range(100)]
        pieces = JSON.encode_in_pieces(messages, 2000, 0)
        assert all(1600 < len(piece) <= 2000 for piece in pieces[:-1])
        assert [message for piece in pieces for message in client.decode(piece)[0]] == messages
        assert len(JSON.encode_in_pieces(messages, 1 << 20, 0)) == 1

    def test_exactly_full(self) -> None:
        """S45: brackets and commas count."""
        messages = [Leave(number, "x" * 90) for number in range(10, 30)]
        one = len(msgspec.json.encode(messages[0]))
        for count in (1, 2, 7):
            size = count * one + count - 1 + 2
            full = JSON.encode_in_pieces(messages, size, 0)
            assert [len(piece) for piece in full[:-1]] == [size] * (len(full) - 1)
            assert len(client.decode(full[0])[0]) == count
            assert len(client.decode(JSON.encode_in_pieces(messages, size - 1, 0)[0])[0]) == max(1, count - 1)

    def test_a_single_message_is_never_split(self) -> None:
        assert len(JSON.encode_in_pieces([PublishText(1, "room", "x" * 5000)], 2000, 9000)) == 1

    def test_what_cannot_fit_is_not_tried(self) -> None:
        messages = [Failed(number, 4305, "x" * 100) for number in range(20)]
        pieces = JSON.encode_in_pieces(messages, 1000, 2000)
        assert [message for piece in pieces for message in server.decode(piece)[0]] == messages
        assert all(len(piece) <= 1000 for piece in pieces)


def test_limits_before_and_behind_the_welcome() -> None:
    """S45: whatever fits in one encoding fits in the other."""
    assert (MSGPACK.login_bytes, JSON.login_bytes) == (16_384, 32_768)
    assert (MSGPACK.frame_bytes(131_072), JSON.frame_bytes(131_072)) == (131_072, 786_432)
    login = Login('"' * 64, "\\" * 8192, bytes(16), bytes(16), 2**31, bytes(16), 2**53, 2**31)
    assert len(MSGPACK.encode_batch([login])) <= MSGPACK.login_bytes
    assert len(JSON.encode_batch([login])) <= JSON.login_bytes


def test_a_client_message_is_none_of_a_server() -> None:
    """S50: the two directions have their own tags."""
    with pytest.raises(MalformedBatch):
        client.decode(JSON.encode_batch([Sent(1, b"e", 1, 1)]))
    assert server.decode(JSON.encode_batch([Done(1)])) == ([Done(1)], 0)
    assert client.decode(JSON.encode_batch([Progress(1, 1)])) == ([Progress(1, 1)], 0)
