"""Numbered requests at the hub: limits, rates, order and repetition (S34, S37, S45, S46, S47)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from core.fake_client import Bench, FakeClient, channels_of
from rtm_sansio.codes import Code, CodeKind, code_kind
from rtm_sansio.events import LeaveCause
from rtm_sansio.messages import (
    BytesEntry,
    Done,
    Failed,
    Join,
    Joined,
    JoinedEntry,
    Leave,
    LeftEntry,
    Logout,
    Progress,
    PublishBytes,
    PublishText,
    Restored,
    Sent,
    TextEntry,
    Want,
    encode_batch,
)
from rtm_sansio.operations import Append, ConfirmAttach, JoinChannel, LeaveChannel


def post(client: FakeClient, *messages: Any) -> None:
    """Send a batch without letting the hub end its pass."""
    client.hub.receive_data(client.id, client.wire.frame(encode_batch(messages)), now=client.bench.now)


class TestLimits:
    """S37, S45: checked by the server again, each from both sides."""

    @pytest.mark.parametrize(("size", "refused"), [(32 * 1024, False), (32 * 1024 + 1, True)])
    @pytest.mark.parametrize("kind", ["text", "bytes", "umlauts"])
    def test_body(self, size: int, refused: bool, kind: str) -> None:
        """S45: 32 KiB of UTF-8 or bytes."""
        alice = Bench().login("alice", "room")
        body = {"text": "x" * size, "bytes": b"x" * size, "umlauts": "ü" * (size // 2) + "x" * (size % 2)}[kind]
        message = PublishBytes if isinstance(body, bytes) else PublishText
        alice.send(message(9, "room", body))
        answer = alice.answer(9)
        if refused:
            assert answer.code == Code.MESSAGE_TOO_LARGE
            assert "32768" in answer.message
            assert code_kind(answer.code) is CodeKind.REPORT
        else:
            assert answer.offset == 2

    @pytest.mark.parametrize(("name", "refused"), [("x" * 64, False), ("x" * 65, True), ("", True), ("ä", True)])
    def test_channel_name(self, name: str, refused: bool) -> None:
        """S45: 1 to 64 printable ASCII characters, in every request that names one."""
        alice = Bench().login("alice")
        alice.send(Join(1, name), Leave(2, name), PublishText(3, name, "x"))
        codes = [getattr(alice.answer(number), "code", 0) for number in (1, 2, 3)]
        assert codes == ([Code.INVALID_CHANNEL] * 3 if refused else [0, 0, Code.NOT_A_MEMBER])

    def test_twenty_channels(self) -> None:
        """S45: joined at a time."""
        bench = Bench()
        alice = bench.login("alice", *(f"room{number}" for number in range(20)))
        refused = alice.join("one more")
        assert isinstance(refused, Failed)
        assert refused.code == Code.TOO_MANY_CHANNELS
        assert "20" in refused.message
        assert "one more" not in channels_of(alice.hub)
        alice.leave("room7")
        assert isinstance(alice.join("one more"), Joined)
        assert isinstance(alice.join("room3"), Joined)  # one that it has already

    @pytest.mark.parametrize(("size", "closed"), [(16 * 1024, False), (16 * 1024 + 1, True)])
    def test_websocket_message_before_the_login(self, size: int, closed: bool) -> None:
        """S45, S51: 16 KiB, refused at its header with 1009."""
        bench = Bench()
        alice = bench.open()
        alice.raw(alice.wire.frame(b"\x91" * size)[:20])
        assert (alice.close_code == 1009) is closed

    @pytest.mark.parametrize(("size", "closed"), [(128 * 1024, False), (128 * 1024 + 1, True)])
    def test_websocket_message_after_the_login(self, size: int, closed: bool) -> None:
        """S45, S51: 128 KiB; the session goes on as interrupted, nobody else notices."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.raw(alice.wire.frame(b"\x91" * size)[:20])
        assert (alice.close_code == 1009) is closed
        assert bench.login("alice", resume=alice, want=[alice.cursor("room")]).welcome.resumed
        assert bob.members("room") == [JoinedEntry("alice")]

    def test_what_the_server_sends_is_split_as_well(self) -> None:
        """S45: no WebSocket message above the limit, whatever happened in a pass."""
        attributes = {"max_user_attribute_bytes": 500, "max_channel_attribute_bytes": 500, "max_attributes": 20}
        attributes |= {"max_status_query": 8, "max_status_subscriptions": 8}
        sizes = {"max_message_bytes": 1000, "max_request_bytes": 2048, "max_frame_bytes": 4096}
        bench = Bench(max_attribute_pairs=8, **attributes, **sizes)
        alice = bench.login("alice", "room")
        for number in range(10, 90):
            post(alice, PublishText(number, "room", "x" * 900))
        for number in range(110, 190):
            post(alice, PublishText(number, "y" * 100, "x"))
        bench.settle()
        assert 1000 < max(alice.payload_sizes) <= 4096
        assert [offset for offset, _ in alice.entries("room")] == list(range(1, 82))
        assert len(alice.of(Sent)) == 80

    def test_the_rate(self) -> None:
        """S45: 1,000 a second with bursts of 2,000; refused above, carried out again later."""
        bench = Bench()
        alice = bench.login("alice", "room")
        bench.advance(1.0)
        for start in range(10, 2210, 100):
            alice.send(*(PublishText(start + index, "room", "x") for index in range(1, 101)))
        failed = alice.of(Failed)
        assert len(failed) == 200
        assert {fail.code for fail in failed} == {Code.RATE_EXCEEDED}
        assert [fail.number for fail in failed] == list(range(2011, 2211))
        bench.advance(1.0)
        for start in range(3000, 4000, 100):
            alice.send(*(PublishText(start + index, "room", "x") for index in range(1, 101)))
        assert len(alice.of(Failed)) == 200

    def test_the_rate_is_the_sessions_whatever_transports_it_has(self) -> None:
        """S45, S51: coming back brings no new burst; after the time in which a bucket fills, nothing is remembered."""
        bench = Bench(requests_per_second=100, request_burst=200)
        first = alice = bench.login("alice", "room")
        bench.advance(3.0)
        number, accepted = 10, 0
        for _ in range(5):
            alice.send(*(PublishText(number + index, "room", "x") for index in range(200)))
            number += 200
            accepted += len(alice.of(Sent))
            alice.lose()
            alice = bench.login("alice", resume=alice, want=[first.cursor("room")])
        assert 200 <= accepted <= 202
        alice.lose()
        bench.advance(5.1)
        alice = bench.login("alice", resume=alice, want=[first.cursor("room")])
        alice.send(*(PublishText(number + index, "room", "x") for index in range(200)))
        assert len(alice.of(Sent)) == 200

    def test_a_flood_goes_on_over_transports(self) -> None:
        """S51: whoever was dropped for it and comes back at once is dropped again, until it is over."""
        bench = Bench(requests_per_second=10, request_burst=10)
        alice = bench.login("alice")
        for _ in range(3):
            while alice.close_code is None:
                alice.send(*(Leave(number, "x") for number in range(50)))
            assert alice.close_code == Code.FLOODING
            alice = bench.login("alice", resume=alice)
        bench.advance(6.0)
        alice = bench.login("alice", resume=alice)
        alice.heartbeat()
        assert alice.close_code is None

    def test_what_is_remembered_of_rates_has_a_bound(self) -> None:
        """S50: and is forgotten in time."""
        bench = Bench(max_transports=20)
        for index in range(50):
            bench.login(f"user{index}").lose()
        assert len(bench.hub._flood_gate._parted) == 20
        bench.advance(6.0)
        bench.login("last").lose()
        assert len(bench.hub._flood_gate._parted) == 1

    def test_a_flood_is_dropped_five_seconds_after_its_first_rate_error(self) -> None:
        """S51: that goes on at twice its rate; the session goes on, nobody else notices."""
        bench = Bench(requests_per_second=100, request_burst=100)
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        began = bench.now
        while alice.close_code is None and bench.now < began + 20.0:
            alice.send(*(PublishText(number, "room", "x") for number in range(30)))
            bench.advance(0.1)
        assert alice.close_code == Code.FLOODING
        assert 5.0 <= bench.now - began <= 7.0
        assert bob.members("room") == [JoinedEntry("alice")]
        assert bench.login("alice", resume=alice).welcome.resumed

    @pytest.mark.parametrize(
        ("errors", "flood", "dropped"),
        [
            ([0.0], 4.999, False),
            ([0.0], 5.0, True),
            ([0.0], 5.001, False),
            ([0.0, 3.0], 4.999, False),
            ([0.0, 3.0], 5.001, True),
            ([0.0, 5.001], 10.0, False),
            ([0.0, 5.001], 10.002, False),
            ([0.0, 5.001, 8.0], 10.002, True),
        ],
    )
    def test_the_five_seconds_of_a_flood(self, errors: list[float], flood: float, dropped: bool) -> None:
        """S51: twice the rate is borne until 5 s after the first of a run of rate errors; after more than 5 s without
        one, the next is the first again."""
        bench = Bench(requests_per_second=100, request_burst=100)
        alice = bench.login("alice", "room")
        start = bench.now
        for at in errors:
            bench.advance(start + at - bench.now)
            alice.send(*(PublishText(alice.next_number(), "room", "x") for _ in range(110)))
            assert {failed.code for failed in alice.of(Failed)} == {Code.RATE_EXCEEDED}
        bench.advance(start + flood - bench.now)
        assert alice.close_code is None
        alice.send(*(PublishText(alice.next_number(), "room", "x") for _ in range(250)))
        assert alice.close_code == (Code.FLOODING if dropped else None)

    def test_one_burst_too_large_now_and_then_is_no_flood(self) -> None:
        """S51: it does not go on."""
        bench = Bench(requests_per_second=100, request_burst=100)
        alice = bench.login("alice", "room")
        for _ in range(5):
            alice.send(*(PublishText(number, "room", "x") for number in range(250)))
            bench.advance(9.0)
            alice.heartbeat()
        assert alice.close_code is None

    @pytest.mark.parametrize("what", ["heartbeat", "hold", "go on", "progress", "optional", "renewal"])
    def test_nothing_that_a_client_sends_is_free(self, what: str) -> None:
        """S51: a flood of anything is a flood."""
        from rtm_sansio.messages import GoOn, Hold, RenewToken

        bench = Bench(requests_per_second=100, request_burst=100)
        alice = bench.login("alice", "room")
        payload = {
            "heartbeat": b"\x90",
            "hold": encode_batch([Hold("room")]),
            "go on": encode_batch([GoOn("room", b"e", 1)]),
            "progress": encode_batch([Progress(0, 0)]),
            "optional": encode_batch([[200]]),
            "renewal": encode_batch([RenewToken(1, "x")]),
        }[what]
        frames = alice.wire.frame(payload) * 50
        for _ in range(140):
            alice.raw(frames)
            bench.advance(0.1)
            if alice.close_code is not None:
                break
        assert alice.close_code == Code.FLOODING

    def test_256_open_requests(self) -> None:
        """S46, S35: the rest is refused, not kept."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(*(PublishText(number, "room", "x") for number in range(1001, 1301)))
        assert [fail.number for fail in alice.of(Failed)] == list(range(1257, 1301))
        assert {fail.code for fail in alice.of(Failed)} == {Code.TOO_MANY_REQUESTS}
        bench.release()
        assert [sent.number for sent in alice.of(Sent)] == list(range(1001, 1257))

    @pytest.mark.parametrize("kind", ["join", "leave", "text", "bytes", "name"])
    def test_nothing_above_the_limits_waits(self, kind: str) -> None:
        """S45, S50: before its statement a session has at most one WebSocket message kept, whatever it sends."""
        bench = Bench(append_burst_bytes=1 << 30)
        alice = bench.open()
        alice.login("alice", want=None)
        request = {
            "join": lambda number: Join(number, "x" * 100_000),
            "leave": lambda number: Leave(number, "x" * 100_000),
            "name": lambda number: PublishText(number, "x" * 100_000, "x"),
            "text": lambda number: PublishText(number, "room", "x" * 100_000),
            "bytes": lambda number: PublishBytes(number, "room", b"x" * 100_000),
        }[kind]
        for number in range(1, 300):
            alice.send(request(number))
        assert len(alice.of(Failed)) == 299
        session = alice.hub._transports.get(alice.id).session  # type: ignore[union-attr]
        assert session is not None
        assert not session.waiting
        for number in range(300, 600):
            alice.send(PublishText(number, "room", "x" * 32_000))
        assert len(session.waiting or ()) == 4
        assert 128_000 < session.waiting_bytes <= 128 * 1024
        assert {fail.code for fail in alice.of(Failed)[299:]} == {Code.TOO_MANY_REQUESTS}
        alice.send(Want(()))
        assert (session.waiting_bytes, len(session.waiting or ())) == (0, 0)
        assert [alice.answer(number).code for number in range(300, 304)] == [Code.NOT_A_MEMBER] * 4

    def test_four_mib_may_wait(self) -> None:
        """S55: behind a request that takes its time."""
        bench = Bench(nodes=1, append_burst_bytes=1 << 30)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(Join(2, "other"))
        for number in range(3, 203):
            alice.send(PublishText(number, "room", "x" * 32_000))
        refused = alice.of(Failed)
        assert {fail.code for fail in refused} == {Code.TOO_MANY_REQUESTS}
        assert refused[0].number == 3 + 4 * 1024 * 1024 // 32_028
        alice.send(Logout(300))
        bench.release()
        assert len(alice.of(Sent)) + len(refused) == 200
        assert isinstance(alice.answer(300), Done)

    @pytest.mark.parametrize(("size", "refused"), [(1024, True), (1023, False)])
    def test_a_request(self, size: int, refused: bool) -> None:
        """S45: what the name takes, the body has not."""
        limit = 33 * 1024 - 24 - 32 * 1024
        attributes = {"max_attributes": 32, "max_channel_attribute_bytes": 16 * 1024}
        attributes |= {"max_status_query": 8, "max_status_subscriptions": 8}
        bench = Bench(max_request_bytes=33 * 1024, max_name_length=2000, **attributes)
        name = "n" * (limit + size - 1023)
        alice = bench.login("alice", name)
        alice.send(PublishText(9, name, "x" * 32 * 1024))
        assert (getattr(alice.answer(9), "code", None) == Code.MESSAGE_TOO_LARGE) is refused

    @pytest.mark.parametrize(("count", "closed"), [(2000 + 1024, False), (2000 + 1025, True), (43_000, True)])
    def test_a_batch_of_very_many_messages(self, count: int, closed: bool) -> None:
        """S50, S51: more than a burst and 1,024 others is a protocol error, before any of it is decoded."""
        from rtm_sansio.messages import Hold

        bench = Bench()
        alice = bench.login("alice", "room")
        alice.raw(alice.wire.frame(encode_batch([Hold("")] * count)))
        assert (alice.close_code == 1002) is closed

    def test_an_absurd_flood_is_dropped_at_once(self) -> None:
        """S51: nobody waits five seconds for the end of what is 16 bursts above the rate."""
        from rtm_sansio.messages import Hold

        bench = Bench()
        alice = bench.login("alice", "room")
        frame = alice.wire.frame(encode_batch([Hold("room")] * 3000))
        frames = 0
        while alice.close_code is None:
            alice.raw(frame)
            frames += 1
        assert alice.close_code == Code.FLOODING
        assert frames == 13  # 4,000 + 16 × 2,000 + 1,024 units

    def test_unknown_messages_are_charged_each(self) -> None:
        """S51."""
        bench = Bench()
        alice = bench.login("alice", "room")
        frame = alice.wire.frame(encode_batch([[200]] * 1024))
        frames = 0
        while alice.close_code is None:
            alice.raw(frame)
            frames += 1
        assert alice.close_code == Code.FLOODING
        assert frames == 36

    def test_large_unknown_messages_are_charged_by_their_bytes(self) -> None:
        """S51, S55: a thousand units for 1 MiB."""
        bench = Bench()
        alice = bench.login("alice", "room")
        frame = alice.wire.frame(encode_batch([[200, bytes(100 * 1024)]]))
        frames = 0
        while alice.close_code is None:
            alice.raw(frame)
            frames += 1
        assert alice.close_code == Code.FLOODING
        assert frames == 382  # 4,000 + 16 × 2,000 + 1,024 units, 97 each

    def test_repeated_joins_pay_for_the_list(self) -> None:
        """S51: of 500 members; a client that joins once pays as well, and does not notice it."""
        bench = Bench()
        for number in range(500):
            bench.login(f"member{number}", "room").lose()
        alice = bench.login("alice", "room")
        count = 0
        while alice.close_code is None and count < 2000:
            alice.send(Join(2 + count, "room"))
            count += 1
        assert alice.close_code == Code.FLOODING
        assert count < 700
        assert len(alice.of(Joined)) < 70

    @staticmethod
    def fill(bench: Bench, channel: str, count: int) -> None:
        """Members with long names, of a node that nobody here is on."""
        for number in range(count):
            operation = JoinChannel(
                channel=channel,
                uid=f"{number:061}",
                session_id=b"%d" % number,
                attach=1,
                number=None,
                lowest_unanswered=0,
                joined_entry=b"",
                replaced_entry=b"",
            )
            (bench.hub._engine._embedded or bench.engine).execute(operation, now=bench.now)

    def test_lists_that_nobody_will_send_are_not_encoded(self) -> None:
        """S51, S50: the transport is dropped when its replies would pass the bound, before they are bytes."""
        bench = Bench()
        witness = bench.login("witness", "room").keep()
        self.fill(bench, "big", 511)
        alice = bench.login("alice", "room", "big")
        bench.advance(1.0)
        frame = alice.wire.frame(encode_batch([Join(number, "big") for number in range(100, 620)]))
        asked: list[Any] = []
        engine = bench.hub._engine._embedded
        assert engine is not None
        execute = engine.execute
        engine.execute = lambda operation, now: asked.append(operation) or execute(operation, now=now)  # type: ignore
        tracemalloc.start()
        bench.hub.receive_data(alice.id, frame, now=bench.now)
        bench.hub.flush(now=bench.now)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        bench.settle()
        assert alice.gone == "abort"
        assert alice.answers(100) == []
        assert peak < 1024 * 1024
        assert len([one for one in asked if isinstance(one, JoinChannel)]) <= 34
        back = bench.login("alice", resume=alice, want=[alice.cursor("room"), alice.cursor("big")])
        assert back.welcome.resumed
        witness.publish("room", "x")
        assert back.texts("room") == ["x"]

    def test_what_fits_is_sent(self) -> None:
        """S51, S45: up to the bound, in messages that are full."""
        bench = Bench()
        self.fill(bench, "big", 511)
        alice = bench.login("alice", "big")
        alice.send(*(Join(number, "big") for number in range(100, 131)))
        assert [len(alice.answer(number).members) for number in range(100, 131)] == [512] * 31
        assert min(alice.payload_sizes[-8:-1]) > 128_000  # four lists each, and three in the last
        assert max(alice.payload_sizes) <= 128 * 1024

    def test_a_list_that_is_not_paid_for_is_not_made(self) -> None:
        """S51: of a channel that the session has already."""
        bench = Bench(nodes=1)
        self.fill(bench, "big", 511)
        alice = bench.login("alice", "big")
        bench.advance(1.0)
        bench.engine_calls.clear()
        for number in range(100, 300):
            alice.send(Join(number, "big"))
        assert len([call for call in bench.engine_calls if isinstance(call, JoinChannel)]) == 61
        assert len(alice.of(Joined)) == 1 + 61
        assert {(failed.code, failed.number < 161) for failed in alice.of(Failed)} == {(Code.RATE_EXCEEDED, False)}
        bench.advance(0.1)
        assert isinstance(alice.join("other"), Joined)

    def test_coming_and_going_for_the_list(self) -> None:
        """S51: whoever leaves in between is not refused, but dropped like any other flood."""
        bench = Bench()
        self.fill(bench, "big", 511)
        alice = bench.login("alice")
        count = 0
        while alice.close_code is None and count < 1000:
            alice.send(Join(2 * count, "big"), Leave(2 * count + 1, "big"))
            count += 1
        assert alice.close_code == Code.FLOODING
        assert count < 700

    def test_all_lists_again_after_a_resume(self) -> None:
        """S46, S47: each join that was unanswered, though the session has been at its full rate."""
        bench = Bench(nodes=1)
        channels = [f"big{number}" for number in range(20)]
        for channel in channels:
            self.fill(bench, channel, 511)
        alice = bench.login("alice")
        for start in range(1000, 3000, 250):
            alice.send(*(PublishText(start + number, "nowhere", "x") for number in range(250)))
        bench.advance(1.0)
        requests = [Join(3000 + number, channel) for number, channel in enumerate(channels)]
        alice.send(*requests)
        alice.lose()
        back = bench.login("alice", resume=alice, want=[(channel,) for channel in channels])
        back.send(*requests)
        assert [len(back.answer(request.number).members) for request in requests] == [512] * 20


class TestOrder:
    """S46: a session's requests take effect in the order of their numbers."""

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_a_leave_waits_for_the_messages_before_it(self, nodes: int) -> None:
        """S46: and whatever comes behind it waits for it."""
        bench = Bench(nodes=nodes)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.send(
            PublishText(11, "room", "before"),
            Leave(12, "room"),
            PublishText(13, "room", "between"),
            Join(14, "room"),
            PublishText(15, "room", "after"),
            PublishText(16, "room", "last"),
            Leave(17, "room"),
        )
        assert [entry for _, entry in bob.entries("room")][2:] == [
            TextEntry("alice", "before", alice.answer(11).sent_at),
            LeftEntry("alice", LeaveCause.LEFT),
            JoinedEntry("alice"),
            TextEntry("alice", "after", alice.answer(15).sent_at),
            TextEntry("alice", "last", alice.answer(16).sent_at),
            LeftEntry("alice", LeaveCause.LEFT),
        ]
        assert alice.answer(13).code == Code.NOT_A_MEMBER

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_a_publish_does_not_overtake_a_join_that_waits(self, nodes: int) -> None:
        """S46: into another channel, in the same batch."""
        bench = Bench(nodes=nodes)
        alice = bench.login("alice", "a")
        alice.send(PublishText(11, "a", "x"), Join(12, "b"), PublishText(13, "b", "y"))
        assert isinstance(alice.answer(13), Sent)

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_a_logout_waits_for_the_messages_before_it(self, nodes: int) -> None:
        """S46."""
        bench = Bench(nodes=nodes)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.send(PublishText(11, "room", "last words"), Logout(12))
        assert bob.texts("room") == ["last words"]
        assert isinstance(alice.answer(11), Sent)
        assert isinstance(alice.answer(12), Done)

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_a_long_row_of_joins_and_leaves(self, nodes: int) -> None:
        """S46, S50: as many as may be open, behind one message; no depth of the stack depends on them."""
        bench = Bench(nodes=nodes)
        alice = bench.login("alice", "room")
        requests = [PublishText(100, "room", "x")]
        for number in range(101, 350, 2):
            requests += [Leave(number, "room"), Join(number + 1, "room")]
        alice.send(*requests)
        answers = [message.number for message in alice.messages if isinstance(message, (Done, Joined, Sent))]
        assert answers[1:] == list(range(100, 100 + len(requests)))

    def test_everything_waits_for_the_statement(self) -> None:
        """S59: requests come behind it."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Join(1, "room"), PublishText(2, "room", "x"))
        assert not alice.answers(1)
        alice.send(Want(()))
        assert [type(message) for message in alice.messages[1:5]] == [Restored, Joined, Sent, type(alice.messages[4])]

    def test_one_append_for_each_log_and_pass(self) -> None:
        """E3: one call, one in flight; what comes meanwhile gathers."""
        bench = Bench(nodes=1)
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        bench.engine_calls.clear()
        for number in range(11, 15):
            post(alice, PublishText(number, "room", "a"))
            post(bob, PublishText(number, "room", "b"))
        bench.held.add(0)
        bench.settle()
        for number in range(15, 19):
            alice.send(PublishText(number, "room", "c"))
        bench.release()
        sizes = [len(call.items) for call in bench.engine_calls if isinstance(call, Append)]
        assert sizes == [8, 4]
        assert [sent.number for sent in alice.of(Sent)] == list(range(11, 19))

    def test_a_large_pass_is_appended_in_parts(self) -> None:
        """E3: the engine does nothing else meanwhile, so at most 1 MiB a call."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.engine_calls.clear()
        for start in range(0, 60, 3):
            post(alice, *(PublishBytes(100 + start + index, "room", b"x" * 30_000) for index in range(3)))
        bench.settle()
        appends = [call for call in bench.engine_calls if isinstance(call, Append)]
        assert len(appends) == 2
        assert all(sum(len(item.entry) for item in call.items) <= 1024 * 1024 for call in appends)
        assert [sent.offset for sent in alice.of(Sent)] == list(range(2, 62))

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_messages_of_a_transport_that_went_away(self, nodes: int) -> None:
        """S46: gathered before the loss, they are appended, and recognised when they come again."""
        bench = Bench(nodes=nodes)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        post(alice, PublishText(11, "room", "one"), PublishText(12, "room", "two"), Leave(13, "room"))
        alice.lose()
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        back.send(PublishText(11, "room", "one"), PublishText(12, "room", "two"), Leave(13, "room"))
        assert bob.texts("room") == ["one", "two"]
        assert [sent.offset for sent in back.of(Sent)] == [3, 4]
        assert isinstance(back.answer(13), Done)
        assert bob.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.LEFT)]


class TestPasses:
    """S51: what one client asks for at once does not keep the others waiting."""

    def count_steps(self, bench: Bench) -> list[int]:
        """Joins and leaves that the engine carries out, in a list of one figure."""
        engine = bench.hub._engine._embedded
        assert engine is not None
        execute = engine.execute
        steps = [0]

        def counted(operation: Any, *, now: float) -> Any:
            steps[0] += isinstance(operation, (JoinChannel, LeaveChannel))
            return execute(operation, now=now)

        engine.execute = counted  # type: ignore[method-assign]
        return steps

    def test_a_burst_of_joins_and_leaves(self) -> None:
        """S51, S46: a part of it in each pass, in order; whoever comes meanwhile has an answer at once."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice")
        bench.advance(1.0)
        steps = self.count_steps(bench)
        rows = [(Join(2 * n, f"channel{n}"), Leave(2 * n + 1, f"channel{n}")) for n in range(1, 1001)]
        post(alice, *(request for row in rows for request in row))
        assert steps == [128]
        passes = 0
        while bench.hub.flush_wanted:
            before = steps[0]
            post(bob, PublishText(100 + passes, "room", "x"))
            bench.hub.flush(now=bench.now)
            bench.pump(0)
            assert steps[0] - before <= 128
            passes += 1
            assert isinstance(bob.answer(99 + passes), Sent)
        assert passes == 2
        done = [one.number for one in alice.messages if isinstance(one, (Joined, Done))]
        assert done == list(range(2, 2 + 128 + 256))
        refused = alice.of(Failed)
        assert [failed.number for failed in refused] == list(range(2 + 128 + 256, 2002))
        assert {failed.code for failed in refused} == {Code.TOO_MANY_REQUESTS}

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_all_that_a_client_may_ask_for_is_done(self, nodes: int) -> None:
        """S45, S46: 256 unanswered requests, whatever they are, in their order."""
        bench = Bench(nodes=nodes)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        requests: list[Any] = []
        for number in range(100, 352, 3):
            requests += [Leave(number, "room"), Join(number + 1, "room"), PublishText(number + 2, "room", "x")]
        alice.send(*requests)
        answers = [message for message in alice.messages if isinstance(message, (Done, Joined, Sent, Failed))]
        assert [answer.number for answer in answers[1:]] == list(range(100, 100 + len(requests)))
        assert alice.of(Failed) == []
        assert len(bob.texts("room")) == len(requests) // 3

    def test_they_take_turns(self) -> None:
        """S51: who asks for little waits for a turn of each that asks for much, and not for all of it."""
        bench = Bench(max_channels=300)
        greedy = [bench.login(f"greedy{index}") for index in range(4)]
        bob = bench.login("bob")
        for client in greedy:
            post(client, *(Join(number, f"{client.uid}/{number}") for number in range(1, 257)))
        post(bob, Join(1, "room"))
        assert bob.answers(1) == []
        steps = self.count_steps(bench)
        bench.hub.flush(now=bench.now)
        bench.pump(0)
        assert isinstance(bob.answer(1), Joined)
        assert steps == [128]
        numbers = [len(client.of(Joined)) for client in greedy]
        assert numbers[0] == 128 + 32
        assert numbers[1:] == [32, 32, 31]
        bench.settle()
        assert [len(client.of(Joined)) for client in greedy] == [256] * 4

    @pytest.mark.parametrize("logout", [False, True])
    def test_a_transport_that_went_while_its_requests_waited(self, logout: bool) -> None:
        """S7, S46: they are not done, and come again; a logout among them counts."""
        bench = Bench(max_channels=300)
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        post(alice, *(Join(number, f"channel{number}") for number in range(100, 300)))
        if logout:
            post(alice, Logout(300))
        alice.lose()
        back = bench.login("alice", resume=alice, want=[("room",), *((f"channel{n}",) for n in range(100, 300))])
        if logout:
            assert back.close_code == Code.REMOTE_LOGIN or not back.welcome.resumed
            assert bob.members("room")[1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)
        else:
            back.send(*(Join(number, f"channel{number}") for number in range(100, 300)))
            assert [joined.number for joined in back.of(Joined)] == list(range(100, 300))


class TestAnEngineThatHangs:
    """S55, S50: one home of an engine outside answers nothing, while sessions come and go."""

    @staticmethod
    def go_on(bench: Bench) -> None:
        """Everything is answered but appends."""
        while others := [call for call in bench.calls[0] if not isinstance(call.operation, Append)]:
            for call in others:
                bench.calls[0].remove(call)
                answer = bench.engine.execute(call.operation, now=bench.now)
                bench.hub.engine_answered(call.call_id, answer, now=bench.now)
            bench.announce()
            bench.settle()

    @staticmethod
    def send_all(client: FakeClient, requests: list[Any]) -> None:
        for start in range(0, len(requests), 4):
            client.send(*requests[start : start + 4])

    def test_what_is_gathered_is_bounded(self) -> None:
        """S55, S46: however often a session comes back with its unanswered messages; each stands in the log once."""
        bench = Bench(nodes=1, append_burst_bytes=1 << 30)
        alice, carol = bench.login("alice", "room"), bench.login("carol")
        bench.held.add(0)
        requests = [PublishBytes(number, "room", b"x" * 32_000) for number in range(100, 356)]
        self.send_all(alice, requests)
        (outbox,) = bench.hub._requests._appends._outboxes.values()
        for _ in range(5):
            alice.lose()
            back = bench.open()
            back.login("alice", resume=alice, want=[("room",)])
            self.go_on(bench)
            self.send_all(back, requests)
            alice = back
            assert sum(len(one.item.entry) for one in outbox.gathered) < outbox.byte_count <= 16 * 1024 * 1024
        assert {failed.code for failed in alice.of(Failed)} == {Code.TOO_MANY_REQUESTS}
        carol.send(PublishBytes(7, "room", b"x" * 32_000))
        assert carol.answer(7).code == Code.TOO_MANY_REQUESTS
        bench.release()
        assert outbox.byte_count == 0
        assert bench.login("bob", "room").join("room").offset == 258  # behind 1 join and 256 messages
        alice.send(PublishText(400, "room", "and on"))
        assert alice.answer(400).offset == 259
        alice.lose()

    def test_the_same_while_all_of_it_is_with_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S55: nothing more is gathered then, and the channel is not kept for what was refused."""
        monkeypatch.setattr("rtm_sansio._hub_appends._GATHERED_BYTES", 3000)
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(*(PublishText(number, "room", "x") for number in range(100, 110)))
        refused = [failed.number for failed in alice.of(Failed)]
        assert refused == list(range(109 - len(refused) + 1, 110))
        alice.send(PublishText(110, "room", "y"))
        assert alice.answer(110).code == Code.TOO_MANY_REQUESTS
        bench.release()
        assert [sent.number for sent in alice.of(Sent)] == list(range(100, refused[0]))
        assert isinstance(alice.publish("room", "z"), Sent)
        alice.lose()
        assert channels_of(alice.hub) == set()


class TestRepetition:
    """S46: a repeated number gets the outcome again and changes nothing."""

    def test_every_changing_request(self) -> None:
        """S46: publish, join, leave; over a new transport."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice")
        requests = [
            Join(1, "room"),
            PublishText(2, "room", "text"),
            PublishBytes(3, "room", b"bytes"),
            Leave(4, "room"),
            Join(5, "room"),
        ]
        alice.send(*requests)
        first = [alice.answer(number) for number in range(1, 6)]
        alice.lose()
        bench.advance(5.0)
        back = bench.login("alice", resume=alice)
        back.send(*requests[1:4], Join(5, "room"))
        assert (back.answer(2), back.answer(3)) == (first[1], first[2])  # the time as well: it is the entry's
        assert isinstance(back.answer(4), Done)
        assert [type(entry) for _, entry in bob.entries("room")][:5] == [
            JoinedEntry,
            JoinedEntry,
            TextEntry,
            BytesEntry,
            LeftEntry,
        ]
        assert len(bob.texts("room")) == 1

    def test_the_answer_to_a_join_is_repeated_as_it_was(self) -> None:
        """S46, S47: the same offset, so that nothing in between is missed."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice")
        alice.send(Join(1, "room"))
        first = alice.answer(1)
        alice.lose()
        bob.publish("room", "meanwhile")
        back = bench.login("alice", resume=alice, want=[("room",)])
        assert back.texts("room") == []
        back.send(Join(1, "room"))
        assert back.answer(1) == first
        assert back.texts("room") == ["meanwhile"]

    def test_the_list_of_a_repeated_join_is_the_present_one(self) -> None:
        """S46, S47: the list is kept once, not with each outcome; the log from the offset leads to the same."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(Join(1, "room"))
        first = alice.answer(1)
        alice.lose()
        bench.login("bob", "room")
        back = bench.login("alice", resume=alice, want=[("room",)])
        back.send(Join(1, "room"))
        again = back.answer(1)
        assert (again.offset, again.epoch) == (first.offset, first.epoch)
        assert (again.member_count, again.members) == (2, ("alice", "bob"))
        assert back.members("room") == [JoinedEntry("bob")]

    def test_a_publish_again_after_the_leave(self) -> None:
        """S46: its outcome is still known."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.send(PublishText(11, "room", "x"), Leave(12, "room"))
        alice.lose()
        back = bench.login("alice", resume=alice)
        back.send(PublishText(11, "room", "x"))
        assert back.answer(11).offset == 3
        assert bob.texts("room") == ["x"]
        assert "room" in channels_of(back.hub)
        bob.lose()
        assert channels_of(back.hub) == set()

    def test_numbers_below_the_lowest_unanswered_are_never_carried_out(self) -> None:
        """S46: in a home that knows the session, and in one that does not."""
        bench = Bench()
        bob = bench.login("bob", "room", "other")
        alice = bench.login("alice", "room")
        alice.send(PublishText(11, "room", "x"))
        alice.send(Progress(alice.welcome.attach, 20))
        alice.send(PublishText(11, "room", "x"), PublishText(15, "room", "y"), Leave(16, "room"), Join(17, "other"))
        assert [alice.answers(number)[-1].code for number in (11, 15, 16, 17)] == [Code.STALE_REQUEST] * 4
        assert bob.texts("room") == ["x"]
        assert bob.members("other") == []
        alice.send(PublishText(20, "room", "z"))
        assert bob.texts("room") == ["x", "z"]

    def test_a_number_used_for_something_else(self) -> None:
        """S46, S50: a client that lies about its numbers gets an error and nothing else."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.send(PublishText(11, "room", "x"), Leave(12, "room"), Join(13, "room"))
        alice.send(
            Join(11, "room"),
            Leave(11, "room"),
            PublishText(12, "room", "x"),
            Join(12, "room"),
            PublishText(13, "room", "x"),
            Leave(13, "room"),
        )
        for number in (11, 12, 13):
            assert [fail.code for fail in alice.answers(number)[1:]] == [Code.STALE_REQUEST] * 2

    def test_a_repeated_join_gives_no_reading_without_membership(self) -> None:
        """S46, S60: the outcome of a join before a leave."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice")
        alice.send(Join(1, "room"), Leave(2, "room"), Join(1, "room"))
        bob.publish("room", "secret")
        assert alice.texts("room") == []
        assert alice.answers(1)[-1].code == Code.STALE_REQUEST

    def test_a_stale_join_does_not_hide_a_membership(self) -> None:
        """S24, E2: the member still leaves when its session ends."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.send(Progress(1, 50), Join(3, "room"))
        assert alice.answer(3).code == Code.STALE_REQUEST
        bob.publish("room", "x")
        assert alice.texts("room") == ["x"]
        alice.lose()
        bench.advance(31.0)
        assert bob.members("room")[-1] == LeftEntry("alice", LeaveCause.TIMED_OUT)

    def test_progress_is_told_to_the_engine_once_for_each_attachment(self) -> None:
        """S18, E7: not with every batch."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        for number in range(10):
            alice.send(Progress(1, number))
        assert len([call for call in bench.engine_calls if isinstance(call, ConfirmAttach)]) == 1


class TestAnswers:
    """S34, S37, S47."""

    def test_a_join_tells_the_members_as_of_its_offset(self) -> None:
        """S47: the joiner among them; what follows arrives, nothing before."""
        bench = Bench()
        bob = bench.login("bob", "room")
        bob.publish("room", "before")
        alice = bench.login("alice")
        joined = alice.join("room")
        assert (joined.offset, joined.member_count, set(joined.members or ())) == (3, 2, {"alice", "bob"})
        bob.publish("room", "after")
        assert alice.texts("room") == ["after"]

    def test_above_512_members_there_is_only_the_count(self) -> None:
        """S47."""
        bench = Bench(max_snapshot_members=3, unmute_members=2)
        clients = [bench.login(f"user{number}") for number in range(4)]
        answers = [client.join("room") for client in clients]
        assert [answer.member_count for answer in answers] == [1, 2, 3, 4]
        assert len(answers[2].members or ()) == 3
        assert answers[3].members is None

    def test_512_by_default(self) -> None:
        """S47: at the boundary."""
        bench = Bench()
        for number in range(511):
            client = bench.login(f"user{number}")
            client.send(Join(1, "room"))
            client.lose()
        assert len(bench.login("one").join("room").members or ()) == 512
        assert bench.login("more").join("room").members is None

    def test_misuse_is_answered_and_changes_nothing(self) -> None:
        """S37: leaving what is not joined is done already; joining twice changes nothing; both leave no trace."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        assert isinstance(alice.leave("nowhere"), Done)
        again = alice.join("room")
        assert (again.offset, again.member_count) == (2, 2)
        assert bob.members("room") == [JoinedEntry("alice")]
        assert isinstance(alice.publish("nowhere", "x"), Failed)
        assert channels_of(alice.hub) == {"room"}

    def test_a_publish_says_where_and_when(self) -> None:
        """S34: offset, epoch, and the server's wall clock in milliseconds."""
        bench = Bench()
        alice = bench.login("alice")
        joined = alice.join("room")
        sent = alice.publish("room", "x")
        assert (sent.offset, sent.epoch, sent.sent_at) == (2, joined.epoch, int(bench.wall * 1000))
        assert alice.entries("room")[-1] == (2, TextEntry("alice", "x", sent.sent_at))
