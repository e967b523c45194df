"""The promises of the core's interface, on random and hostile inputs (design: promises 1 to 8 and 10; S50)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.checked_core import CheckedClientCore
from core.fake_server import EPOCH, INBOX_PLACE, OTHER_SESSION, SESSION, Rig, limits
from rtm_sansio.client import ClientCore, ClientTimer
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig
from rtm_sansio.endpoints import parse_endpoints
from rtm_sansio.errors import LoginTimeout, RtmError, TransportFailure
from rtm_sansio.events import ConnectionStateChanged, RequestCompleted
from rtm_sansio.messages import (
    HEARTBEAT,
    Attribute,
    Attributes,
    AttributesResult,
    Changed,
    ChannelResult,
    Done,
    Entries,
    Failed,
    Gap,
    Going,
    History,
    Joined,
    JoinedEntry,
    Kicked,
    LoginRefused,
    MemberCount,
    MemberCounts,
    Members,
    MembersResumedEntry,
    PublishText,
    Renewed,
    Restored,
    Sent,
    TextEntry,
    Want,
    Welcome,
    encode_batch,
)
from rtm_sansio.states import ConnectionState

NAMES = ["lobby", "other", "third", "x" * 64]
CODES = [*(int(code) for code in Code), 0, 1000, 4050, 4150, 4250, 4350, -1]
FAILURES = ["connection_refused", "certificate_not_trusted", "http_404", "http_503", "connection_lost", "odd"]


def core(seed: int = 0, config: ClientConfig | None = None) -> CheckedClientCore:
    return CheckedClientCore(
        config or ClientConfig(),
        endpoints=parse_endpoints(["ws://a.test", "wss://b.test"]),
        rng=random.Random(seed),
        entropy=random.Random(seed).randbytes,
    )


class Chaos:
    """A client core, a server that says anything, an app that calls anything, a clock that goes anywhere."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig = Rig(seed=seed, answer_heartbeats=self.random.random() < 0.7)
        self.token = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            kind = self.random.choices(
                [self.command, self.network, self.server, self.time, self.junk], weights=[5, 4, 8, 2, 1]
            )[0]
            try:
                kind()
            except RtmError:
                pass
            self.rig.take()

    def number(self) -> int:
        issued = sorted(self.rig.core.seen_issued) or [1]
        return self.random.choice([*issued[-6:], 0, 99_999])

    def command(self) -> None:
        rig, choose = self.rig, self.random.choice
        self.token += 1
        name = choose(NAMES)
        joined = choose([one for one in NAMES if rig.core.cursor(one) is not None] or NAMES)
        timeout = choose([None, None, 0.5, 30.0])
        command = choose(
            [
                lambda: rig.call("login", "alice", "t0", token_provider=self.random.random() < 0.3),
                lambda: rig.call("login", "alice", None, token_provider=True),
                lambda: self.rarely("logout"),
                lambda: rig.call("join", name, timeout_seconds=timeout),
                lambda: rig.call("leave", name, timeout_seconds=timeout),
                lambda: rig.call("publish", name, choose(["x", b"y", "z" * 20_000]), timeout_seconds=timeout),
                lambda: rig.call("publish", name, "x"),
                lambda: rig.call("list_members", joined, after=choose(["", "bob"]), timeout_seconds=timeout),
                lambda: rig.call("count_members", [name, "other"], timeout_seconds=timeout),
                lambda: rig.call("read_history", joined, before=choose([None, 5]), timeout_seconds=timeout),
                lambda: rig.call("change_attributes", put={name: "x" * choose([0, 9000])}, timeout_seconds=timeout),
                lambda: rig.call("change_attributes", name, drop=[name], notify=True),
                lambda: rig.call("read_attributes", channel=choose([None, name]), timeout_seconds=timeout),
                lambda: rig.call("renew_token", f"t{self.token}"),
                lambda: rig.call("retry_now"),
                lambda: rig.call("cancel", self.number()),
                lambda: rig.call("iterating", name, self.random.random() < 0.5, backlog_events=3, backlog_bytes=9),
                lambda: rig.call("consumed", name, self.random.randint(0, 20_000), 5),
                lambda: rig.call("token_supplied", choose([*rig.asked[-2:], 0]), choose(["p", "", f"p{self.token}"])),
                lambda: rig.call("token_failed", choose([*rig.asked[-2:], 0]), OSError()),
            ]
        )
        command()

    def rarely(self, name: str) -> None:
        if self.random.random() < 0.2:
            self.rig.call(name)

    def an_id(self) -> int:
        ids = [one.transport_id for one in self.rig.opened] or [1]
        return self.random.choice([ids[-1]] * 8 + [self.random.choice(ids), 0, -1, ids[-1] + 1])

    def network(self) -> None:
        rig, transport_id = self.rig, self.an_id()
        cause = TransportFailure("x", code=self.random.choice(FAILURES))
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("transport_opened", (transport_id,)),
            ("transport_opened", (transport_id,)),
            ("transport_opened", (transport_id,)),
            ("transport_failed", (transport_id, cause)),
            ("transport_lost", (transport_id, self.random.choice([None, cause]))),
            ("unsent", (transport_id, self.random.randint(0, 10**6))),
        ]
        name, arguments = self.random.choice(calls)
        rig.call(name, *arguments)

    def server(self) -> None:
        rig = self.rig
        if not rig.opened or not rig.server.wire.is_open:
            return
        if self.random.random() < 0.97:
            self.fitting()
        else:
            rig.say(*[self.message() for _ in range(self.random.randint(0, 2))])

    def fitting(self) -> None:
        """What a good server would say."""
        rig = self.rig
        link = rig.core._connection.link
        if link is None or link.transport_id != rig.server.transport_id:
            return
        chance = self.random.random()
        if link.phase.name == "LOGIN" and chance < 0.2:
            rig.say(LoginRefused(self.random.choice(CODES), "no", self.random.choice([None, 1.0])))
        elif link.welcomed and chance < 0.05:
            rig.say(Kicked(self.random.choice(CODES), "out"))
        elif link.phase.name == "LOGIN":
            gone = self.random.random() < 0.3
            fields = {"resumed": False, "session_id": OTHER_SESSION} if gone else {}
            rig.say(rig.welcome(expires_in=self.random.choice([None, 1.0, 40.0]), **fields))
        elif link.phase.name == "RESTORING" and rig.server.of_type(Want):
            rig.say(rig.restored({self.random.choice(NAMES): 4304}))
        else:
            rig.answer_all()
            name = self.random.choice([one for one in NAMES if rig.core.cursor(one) is not None] or NAMES)
            cursor = rig.core.cursor(name)
            if cursor is not None and chance > 0.8:
                rig.say(Entries(name, EPOCH, cursor + 1, [MembersResumedEntry()]), MemberCount(name, 600))
            elif cursor is not None and chance > 0.6:
                rig.say(Gap(name, EPOCH, cursor + 3, 3))
            elif cursor is not None:
                rig.entries(cursor + 1, "a", "b", channel=name)

    def message(self) -> Any:
        r, choose = self.random, self.random.choice
        number, name, code = self.number(), choose(NAMES), choose(CODES)
        entry = choose(
            [TextEntry("bob", "x", 0), TextEntry("alice", "y", 0), JoinedEntry("eve"), MembersResumedEntry()]
        )
        figures = [0, 1, 2, 5, -1, 2**63 - 1]
        return choose(
            [
                Welcome(
                    choose([SESSION, OTHER_SESSION, b""]),
                    1,
                    choose(figures),
                    r.random() < 0.5,
                    None,
                    limits(),
                    INBOX_PLACE,
                ),
                LoginRefused(code, "no", choose([None, 0.0, 3.0, float("nan"), float("inf")])),
                Restored((ChannelResult(name, choose([0, 4304]), ""),), r.random() < 0.3),
                Restored(()),
                choose([Kicked(code, ""), Going(name)]),
                Entries(name, choose([EPOCH, b"other"]), choose(figures), [entry] * r.randint(0, 4)),
                Gap(name, EPOCH, choose(figures), choose([None, 0, 7, -1])),
                Going(name),
                Done(number),
                Sent(number, EPOCH, choose(figures), 0),
                Changed(number, choose(figures)),
                Attributes(number, choose(figures), (Attribute("k", "v", 1, "bob", 0),)),
                Restored((), False, AttributesResult(choose([0, code]), "no")),
                Joined(number, EPOCH, choose(figures), 1, None),
                Renewed(number, choose([None, 5.0, -1.0, float("nan"), float("inf"), 1e300])),
                Failed(number, code, ""),
                MemberCount(name, choose(figures)),
                Members(
                    number, choose([EPOCH, b"other"]), choose(figures), choose(figures), ("bob",), r.random() < 0.5
                ),
                MemberCounts(number, choose([(), (1,), (0, 600), (1, -1)])),
                History(number, EPOCH, choose(figures), r.random() < 0.5, [entry] * r.randint(0, 4)),
            ]
        )

    def time(self) -> None:
        rig = self.rig
        how = self.random.random()
        if how < 0.1:
            back = rig.now
            rig.now -= self.random.uniform(0.0, 50.0)
            rig.tick()
            rig.now = back
        elif how < 0.3:
            rig.now += self.random.choice([0.0, 0.1, 3.0, 8.0, 500.0])
            rig.tick()
        elif how < 0.6:
            rig.advance(self.random.uniform(0.0, 6.0))
        else:
            deadline = rig.core.next_deadline()
            if deadline is not None:
                rig.advance(max(0.0, min(deadline - rig.now, 60.0)))

    def junk(self) -> None:
        rig = self.rig
        data = self.random.randbytes(self.random.randint(0, 40))
        if rig.opened and rig.server.wire.is_open and self.random.random() < 0.7:
            data = rig.server.wire.frame(data)
        rig.call("receive_data", self.an_id(), data)


@pytest.mark.parametrize("block", range(8))
def test_chaos(block: int):
    """Promises 1 to 7, S2, S9, S50: whatever comes in whatever order, nothing raises and each promise holds at each
    step (``CheckedClientCore`` looks); afterwards a logout leaves nothing."""
    for seed in range(block * 8, block * 8 + 8):
        chaos = Chaos(seed)
        chaos.run(300)
        rig = chaos.rig
        if rig.state is not ConnectionState.DISCONNECTED:
            rig.call("logout")
        rig.advance(2.0)
        assert rig.core.next_deadline() is None
        assert not rig.core.seen_transports
        assert rig.core.seen_issued <= set(rig.core.seen_ended) | rig.core.seen_cancelled


def test_chaos_reaches_everything():
    """The random runs are worth something: each state, timer and most reasons occur."""
    states, timers, reasons, events, results = set(), set(), set(), set(), set()
    for seed in range(80):
        chaos = Chaos(seed)
        for _ in range(300):
            chaos.run(1)
            states.add(chaos.rig.state)
            timers.add(chaos.rig.core.next_timer())
        reasons |= {reason for _, reason in chaos.rig.changes}
        events |= {type(event).__name__ for event in chaos.rig.events}
        ends = chaos.rig.ends.values()
        results |= {type(end.result).__name__ for end in ends if isinstance(end, RequestCompleted)}
    assert states == set(ConnectionState)
    assert timers >= set(ClientTimer) - {ClientTimer.PACE, ClientTimer.RESTORE, ClientTimer.REQUEST} | {None}
    assert len(reasons) >= 7
    assert {"ChannelMessageReceived", "ReconnectProblem", "MessagesLost", "TokenWillExpire"} <= events
    assert {"MemberCountChanged", "MembersResumed"} <= events
    assert {"MemberPage", "MemberCounts", "HistoryPage"} <= results


def in_phase(phase: str) -> tuple[Rig, int]:
    """A rig whose first transport has come so far, and the number of an open request, if there is one by then."""
    rig = Rig()
    number = rig.login()
    if phase == "handshake":
        rig.core.transport_opened(1, now=rig.now)
        rig.core.take_outputs()
    else:
        rig.open()
        if phase != "login":
            rig.say(rig.welcome())
        if phase in ("up", "closing"):
            rig.say(rig.restored())
            rig.join("lobby")
            rig.entries(1, "one")
            number = rig.publish()
        if phase == "closing":
            number = rig.call("logout")
    return rig, number


PHASES = ["handshake", "login", "restoring", "up", "closing"]


def is_unharmed(rig: Rig, phase: str, number: int) -> None:
    """S12, S50: after a violation the transport is closed, with the right code; that is a loud loss, of which the app
    sees nothing, and from which the session recovers with all that it had."""
    if phase == "closing":
        assert rig.state is ConnectionState.DISCONNECTED
        rig.advance(2.0)
        assert isinstance(rig.ends[number], RequestCompleted)
        assert rig.core.next_deadline() is None
        return
    code = rig.error(number).code if phase == "handshake" and number in rig.ends else None
    if code is not None:  # a server that speaks no WebSocket is a verdict (S6)
        assert code == "not_a_websocket"
        assert rig.state is ConnectionState.DISCONNECTED
        return
    if phase != "handshake":
        assert rig.closed == ({1: "flush"} if rig.server.closed_with else {})
        assert rig.server.closed_with in (None, 1002, 1003, 1007, 1008, 1009)
    assert rig.state is (ConnectionState.CONNECTING if phase in ("handshake", "login") else ConnectionState.CONNECTED)
    assert (number in rig.ends) is (phase == "restoring")
    assert len(rig.of_type(ConnectionStateChanged)) == (1 if phase in ("handshake", "login") else 2)
    assert rig.messages() == (["one"] if phase == "up" else [])
    if not rig.closed:
        rig.lose()  # it waits for the rest of a frame or of an answer
    rig.advance(0.5)
    rig.accept()
    assert rig.state is ConnectionState.CONNECTED
    assert len(rig.of_type(ConnectionStateChanged)) == 2
    if phase == "up":
        assert rig.server.of_type(Want)[0].channels[0].cursor == 1
        assert [one.number for one in rig.server.of_type(PublishText)] == [number]
        rig.entries(2, "two")
        assert rig.messages() == ["one", "two"]


JUNK = [
    (b"\xff\xff", 1002),  # bits that nobody has agreed on
    (b"\x83\x00", 1002),  # an unknown kind of frame
    (b"\x89\x7e\x00\x7e", 1002),  # a control frame that is too large
    (b"\x80\x01x", 1002),  # the end of a message that never began
    (b"\x82\x81abcdx", 1002),  # a server does not mask
    (b"\x81\x01x", 1003),  # a text in a binary subprotocol
    (b"\x81\x01\xff", 1007),  # and one that is none
    (b"\x82\xff" + b"\x7f" * 8, 1002),
    (b"\x82\x7f" + b"\x00" * 5 + b"\x7f" * 3, 1009),  # larger than anything
    (b"\x82\x01\xc1", 1002),  # no MessagePack
    (b"\x82\x01\x05", 1002),  # no batch
    (b"\x82\x02\x91\xc0", 1002),  # no message
    (b"\x82\x03\x91\x91\x63", 1002),  # an unknown one that cannot be passed over
    (b"\x82\x03\x91\x92\x01", 1002),  # one that is cut off
]


@pytest.mark.parametrize("phase", ["login", "restoring", "up"])
@pytest.mark.parametrize(("data", "close_code"), JUNK, ids=[data.hex() for data, _ in JUNK])
@pytest.mark.parametrize("chunk", [1, None])
def test_the_code_for_junk(data: bytes, close_code: int, phase: str, chunk: int | None):
    """S50: each violation has its close code, whichever way the bytes are cut; what comes behind it is not heard."""
    rig, number = in_phase(phase)
    rig.chunk = chunk
    rig.feed(data + rig.server.wire.frame(encode_batch([Kicked(Code.KICKED, "")])))
    rig.chunk = None
    assert rig.server.closed_with == close_code
    is_unharmed(rig, phase, number)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(PHASES))
def test_junk_bytes(pieces: list[bytes], phase: str):
    """Promise 1, S50: no sequence of bytes raises, in any phase, and none does more harm than a loss."""
    # Random bytes hit on a close frame now and then; its code may be one that ends the session, rightly.
    assume(not any(b"\x88" in piece for piece in pieces))
    rig, number = in_phase(phase)
    for piece in pieces:
        rig.call("receive_data", 1, piece)
    is_unharmed(rig, phase, number)
    rig.advance(30.0)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers(-5, 300) | st.binary(max_size=4) | st.text(max_size=4), st.lists, max_leaves=12
    )
)
def test_junk_batches(value: Any):
    """Promise 1, S50: nor does any MessagePack: it is passed over, or a violation with the code 1002."""
    rig, number = in_phase("up")
    batch = [value] if not isinstance(value, list) else value
    rig.feed(rig.server.wire.frame(encode_batch([batch])))
    optional = bool(batch) and type(batch[0]) is int and batch[0] >= 128
    if batch and type(batch[0]) is int and 0 <= batch[0] < 128:
        assert rig.server.closed_with in (None, 1002)  # a tag of ours: it may fit
    else:
        assert rig.server.closed_with == (None if optional else 1002)
    is_unharmed(rig, "up", number)


@pytest.mark.parametrize("transport_id", [0, -1, 2, 10**9])
@pytest.mark.parametrize("state", ["new", "opening", "up", "lost", "closing", "over"])
def test_stale_ids(transport_id: int, state: str):
    """Promise 1, F-09, F-36: reports for an id that is stale or unknown change nothing."""
    rig = Rig()
    if state != "new":
        rig.login()
    if state in ("up", "lost", "closing", "over"):
        rig.accept()
        rig.join("lobby")
    if state == "lost":
        rig.lose()
        transport_id = 1
    if state in ("closing", "over"):
        rig.call("logout")
    if state == "over":
        rig.advance(2.0)
        transport_id = 1
    frame = rig.server.wire.frame(HEARTBEAT) if state in ("up", "closing") else b"x"
    before = (rig.state, rig.core.next_deadline(), len(rig.outputs))
    rig.call("transport_opened", transport_id)
    rig.call("transport_failed", transport_id, TransportFailure("x", code="certificate_not_trusted"))
    rig.call("receive_data", transport_id, frame)
    rig.call("transport_lost", transport_id, None)
    rig.call("unsent", transport_id, 5)
    assert (rig.state, rig.core.next_deadline(), len(rig.outputs)) == before


def test_repeated_reports():
    """Promises 1 and 4: each is taken once."""
    rig = Rig()
    rig.login()
    rig.call("receive_data", 1, b"early")
    for _ in range(3):
        rig.call("transport_opened", 1)
        rig.call("transport_failed", 1, TransportFailure("x"))
    rig.say(rig.welcome())
    rig.say(rig.restored())
    for _ in range(3):
        rig.lose()
    rig.advance(0.5)
    assert [one.transport_id for one in rig.opened] == [1, 2]
    rig.refuse_transport()
    rig.refuse_transport()
    rig.advance(1.0)
    assert [one.transport_id for one in rig.opened] == [1, 2, 3]


def test_lost_before_it_was_opened():
    """Promise 4: a driver that reports a loss for an id that is still opening has answered it."""
    rig = Rig()
    rig.login()
    rig.lose()
    rig.call("transport_opened", 1)
    assert rig.outputs[-1].transport_id == 1
    rig.advance(0.5)
    assert [one.transport_id for one in rig.opened] == [1, 2]


def test_ticks_that_are_early_late_and_repeated():
    """Promise 5: what happens does not depend on useless ticks."""
    quiet, busy = Rig(seed=2), Rig(seed=2)
    for rig in (quiet, busy):
        rig.connect("lobby")
        rig.lose()
    for _ in range(600):
        busy.now += 0.02
        for _ in range(3):
            busy.tick()
    quiet.advance(12.0)
    assert busy.changes == quiet.changes
    assert busy.opened_at == pytest.approx(quiet.opened_at, abs=0.1)


@pytest.mark.parametrize("before", ["login", "up", "lost", "reconnecting"])
def test_one_tick_after_an_hour(before: str):
    """Promise 5, F-24, S11: ticks that were missed are processed as one: each thing that was due happens once, in its
    order, and nothing is made up for."""
    rig = Rig(jitter=1.0)
    number = rig.login()
    if before != "login":
        rig.accept()
        rig.join("lobby")
    if before in ("lost", "reconnecting"):
        rig.lose()
    if before == "reconnecting":
        rig.advance(4.0)
        assert len(rig.opened) == 2
    taken = len(rig.outputs)
    beats = len(rig.server.heartbeats)
    rig.now += 3600.0
    rig.tick()
    happened = [type(output).__name__ for output in rig.outputs[taken:]]
    deadline = rig.core.next_deadline()
    if before == "login":
        assert happened == ["CloseTransport", "ConnectionStateChanged", "RequestErred"]
        assert isinstance(rig.error(number), LoginTimeout)
        assert deadline is None
    elif before == "up":
        assert set(happened) == {"Transmit"}
        assert len(rig.server.heartbeats) == beats + 1
        assert rig.state is ConnectionState.CONNECTED
        assert deadline is not None
        assert deadline <= rig.now + 3.0
    elif before == "lost":
        assert sorted(happened) == ["ConnectionStateChanged", "OpenTransport"]
        assert rig.last_change == (3600.0, "RECONNECTING", "INTERRUPTED")
        assert deadline == rig.now + 5.0
    else:
        assert happened == ["CloseTransport"]
        assert deadline == rig.now + 1.0
    taken = len(rig.outputs)
    rig.tick()
    assert len(rig.outputs) == taken


def test_time_going_backwards():
    """Promise 7: clamped: no timer fires early or late for it."""
    rig = Rig()
    rig.connect("lobby")
    rig.answer_heartbeats = False
    deadline = rig.core.next_deadline()
    for back in (50.0, 99.0, -1000.0):
        rig.core.handle_timeout(now=back)
        rig.core.receive_data(99, b"", now=back)
        rig.core.unsent(1, 0, now=back)
    assert rig.core.next_deadline() == deadline
    rig.core.publish("lobby", "x", now=5.0)
    rig.take()
    rig.advance(4.0)
    assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")


def script(rig: Rig) -> None:
    rig.connect("lobby", expires_in=50.0)
    rig.entries(1, *"abc")
    rig.publish()
    rig.answer_all()
    rig.say(Gap("lobby", EPOCH, 9, 6))
    rig.entries(12, "hole")
    rig.say(Going("lobby"), Entries("lobby", EPOCH, 10, [TextEntry("bob", "d", 0)]))
    rig.advance(25.0)
    rig.lose()
    rig.advance(1.1)
    rig.accept(resumed=False)
    rig.entries(11, "e", "f")
    rig.say(Kicked(Code.BANNED, "x"))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1000])
def test_any_cutting_gives_the_same_events(chunk: int):
    """Promise 8, F-08: however the byte stream is cut."""
    whole, cut = Rig(seed=5), Rig(seed=5, chunk=chunk)
    script(whole)
    script(cut)
    assert cut.events == whole.events
    assert cut.ends.keys() == whole.ends.keys()
    assert cut.opened == whole.opened


def test_same_inputs_same_outputs():
    """Promise 8: same config, randomness and inputs: same outputs, to the byte."""
    runs = [Rig(seed=5), Rig(seed=5)]
    for rig in runs:
        script(rig)
    assert [repr(one) for one in runs[0].outputs] == [repr(one) for one in runs[1].outputs]
    other = Rig(seed=6)
    script(other)
    assert [repr(one) for one in other.outputs] != [repr(one) for one in runs[0].outputs]


def test_bytes_of_one_connection_end_with_it():
    """F-06, F-09: half a frame is discarded with its connection."""
    rig = Rig()
    rig.connect("lobby")
    frame = rig.server.wire.frame(encode_batch([Entries("lobby", EPOCH, 1, [TextEntry("bob", "x", 0)])]))
    for cut in range(1, len(frame)):
        rig.feed(frame[:cut])
        old = rig.server.transport_id
        rig.lose()
        rig.call("retry_now")
        rig.call("receive_data", old, frame[cut:])
        rig.accept()
    rig.entries(1, "x")
    assert rig.messages() == ["x"]


def test_everything_is_bounded():
    """Promise 10: an app that never stops and a server that never answers fill no table beyond its bound."""
    rig = Rig(ClientConfig(max_unanswered_requests=16))
    rig.connect("lobby")
    for count in range(2000):
        try:
            if count % 100 == 50:
                rig.call("renew_token", f"t{count}")
            rig.publish(timeout_seconds=0.5)
        except RtmError:
            rig.advance(0.01)
    requests = rig.core._conversation._requests
    assert len(requests) <= 16
    assert len(requests._deadlines) <= 4 * 16 + 1
    assert len(rig.core._conversation._to_transmit) <= 16


def test_unchecked_core_is_the_same_class():
    """The checked core adds nothing but checks."""
    assert issubclass(CheckedClientCore, ClientCore)
    checked = core()
    assert checked.state is ConnectionState.DISCONNECTED
