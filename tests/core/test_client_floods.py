"""A server that floods its client with frames that are no messages (F-64, S50)."""

from __future__ import annotations

import pytest

from core.fake_server import Rig
from rtm_sansio._frames import BINARY, CONTINUATION, PING, encode_frame
from rtm_sansio.messages import HEARTBEAT, LOGIN_BYTES, encode_batch
from rtm_sansio.states import ConnectionState

HEARTBEAT_FRAME = encode_frame(HEARTBEAT)
PING_FRAME = encode_frame(b"", opcode=PING)


def connected() -> Rig:
    rig = Rig()
    rig.connect("lobby")
    return rig


def fragments(count: int) -> bytes:
    """A heartbeat of which so many fragments are no first ones."""
    middle = encode_frame(b"", opcode=CONTINUATION, fin=False) * (count - 1)
    return encode_frame(b"", opcode=BINARY, fin=False) + middle + encode_frame(HEARTBEAT, opcode=CONTINUATION)


@pytest.mark.parametrize("half", [PING_FRAME * 512 + HEARTBEAT_FRAME, fragments(512)], ids=["pings", "fragments"])
def test_a_flood_in_one_read_is_a_violation(half: bytes) -> None:
    """Up to 1,024 in a read are borne, however many reads there are; more is a loud loss, and the close says 1008."""
    rig = connected()
    for _ in range(5):
        rig.feed(half + half)
    assert rig.server.closed_with is None
    rig.feed(half + half + PING_FRAME)
    assert rig.server.closed_with == 1008
    rig.advance(0.6)
    rig.accept()
    assert rig.state is ConnectionState.CONNECTED


def test_the_wires_own_limit_and_the_peers_close_come_first() -> None:
    """A wire that is over by itself says why: 1,024 control frames without a message between, or the peer's code."""
    rig = connected()
    rig.feed(PING_FRAME * 1025)
    assert rig.server.closed_with == 1008
    rig = connected()
    rig.server.wire.close(1001)
    rig.feed((PING_FRAME * 600 + HEARTBEAT_FRAME) * 2 + rig.server.wire.data_to_send())
    assert rig.server.closed_with == 1001


@pytest.mark.parametrize(("size", "code"), [(LOGIN_BYTES, 1002), (LOGIN_BYTES + 1, 1009)])
def test_a_large_message_before_the_welcome_is_not_even_decoded(size: int, code: int) -> None:
    """S45: 16 KiB in both directions before the login is accepted; what is wrong with a smaller one is another
    matter."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.feed(encode_frame(b"\xc1" * size))
    assert rig.server.closed_with == code


def test_what_follows_the_welcome_in_the_same_read_may_be_large() -> None:
    """S45: the limit ends with the welcome, not with the read."""
    rig = Rig()
    rig.login()
    rig.open()
    welcome = encode_frame(encode_batch([rig.welcome()]))
    rig.feed(welcome + encode_frame(b"\xc1" * (LOGIN_BYTES + 1)))
    assert rig.server.closed_with == 1002
