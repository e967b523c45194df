"""Several hubs on one engine (E2, E5, E8, E9; S26, S30, S31; F-40, F-49, F-87, F-91)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_client import Bench, channels_of
from rtm_sansio.codes import Code
from rtm_sansio.events import ChannelMessageReceived, LeaveCause, MemberJoined, MemberLeft
from rtm_sansio.logs import Block
from rtm_sansio.messages import GoOn, Join, JoinedEntry, Kicked, Leave, LeftEntry, Logout, PublishText, RenewToken
from rtm_sansio.operations import (
    BlockAnnounced,
    DetachSession,
    JoinChannel,
    LeaveChannel,
    OrdersWaiting,
    PostOrder,
    ReadLog,
    ReadOrders,
    StrikeToDos,
    TakeToDos,
    ToDosWaiting,
    WatchChannel,
)
from rtm_sansio.testing import World


class TestWithRealClients:
    """The same over the virtual network, with an engine that takes time."""

    def test_publish_on_one_arrives_on_the_other_once_and_in_order(self) -> None:
        """S33, E5."""
        world = World(nodes=2)
        alice, bob = world.login("alice", "room", node=0), world.login("bob", "room", node=1)
        for number in range(100):
            (alice if number % 3 else bob).post("room", str(number))
            if number % 7 == 0:
                world.run(0.01)
        world.run(1.0)
        for client, other in ((alice, bob), (bob, alice)):
            offsets = [event.offset for event in client.of_type(ChannelMessageReceived)]
            assert offsets == sorted(set(offsets))
            assert len(offsets) + len(other.messages("room")) == 100
        assert alice.messages("room") == [str(number) for number in range(0, 100, 3)]

    def test_login_on_the_other_node_ends_the_session(self) -> None:
        """S30, F-46, E9."""
        world = World(nodes=2)
        witness = world.login("witness", "room", node=0)
        old = world.login("alice", "room", node=0)
        new = world.login("alice", node=1)
        world.run(1.0)
        assert old.changes[-1] == ("ABORTED", "REMOTE_LOGIN")
        assert new.state.value == "CONNECTED"
        new.join("room")
        world.run(1.0)
        changes = witness.of_type(MemberJoined) + witness.of_type(MemberLeft)
        assert sorted((event.offset, type(event).__name__) for event in changes) == [
            (2, "MemberJoined"),
            (3, "MemberLeft"),
            (4, "MemberJoined"),
        ]
        assert [event.cause for event in witness.of_type(MemberLeft)] == [LeaveCause.REPLACED]

    def test_a_client_resumes_on_the_other_node(self) -> None:
        """S23, S26, F-40: though the first still believes in the old transport."""
        world = World(nodes=2)
        bob = world.login("bob", "room", node=1)
        alice = world.client(node=[0, 1])
        alice.login("alice")
        alice.join("room")
        bob.send("room", "before")
        alice.network.stall(seconds=6.0)
        world.run(3.0)
        bob.send("room", "during")
        world.run(20.0)
        bob.send("room", "after")
        world.run(1.0)
        assert alice.state.value == "CONNECTED"
        assert alice.messages("room") == ["before", "during", "after"]
        assert [type(event) for event in bob.events if isinstance(event, (MemberLeft, MemberJoined))] == [MemberJoined]

    @pytest.mark.parametrize("node", [0, 1])
    def test_expiry_gives_exactly_one_member_left(self, node: int) -> None:
        """S24, F-87, F-91: whichever node takes the thing to do."""
        world = World(nodes=3)
        witnesses = [world.login(f"witness{number}", "room", node=number) for number in range(3)]
        alice = world.login("alice", "room", node=node)
        alice.network.cut(100.0)
        world.run(29.9)
        assert not any(witness.of_type(MemberLeft) for witness in witnesses)
        world.run(0.2)
        world.run(20.0)
        for witness in witnesses:
            assert [event.cause for event in witness.of_type(MemberLeft)] == [LeaveCause.TIMED_OUT]

    def test_a_node_that_stops_in_order_hands_its_sessions_over(self) -> None:
        """S24, F-10: they expire, or go on elsewhere."""
        world = World(nodes=2)
        witness = world.login("witness", "room", node=1)
        alice = world.client(node=[0, 1])
        alice.login("alice")
        alice.join("room")
        world.login("bob", "room", node=0)
        world.stop_server(0, orderly=True)
        world.run(40.0)
        assert alice.state.value == "CONNECTED"
        assert [(event.uid, event.cause) for event in witness.of_type(MemberLeft)] == [("bob", LeaveCause.TIMED_OUT)]

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_a_restart_without_memory(self, newer_first: bool) -> None:
        """S31, F-26: the newer login ends up connected, the older aborted; a login after the restart beats both."""
        world = World(nodes=2)
        older = world.login("alice", node=0)
        older.network.stall()
        world.run(20.0)
        newer = world.login("alice", node=1)
        (older if newer_first else newer).network.cut()
        for index in range(2):
            world.stop_server(index)
        world.run(5.0)
        world.start_server(0, forget_engine=True)
        world.start_server(1)
        (newer if newer_first else older).network.restore()
        world.run(20.0)
        (older if newer_first else newer).network.restore()
        world.run(20.0)
        assert newer.state.value == "CONNECTED"
        assert older.changes[-1] == ("ABORTED", "REMOTE_LOGIN")
        latest = world.login("alice", node=0)
        world.run(5.0)
        assert newer.changes[-1] == ("ABORTED", "REMOTE_LOGIN")
        assert latest.state.value == "CONNECTED"


class TestByHand:
    """What comes late, twice, or in another order."""

    def test_two_logins_at_one_moment(self) -> None:
        """F-49: exactly one winner, on both nodes."""
        bench = Bench(nodes=2)
        bench.held |= {0, 1}
        first, second = bench.login("alice", node=0), bench.login("alice", node=1)
        bench.release(1)
        bench.release(0)
        bench.settle()
        assert [client.close_code for client in (first, second)] == [None, Code.REMOTE_LOGIN]
        assert [kick.code for kick in second.of(Kicked)] == [Code.REMOTE_LOGIN]

    def test_the_old_nodes_late_writes(self) -> None:
        """E8, F-90: recognised, or refused; nothing twice, nobody left behind."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", "gone", node=1).keep()
        alice = bench.login("alice", "room", "gone", node=0)
        bench.held.add(0)
        alice.send(PublishText(11, "room", "x"))
        alice.send(Leave(12, "gone"))
        back = bench.login("alice", node=1, resume=alice, want=[alice.cursor("room")])
        assert back.welcome.resumed
        back.send(PublishText(11, "room", "x"), PublishText(13, "room", "y"))
        assert isinstance(back.join("gone").offset, int)
        bench.release(0)  # the append is recognised; the leave of an older attachment is refused
        assert alice.close_code == Code.TRANSPORT_REPLACED
        bench.settle()
        assert witness.texts("room") == ["x", "y"]
        assert witness.members("room") == [JoinedEntry("alice")]
        assert [type(entry) for entry in witness.members("gone")] == [JoinedEntry, LeftEntry, JoinedEntry]
        back.lose()
        bench.advance(31.0)
        assert witness.members("gone")[-1] == LeftEntry("alice", LeaveCause.TIMED_OUT)

    def test_a_late_join_of_an_ended_session(self) -> None:
        """E2, E8: refused by the mark that its end left."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1)
        alice = bench.login("alice", node=0)
        bench.held.add(0)
        alice.send(Join(1, "room"))
        bench.answer(0)  # listed
        bench.settle()
        bench.answer(0)  # subscribed
        bench.settle()
        assert isinstance(bench.calls[0][0].operation, JoinChannel)
        bench.login("alice", node=1)
        bench.release(0)
        assert witness.members("room") == []
        assert channels_of(bench.hub) == set()

    def test_a_late_join_after_the_statement_on_the_other_node_left_it(self) -> None:
        """S59, E8: the client had given it up."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        alice = bench.login("alice", "other", node=0)
        bench.held.add(0)
        alice.send(Join(9, "room"))
        for _ in range(2):
            bench.answer(0)
            bench.settle()
        back = bench.login("alice", node=1, resume=alice, want=[alice.cursor("other")])
        bench.release(0)
        back.lose()
        bench.advance(31.0)
        assert [type(entry) for entry in witness.members("room")] == []

    def test_a_late_detach_is_void(self) -> None:
        """S26, E8."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", node=0)
        bench.held.add(0)
        alice.lose()
        back = bench.login("alice", node=1, resume=alice).keep()
        bench.release(0)
        bench.advance(60.0)
        assert back.gone is None
        assert bench.login("alice", node=0, resume=back).welcome.resumed

    def test_a_kick_reaches_the_node_of_the_session(self) -> None:
        """E9: from any node."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", node=1)
        bench.hubs[0].kick("alice", now=bench.now)
        bench.settle()
        assert [kick.code for kick in alice.of(Kicked)] == [Code.KICKED]
        assert bench.login("alice", node=0, resume=alice).refusal.code == Code.KICKED

    def test_an_order_for_an_older_attachment_is_void(self) -> None:
        """E9: the session came back to the node meanwhile."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", node=0)
        bench.held.add(0)
        elsewhere = bench.login("alice", node=1, resume=alice)
        back = bench.open(node=0)
        back.login("alice", resume=elsewhere)
        bench.calls[0].reverse()  # the order is read last
        bench.release(0)
        assert back.gone is None
        assert back.close_code is None
        assert back.join("room").member_count == 1
        assert alice.close_code == elsewhere.close_code == Code.TRANSPORT_REPLACED

    def test_an_order_is_carried_out_once(self) -> None:
        """E9: the cursor passes it."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", node=1)
        bench.hubs[0].kick("alice", now=bench.now)
        bench.settle()
        for _ in range(3):
            bench.hubs[1].engine_announced(OrdersWaiting(), now=bench.now)
            bench.settle()
        assert len(alice.of(Kicked)) == 1

    def test_the_cursor_of_the_orders_moves(self) -> None:
        """E9: a node quotes the end of what it has read before, so that it reads no order twice, and the engine can
        forget it; a reading that finds nothing leaves it where it is."""
        bench = Bench(nodes=2)
        for number in range(3):
            bench.login(f"user{number}", node=1)
            bench.hubs[0].kick(f"user{number}", now=bench.now)
            bench.settle()
        for _ in range(2):
            bench.hubs[1].engine_announced(OrdersWaiting(), now=bench.now)
            bench.settle()
        cursors = [call.cursor for call in bench.engine_calls if isinstance(call, ReadOrders)]
        assert len(cursors) == 5
        assert cursors[:4] == sorted(set(cursors))
        assert cursors[4] == cursors[3]
        assert bench.engine.execute(ReadOrders(node="node1", cursor=0), now=bench.now).orders == ()

    def test_things_to_do_of_a_node_that_died(self) -> None:
        """E2: any other node after 2 s; announced again until they are done."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        bench.login("alice", "room", node=0)
        bench.held.add(0)
        new = bench.open(node=0)
        new.login("alice", want=None)
        bench.answer(0)  # attached, and that was the node's last word
        bench.clients[0].clear()
        bench.calls[0].clear()
        bench.hubs[0] = bench.make_hub(0)
        bench.advance(1.9)
        assert witness.members("room") == [JoinedEntry("alice")]
        bench.advance(0.2)
        assert witness.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.REPLACED)]
        bench.advance(10.0)
        assert bench.engine._users._homes["alice"].todos is None

    def test_things_are_struck_off_when_they_are_done_and_not_before(self) -> None:
        """E2: a node that dies between the two leaves them to the others."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        bench.login("alice", "room", node=0)
        bench.held.add(0)
        new = bench.open(node=0)
        new.login("alice", want=None)
        bench.answer(0)
        bench.settle()
        assert {type(call.operation) for call in bench.calls[0]} == {LeaveChannel, PostOrder}
        bench.answer(0)
        bench.settle()
        assert StrikeToDos not in {type(call.operation) for call in bench.calls[0]}
        bench.calls[0].clear()  # the node's last deed
        bench.advance(10.0)
        assert witness.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.REPLACED)]
        assert bench.engine._users._homes["alice"].todos is None

    @pytest.mark.parametrize("resumes", [False, True])
    def test_a_logout_right_behind_a_login_whose_transport_is_gone(self, resumes: bool) -> None:
        """S7, S59: the engine is still deciding; the session ends all the same, and nobody stays online for 30 s."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        before = bench.login("alice", "room", node=1) if resumes else None
        if before is not None:
            before.lose()
        bench.held.add(0)
        alice = bench.open(node=0)
        alice.login("alice", resume=before, want=None)
        alice.send(Logout(1))
        alice.lose()
        bench.release(0)
        assert bench.engine._users._homes["alice"].session is None
        if resumes:
            assert witness.members("room")[-1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)

    def test_things_to_do_twice(self) -> None:
        """E2: each step is idempotent."""
        bench = Bench(nodes=2, lease_seconds=30.0)
        witness = bench.login("witness", "room", node=1).keep()
        alice = bench.login("alice", "room", node=0)
        alice.lose()
        bench.advance(25.0)
        bench.held |= {0, 1}
        bench.now += 5.0
        bench.engine.handle_timeout(now=bench.now)
        bench.announce()
        bench.settle()
        bench.now += 2.0
        bench.engine.handle_timeout(now=bench.now)
        bench.announce()
        bench.settle()
        for index in (0, 1):
            bench.release(index)
        bench.hubs[0].engine_announced(ToDosWaiting(), now=bench.now)
        bench.settle()
        witness.heartbeat()
        assert witness.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.TIMED_OUT)]

    def test_answers_that_nobody_waits_for(self) -> None:
        """Promise 1: unknown and repeated call ids; and a hub that was closed."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        bench.login("alice")
        bench.answer()  # listed
        bench.settle()
        call = bench.calls[0][0]
        answer = bench.engine.execute(call.operation, now=bench.now)
        bench.hub.close(now=bench.now)
        bench.settle()
        bench.hub.engine_answered(call.call_id, answer, now=bench.now)
        bench.hub.engine_answered(call.call_id, answer, now=bench.now)
        bench.hub.engine_answered(999, None, now=bench.now)
        bench.hub.engine_announced(OrdersWaiting(), now=bench.now)
        (call,) = bench.hub.take_outputs()
        assert isinstance(call.operation, DetachSession)  # or the session would stay attached for ever

    def test_a_hub_that_is_closed_ends_what_its_clients_had_ended(self) -> None:
        """S7, S14: a logout that waited for an append is carried out, whatever becomes of the message."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        alice = bench.login("alice", "room", node=0)
        bench.held.add(0)
        alice.send(PublishText(5, "room", "x"), Logout(6))
        alice.lose()
        bench.hub.close(now=bench.now)
        bench.settle()
        bench.release(0)
        bench.advance(3.0)  # what follows in other homes is left to the other node
        assert witness.members("room")[-1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)

    def test_a_hub_that_is_closed_with_a_logout_unread(self) -> None:
        """S7: the transport was there until then."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        alice = bench.login("alice", "room", node=0)
        bench.held.add(0)
        alice.send(PublishText(5, "room", "x"), Logout(6))
        bench.hub.close(now=bench.now)
        bench.settle()
        bench.release(0)
        bench.advance(3.0)  # what follows in other homes is left to the other node
        assert witness.members("room")[-1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)

    def test_an_engine_that_hangs(self) -> None:
        """E3: logins that would only wait are put off, and what they left is done once when it answers again."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        bench.login("alice", "room", node=1).keep()
        bench.held.add(0)
        bench.login("alice", want=None)
        bench.answer()  # listed: what follows is about the user's home
        for _ in range(100):
            bench.login("alice", want=None).lose()
        refused = bench.login("alice")
        assert refused.refusal.code == Code.UNAVAILABLE
        assert len(bench.calls[0]) == 1
        before = len(bench.engine_calls)
        bench.release(0)
        kinds = [type(operation) for operation in bench.engine_calls[before:]]
        assert kinds.count(PostOrder) == 65  # each of the 65 that were not put off replaced the one before it
        assert kinds.count(LeaveChannel) == 1
        assert witness.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.REPLACED)]

    @pytest.mark.parametrize(
        ("announcement", "operation"), [(OrdersWaiting(), ReadOrders), (ToDosWaiting(), TakeToDos)]
    )
    def test_announced_a_thousand_times(self, announcement: Any, operation: type) -> None:
        """E2, E9: one call under way, and one more for all that came meanwhile."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        before = len(bench.engine_calls)
        for _ in range(1000):
            bench.hub.engine_announced(announcement, now=bench.now)
            bench.settle()
        bench.release(0)
        assert [type(call) for call in bench.engine_calls[before:]] == [operation] * 2


class TestBlocks:
    """E5: blocks in offset order, whichever way they come."""

    def reader(self, **settings: Any) -> tuple[Bench, Any, Any]:
        bench = Bench(nodes=2, **settings)
        bob = bench.login("bob", "room", node=1)
        alice = bench.login("alice", "room", node=0)
        return bench, alice, bob

    def muffled(self, bench: Bench) -> list[Any]:
        """From now on announcements to the first node are kept back."""
        kept: list[Any] = []
        hub = bench.hubs[0]

        def announce() -> None:
            for node, announcement in bench.engine.take_announcements():
                if node == "node0":
                    kept.append(announcement)
                else:
                    bench.hubs[1].engine_announced(announcement, now=bench.now)

        bench.announce = announce  # type: ignore[method-assign]
        bench.say = lambda which: (hub.engine_announced(which, now=bench.now), bench.settle())  # type: ignore[attr-defined]
        return kept

    def test_lost_repeated_and_swapped(self) -> None:
        """E5: a hole is read from the log; what is known is dropped."""
        bench, alice, bob = self.reader()
        kept = self.muffled(bench)
        for number in range(6):
            bob.publish("room", str(number))
        for index in (2, 1, 2, 5, 4, 3, 5, 0):
            bench.say(kept[index])  # type: ignore[attr-defined]
        assert alice.texts("room") == ["0", "1", "2", "3", "4", "5"]

    def test_blocks_that_come_while_a_hole_is_read(self) -> None:
        """E5: read again; nothing waits for the next message."""
        bench, alice, bob = self.reader()
        kept = self.muffled(bench)
        for number in range(3):
            bob.publish("room", str(number))
        bench.held.add(0)
        bench.say(kept[1])  # type: ignore[attr-defined]
        answer = bench.engine.execute(bench.calls[0][0].operation, now=bench.now)
        bob.publish("room", "3")
        bench.say(kept[3])  # type: ignore[attr-defined]
        bench.hubs[0].engine_answered(bench.calls[0].pop(0).call_id, answer, now=bench.now)
        bench.settle()
        bench.release(0)
        assert alice.texts("room") == ["0", "1", "2", "3"]

    def test_a_large_hole_is_read_in_pieces(self) -> None:
        """E5."""
        bench, alice, bob = self.reader(feed_piece_bytes=300)
        kept = self.muffled(bench)
        for number in range(20):
            bob.publish("room", f"{number:0100}")
        bench.say(kept[-1])  # type: ignore[attr-defined]
        assert [int(text) for text in alice.texts("room")] == list(range(20))

    def test_a_block_known_in_part(self) -> None:
        """E5: only the rest is delivered."""
        bench, alice, bob = self.reader()
        kept = self.muffled(bench)
        for number in range(3):
            bob.publish("room", str(number))
        blocks = [one.block for one in kept]
        bench.say(kept[0])  # type: ignore[attr-defined]
        joined = Block(blocks[0].epoch, blocks[0].first_offset, sum((block.entries for block in blocks), ()))
        bench.say(BlockAnnounced(log="c:room", block=joined))  # type: ignore[attr-defined]
        assert alice.texts("room") == ["0", "1", "2"]

    def test_a_hole_that_cannot_be_filled(self) -> None:
        """E5, S33: a gap for each reader, from its own cursor; then all goes on."""
        bench, alice, bob = self.reader(max_log_bytes=128 * 1024)
        kept = self.muffled(bench)
        bob.publish("room", "first")
        bench.say(kept[0])  # type: ignore[attr-defined]
        for _ in range(12):
            bob.publish("room", "x" * 30_000)
        bench.say(kept[-1])  # type: ignore[attr-defined]
        (gap,) = alice.gaps("room")
        offsets = [offset for offset, _ in alice.entries("room")]
        assert gap.count == offsets[offsets.index(3) + 1] - 4
        last = bob.publish("room", "last")
        bench.say(kept[-1])  # type: ignore[attr-defined]
        assert alice.entries("room")[-1][0] == last.offset

    def test_an_engine_that_lost_a_log(self) -> None:
        """E10, F-84: another epoch, seen by every reader as a gap of unknown size."""
        bench, alice, bob = self.reader()
        bob.publish("room", "old")
        del bench.engine._channels._homes["room"]  # as a fail-over may lose it
        carol = bench.login("carol", "room", node=1)
        sent = carol.publish("room", "new")
        block = Block(sent.epoch, 1, (b"\x92\x03\xa1x",))
        bench.hubs[0].engine_announced(BlockAnnounced(log="c:room", block=block), now=bench.now)
        bench.settle()
        (gap,) = alice.gaps("room")
        assert (gap.epoch, gap.count) == (sent.epoch, None)
        assert alice.texts("room") == ["old", "new"]

    def test_a_hole_read_for_a_channel_that_was_released(self) -> None:
        """F-36: the answer comes too late."""
        bench, alice, bob = self.reader()
        kept = self.muffled(bench)
        bob.publish("room", "0")
        bob.publish("room", "1")
        bench.held.add(0)
        bench.say(kept[-1])  # type: ignore[attr-defined]
        alice.lose()
        bench.release(0)
        bench.say(kept[-1])  # type: ignore[attr-defined]
        assert channels_of(bench.hub) == set()

    def test_a_block_behind_the_subscription_that_comes_before_its_confirmation(self) -> None:
        """E5: it is read from the log at once, not with the next message."""
        bench = Bench(nodes=2)
        bob = bench.login("bob", "room", node=1)
        alice = bench.login("alice", "room", node=1)
        alice.lose()
        bench.held.add(0)
        back = bench.open(node=0)
        back.login("alice", resume=alice, want=[alice.cursor("room")])
        while not isinstance(bench.calls[0][0].operation, WatchChannel):
            bench.answer(0)
            bench.settle()
        subscribed = bench.calls[0].pop(0)
        answer = bench.engine.execute(subscribed.operation, now=bench.now)
        bob.publish("room", "in between")
        assert not back.entries("room")
        bench.hubs[0].engine_answered(subscribed.call_id, answer, now=bench.now)
        bench.settle()
        bench.release(0)
        assert back.texts("room") == ["in between"]

    def test_a_channel_released_before_such_a_block_could_be_read(self) -> None:
        """E5, F-36: whoever wanted it is gone; nothing is read, nothing is kept."""
        bench = Bench(nodes=2)
        bob = bench.login("bob", "room", node=1)
        alice = bench.login("alice", "room", node=1)
        alice.lose()
        back = bench.open(node=0)
        back.login("alice", resume=alice, want=None)
        bench.held.add(0)
        back.send(GoOn(*alice.cursor("room")))
        subscribed = bench.calls[0].pop(0)
        assert isinstance(subscribed.operation, WatchChannel)
        answer = bench.engine.execute(subscribed.operation, now=bench.now)
        bob.publish("room", "in between")
        back.lose()
        bench.hubs[0].engine_answered(subscribed.call_id, answer, now=bench.now)
        bench.settle()
        bench.release(0)
        read = [operation.log for operation in bench.engine_calls if isinstance(operation, ReadLog)]
        assert read == ["u:bob", "u:alice"]  # what a login and a statement bring
        assert channels_of(bench.hub) == set()

    def test_blocks_before_the_subscription_is_confirmed(self) -> None:
        """E5: the log's end as of the subscription covers them."""
        bench = Bench(nodes=2)
        bob = bench.login("bob", "room", node=1)
        alice = bench.login("alice", node=0)
        bench.held.add(0)
        alice.send(Join(1, "room"), RenewToken(2, "x"))
        bench.answer(0)
        bench.settle()
        answer = bench.engine.execute(bench.calls[0][0].operation, now=bench.now)
        bob.publish("room", "early")
        bench.hubs[0].engine_answered(bench.calls[0].pop(0).call_id, answer, now=bench.now)
        bench.settle()
        bench.release(0)
        bob.publish("room", "late")
        assert alice.texts("room")[-1] == "late"
        assert [offset for offset, _ in alice.entries("room")][-1] == 4
