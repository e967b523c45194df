"""The wire schema: what decodes, what is skipped, what is refused (S50, S45, F-62)."""

from __future__ import annotations

import random
import sys

import msgspec
import pytest

from rtm_sansio.messages import (
    HEARTBEAT,
    BytesEntry,
    Done,
    Entries,
    History,
    Hold,
    InboxPlace,
    Join,
    JoinedEntry,
    LeftEntry,
    Limits,
    Login,
    MalformedBatch,
    Progress,
    PublishText,
    RenewToken,
    Sent,
    TextEntry,
    UnknownEntry,
    Want,
    WantedChannel,
    Welcome,
    client_decoder,
    encode_batch,
    encode_block,
    encode_entry,
    encode_in_pieces,
    server_decoder,
)

encode = msgspec.msgpack.encode


def test_the_heartbeat_is_the_empty_batch() -> None:
    """S10."""
    assert encode_batch([]) == HEARTBEAT
    assert client_decoder().decode(HEARTBEAT) == ([], 0)


def test_messages_are_arrays_that_begin_with_their_tag() -> None:
    """The schema on the wire."""
    batch = encode_batch([Join(7, "room"), Progress(1, 7)])
    assert msgspec.msgpack.decode(batch) == [[18, 7, "room"], [4, 1, 7, 0]]
    assert client_decoder().decode(batch) == ([Join(7, "room"), Progress(1, 7)], 0)


def test_trailing_fields_of_a_later_version_are_ignored() -> None:
    """F-62: optional fields at the end."""
    assert client_decoder().decode(encode([[18, 7, "room", "new", {}]])) == ([Join(7, "room")], 0)
    assert client_decoder().decode(encode([[2, [["room"], ["b", b"e", 1, "new"]]]])) == (
        [Want((WantedChannel("room"), WantedChannel("b", b"e", 1)))],
        0,
    )


def test_unknown_optional_messages_are_skipped_and_counted() -> None:
    """F-62: tags of 128 and above."""
    batch = encode([[128, "x"], [18, 7, "room"], [200], [2**40, 1]])
    assert client_decoder().decode(batch) == ([Join(7, "room")], 3)


def test_unknown_messages_have_a_bound() -> None:
    """S50: 1,024 of them in a batch, among others."""
    known = [18, 7, "room"]
    assert client_decoder().decode(encode([known] + [[200]] * 1024)) == ([Join(7, "room")], 1024)
    with pytest.raises(MalformedBatch, match="more than 1024 unknown"):
        client_decoder().decode(encode([known] + [[200]] * 1025))


@pytest.mark.parametrize("tag", [b"\x12", b"\xcc\x12", b"\xcd\x00\x12", b"\xd3" + bytes(7) + b"\x12"])
@pytest.mark.parametrize("head", [b"\x93", b"\xdc\x00\x03", b"\xdd\x00\x00\x00\x03"])
def test_a_tag_is_any_integer_also_beside_unknown_messages(tag: bytes, head: bytes) -> None:
    """F-62: however it is encoded."""
    payload = b"\x92" + head + tag + b"\x07\xa4room" + b"\x91\xcc\xc8"
    assert client_decoder().decode(payload) == ([Join(7, "room")], 1)


@pytest.mark.parametrize("head", [b"\xdc\x03\xe9", b"\xdd\x00\x00\x03\xe9"])
def test_a_bound_on_the_messages_of_a_batch(head: bytes) -> None:
    """S51: seen in the head of the array; a short one, or what is no array, is nothing for it."""
    payload = head + b"\x92\x05\xa1x" * 1001
    assert len(client_decoder().decode(payload, 1001)[0]) == 1001
    with pytest.raises(MalformedBatch, match="more than 1000 messages"):
        client_decoder().decode(payload, 1000)
    batch = encode_batch([PublishText(1, "room", "x" * 2000)])
    assert client_decoder().decode(batch, 1000) == ([PublishText(1, "room", "x" * 2000)], 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        b"\x91",
        b"\x90\x90",
        encode({}),
        encode([1]),
        encode([[]]),
        encode([["18", 7]]),
        encode([[127]]),
        encode([[18]]),
        encode([[18, "7", "room"]]),
        encode([[18, 7, b"room"]]),
        encode([[5, "log", b"e", 1, [[1, "uid", "x", 1]], 5], [99]]),
        encode([[200], [18, 7]]),
        b"\x91" * 5000,
        b"\x91\x93\x12\x07\xa2\xff\xfe",
        b"\x91\x93\x10\x07\xa4\xed\xa0\x80x",
        b"\x91\x93\x10\x07\xa1x\xa3\xed\xa0\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff",
    ],
)
def test_anything_else_is_refused(payload: bytes) -> None:
    """S50: by one documented error, whatever msgspec raises."""
    with pytest.raises(MalformedBatch):
        client_decoder().decode(payload)


def test_a_server_message_is_none_of_a_client() -> None:
    """S50: the two directions have their own tags."""
    with pytest.raises(MalformedBatch):
        client_decoder().decode(encode_batch([Sent(1, b"e", 1, 1)]))


@pytest.mark.parametrize("seed", range(20))
def test_random_and_mutated_bytes(seed: int) -> None:
    """S50: never anything but the documented error."""
    rng = random.Random(seed)
    valid = encode_batch(
        [
            Login("alice", "token", b"i" * 16, b"l" * 16, 0, b"s", 5, 1),
            Want((WantedChannel("room", b"e", 1),)),
            PublishText(1, "room", "häl"),
        ]
    )
    for decoder in (client_decoder(), server_decoder()):
        for _ in range(300):
            data = bytearray(valid if rng.random() < 0.8 else rng.randbytes(rng.randint(0, 60)))
            for _ in range(rng.randint(0, 4)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                messages, skipped = decoder.decode(bytes(data))
            except MalformedBatch:
                continue
            assert len(messages) + skipped <= len(data)


class TestEntries:
    """E4, F-62: entries are encoded once and taken as they are."""

    ENTRIES = (TextEntry("a", "text", 5), BytesEntry("b", b"bytes", 6), JoinedEntry("c"), LeftEntry("d", 2))

    def test_a_block_holds_the_bytes_of_its_entries(self) -> None:
        """E4."""
        encoded = [encode_entry(entry) for entry in self.ENTRIES]
        batch = encode_block("room", b"epoch", 7, encoded)
        assert all(one in batch for one in encoded)
        assert server_decoder().decode(batch) == ([Entries("room", b"epoch", 7, list(self.ENTRIES))], 0)

    def test_entries_of_a_later_version_take_an_offset(self) -> None:
        """F-62: those of 128 and above; a lower one is a protocol error."""
        encoded = [encode_entry(self.ENTRIES[0]), encode([130, "new"]), encode_entry(self.ENTRIES[2])]
        ((block,), skipped) = server_decoder().decode(encode_block("room", b"epoch", 7, encoded))
        assert isinstance(block, Entries)
        assert block.entries == [self.ENTRIES[0], UnknownEntry(130), self.ENTRIES[2]]
        assert skipped == 0
        with pytest.raises(MalformedBatch):
            server_decoder().decode(encode_block("room", b"epoch", 7, [encode([99, "x"])]))

    def test_unknown_entries_have_a_bound(self) -> None:
        """S50: 16,384 of them in a batch, in one block or in many, and none of them costs an exception."""
        known = encode_entry(self.ENTRIES[2])
        least = encode([128])
        ((block,), _) = server_decoder().decode(encode_block("room", b"epoch", 7, [known] + [least] * 16_384))
        assert isinstance(block, Entries)
        assert len(block.entries) == 16_385
        with pytest.raises(MalformedBatch, match="more than 16384 unknown entries"):
            server_decoder().decode(encode_block("room", b"epoch", 7, [least] * 16_385))
        half = [5, "room", b"epoch", 7, [[128]] * 8192]
        assert len(server_decoder().decode(encode([half, half]))[0]) == 2
        with pytest.raises(MalformedBatch, match="more than 16384 unknown entries"):
            server_decoder().decode(encode([half, half, [5, "room", b"epoch", 7, [[128]]]]))

    @pytest.mark.parametrize(
        "batch",
        [
            encode_block("room", b"epoch", 7, [encode([128])] * 1000),
            encode_block("room", b"epoch", 7, [encode([2**40, "x"])] * 1000),
            encode([[5, "room", b"epoch", 7, [[128]]]] * 1000),
        ],
        ids=["one block", "large tags", "many blocks"],
    )
    def test_many_unknown_entries_take_no_time(self, batch: bytes) -> None:
        """S50: not one exception each, which would stop a client's loop for a time that the server chooses."""
        exceptions = 0

        def count(frame: object, event: str, function: object) -> None:
            nonlocal exceptions
            exceptions += event == "c_exception"

        decoder = server_decoder()
        sys.setprofile(count)
        try:
            decoder.decode(batch)
        finally:
            sys.setprofile(None)
        assert exceptions == 1

    @pytest.mark.parametrize("tag", [b"\xcc\x82", b"\xcd\x00\x82", b"\xd3" + bytes(7) + b"\x82"])
    @pytest.mark.parametrize("head", [b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02"])
    def test_the_tag_of_an_unknown_entry_is_any_integer(self, tag: bytes, head: bytes) -> None:
        """F-62: however it is encoded."""
        ((block,), _) = server_decoder().decode(encode_block("room", b"epoch", 7, [head + tag + b"\xc0"]))
        assert isinstance(block, Entries)
        assert block.entries == [UnknownEntry(130)]

    @pytest.mark.parametrize("entry", [b"\x90", b"\x91\xc3", b"\x91\xff", b"\x05", b"\x91\x01", b"\x92\x03\xc4\x00"])
    def test_what_is_no_entry_beside_unknown_ones(self, entry: bytes) -> None:
        """S50: an error, as without them."""
        for entries in ([entry], [encode([128]), entry]):
            with pytest.raises(MalformedBatch):
                server_decoder().decode(encode_block("room", b"epoch", 7, entries))

    def test_a_growing_batch_keeps_its_other_messages(self) -> None:
        """F-62."""
        growing = msgspec.msgpack.decode(encode_block("room", b"epoch", 7, [encode([130])]))
        batch = encode([[16, 4], [180], *growing])
        messages, skipped = server_decoder().decode(batch)
        assert messages == [Done(4), Entries("room", b"epoch", 7, [UnknownEntry(130)])]  # type: ignore[list-item]
        assert skipped == 1

    def test_pages_of_history_grow(self) -> None:
        """F-62, S50: as blocks do, with one bound for both."""
        page = [23, 4, b"epoch", 7, False, [msgspec.to_builtins(self.ENTRIES[0]), [130, "new"]]]
        messages, skipped = server_decoder().decode(encode([page]))
        assert messages == [History(4, b"epoch", 7, False, [self.ENTRIES[0], UnknownEntry(130)])]  # type: ignore[list-item]
        assert skipped == 0
        half = [[128]] * 8192
        batch = [[23, 4, b"epoch", 7, False, half], [5, "room", b"epoch", 7, half]]
        assert len(server_decoder().decode(encode(batch))[0]) == 2
        with pytest.raises(MalformedBatch, match="more than 16384 unknown entries"):
            server_decoder().decode(encode([*batch, [23, 5, b"epoch", 7, False, [[128]]]]))

    def test_only_entries_grow(self) -> None:
        """S50: another message that does not decode is an error."""
        with pytest.raises(MalformedBatch):
            server_decoder().decode(encode([[16]]))


class TestPieces:
    """S45: senders split batches."""

    def test_as_few_as_needed(self) -> None:
        """S45: halved where one would be larger; nothing is lost or moved."""
        messages = [PublishText(number, "room", "x" * 100) for number in range(100)]
        pieces = encode_in_pieces(messages, 2000)
        assert all(len(piece) <= 2000 for piece in pieces)
        assert [message for piece in pieces for message in client_decoder().decode(piece)[0]] == messages
        assert len(encode_in_pieces(messages, 1 << 20)) == 1

    def test_a_single_message_is_never_split(self) -> None:
        """S45: its size was checked before."""
        assert len(encode_in_pieces([PublishText(1, "room", "x" * 5000)], 2000)) == 1

    @pytest.mark.parametrize("told", [False, True])
    def test_pieces_are_full_and_each_message_is_encoded_once(
        self, monkeypatch: pytest.MonkeyPatch, told: bool
    ) -> None:
        """S45, S50: whatever their sizes; once more only if nobody knew how much they are."""
        sizes = [10, 1990, 1960, 40, 700, 700, 700, 3000, 20, 20, 2500, 5]
        messages = [PublishText(number, "room", "x" * size) for number, size in enumerate(sizes)]
        encoded: list[object] = []

        class Encoder:
            def encode(self, value: object) -> bytes:
                encoded.append(value)
                return encode(value)

        monkeypatch.setattr("rtm_sansio.messages._encoder", Encoder())
        pieces = encode_in_pieces(messages, 2000, sum(sizes) if told else 0)
        assert encoded == ([] if told else [messages]) + messages
        batches = [client_decoder().decode(piece)[0] for piece in pieces]
        assert [message for batch in batches for message in batch] == messages
        assert [len(batch) for batch in batches] == [1, 1, 1, 3, 1, 1, 2, 1, 1]
        assert all(len(piece) <= 2000 for piece, batch in zip(pieces, batches, strict=True) if len(batch) > 1)

    @pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
    def test_a_piece_is_encoded_as_a_batch_is(self, count: int) -> None:
        """The same bytes, made message by message."""
        assert encode_in_pieces([7] * count, 100_000, 100_001) == [encode([7] * count)]


def test_nothing_secret_in_a_text_form() -> None:
    """S19, S53: tokens, session and login ids are never logged."""
    limits = Limits(2, 10, 30, 64, *(1 for _ in range(20)))
    for message in (
        Login("alice", "sesame", b"sesame", b"sesame", 0, b"sesame", 5, 1),
        RenewToken(1, "sesame"),
        Welcome(b"sesame", 5, 1, False, None, limits, InboxPlace(b"e", 0, 0)),
    ):
        assert "sesame" not in repr(message)
    assert "log" in repr(Hold("log"))
