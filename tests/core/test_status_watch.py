"""The client's side of online status (S9, S35, S37, S39, S45, S57, S59), alone and in a whole virtual world."""

from __future__ import annotations

import random
from itertools import repeat
from typing import Any

import pytest

from core.fake_server import Rig, limits
from rtm_sansio import ClientConfig, OnlineState, OnlineStatus, OnlineStatusChanged, ServerConfig
from rtm_sansio.checks import copy_of_names
from rtm_sansio.errors import InvalidArgument, NotConnected, Outcome, RequestRefused, RequestTimeout
from rtm_sansio.events import ConnectionStateChanged, StatusSubscriptionsLost
from rtm_sansio.messages import (
    Done,
    Failed,
    ReadStatus,
    Restored,
    StatusChanged,
    Statuses,
    UnwatchStatus,
    UserStatus,
    Want,
    WantedStatus,
    WatchStatus,
)
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import VirtualClient, World

OFFLINE, ONLINE, UNREACHABLE = OnlineState.OFFLINE, OnlineState.ONLINE, OnlineState.UNREACHABLE
NEVER = OnlineStatus(state=OFFLINE, since=None, expires_at=None)


def status(uid: str, state: int = 1, revision: int = 5, *, since: int | None = 1000) -> UserStatus:
    return UserStatus(uid, state, since, None, revision)


def result_of(rig: Rig, number: int) -> Any:
    return rig.ends[number].result.statuses  # type: ignore[union-attr]


def watch(rig: Rig, *statuses: UserStatus) -> int:
    number: int = rig.call("watch_status", [one.uid for one in statuses])
    rig.say(Statuses(number, statuses))
    return number


def changes(rig: Rig) -> list[tuple[str, OnlineState]]:
    return [(event.uid, event.state) for event in rig.events if isinstance(event, OnlineStatusChanged)]


class TestAlone:
    """Against a server that says what the test wants."""

    def test_answers(self) -> None:
        """S39: a query leaves nothing; a subscription is stated from then on."""
        rig = Rig()
        rig.connect()
        number = rig.call("read_status", ("bob", "carol", "bob"))
        assert rig.server.received[-1] == ReadStatus(number, ("bob", "carol"))
        rig.say(Statuses(number, (status("carol", 0, 0, since=None), UserStatus("bob", 2, 1500, 2500, 3))))
        assert result_of(rig, number) == {
            "bob": OnlineStatus(state=UNREACHABLE, since=1.5, expires_at=2.5),
            "carol": NEVER,
        }
        number = watch(rig, status("dave"))
        assert result_of(rig, number) == {"dave": OnlineStatus(state=ONLINE, since=1.0, expires_at=None)}
        rig.lose()
        rig.advance(1.0)
        rig.open()
        assert rig.server.of_type(Want)[-1].statuses == (WantedStatus("dave", 5),)

    def test_pieces_of_an_answer_keep_nothing(self) -> None:
        """S50, S59: only the last piece says who cannot be watched; whatever a server says before, and on a transport
        that is gone, is of no matter and takes no memory."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"), status("carol"))
        rig.lose()
        rig.advance(1.0)
        rig.open()
        rig.say(rig.welcome())
        for _ in range(5):
            rig.say(Restored((), True, None, ("bob",) * 1000))
        rig.lose()
        rig.advance(3.0)
        rig.open()
        rig.say(rig.welcome())
        assert rig.server.of_type(Want)[-1].statuses == (WantedStatus("bob", 5), WantedStatus("carol", 5))
        rig.say(Restored((), True, None, ("bob",)))
        rig.say(Restored((), False, None, ("carol", "stranger", "carol")))
        assert rig.of_type(StatusSubscriptionsLost) == [StatusSubscriptionsLost(uids=("carol",))]

    def test_changes(self) -> None:
        """S57: what is newer, of whom is watched, and differs; revision 0 is a server that has forgotten."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"), status("carol"))
        rig.say(StatusChanged((status("bob", 2, 6), status("bob", 1, 5), status("stranger", 2, 9))))
        rig.say(StatusChanged((status("carol", 1, 6),)))
        assert changes(rig) == [("bob", UNREACHABLE)]
        rig.say(StatusChanged((status("bob", 0, 0, since=None),)))
        assert rig.events[-1] == OnlineStatusChanged(uid="bob", state=OFFLINE, since=None, expires_at=None)
        rig.say(StatusChanged((status("bob", 0, 0, since=None),)))
        rig.say(StatusChanged((status("bob", 7, 1),)))
        assert changes(rig)[2:] == [("bob", ONLINE)]

    def test_an_answer_overtakes_what_is_pushed(self) -> None:
        """S57: what an answer says first, an event says too, and then not again."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        watch(rig, status("bob", 2, 6))
        assert changes(rig) == [("bob", UNREACHABLE)]
        rig.say(StatusChanged((status("bob", 2, 6),)))
        assert len(changes(rig)) == 1
        number = rig.call("read_status", ("bob",))
        rig.say(Statuses(number, (status("bob", 1, 7),)))
        assert changes(rig)[1:] == [("bob", ONLINE)]

    @pytest.mark.parametrize("late", [status("bob", 2, 3), status("bob", 0, 0, since=None)])
    def test_a_late_answer_to_a_query(self, late: UserStatus) -> None:
        """S57: it takes back nothing, and the app is told what it knows."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        number = rig.call("read_status", ("bob",))
        rig.say(Statuses(number, (late,)))
        assert result_of(rig, number)["bob"].state is ONLINE
        assert changes(rig) == []

    def test_unsubscribing_counts_at_once(self) -> None:
        """S39: no event behind it, whatever is under way."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        number = rig.call("unwatch_status", ("bob", "carol"))
        assert rig.server.received[-1] == UnwatchStatus(number, ("bob", "carol"))
        rig.say(StatusChanged((status("bob", 2, 6),)))
        rig.say(Done(number))
        assert rig.ends[number].result is None  # type: ignore[union-attr]
        assert changes(rig) == []

    def test_unsubscribed_while_the_subscription_is_under_way(self) -> None:
        """S39, S46: the later call counts; and one after that again."""
        rig = Rig()
        rig.connect()
        first = rig.call("watch_status", ("bob", "carol", "dave"))
        second = rig.call("unwatch_status", ("bob", "carol"))
        third = rig.call("watch_status", ("carol",))
        rig.say(Statuses(first, (status("bob"), status("carol"), status("dave"))))
        assert set(result_of(rig, first)) == {"bob", "carol", "dave"}
        rig.say(StatusChanged((status("bob", 2, 6), status("dave", 2, 6))))
        rig.say(Done(second), Statuses(third, (status("carol"),)))
        rig.say(StatusChanged((status("carol", 2, 6),)))
        assert changes(rig) == [("dave", UNREACHABLE), ("carol", UNREACHABLE)]

    def test_limits_at_the_call(self) -> None:
        """S37, S45: before anything is sent, and as of when all that is open is done."""
        rig = Rig()
        for name in ("read_status", "watch_status", "unwatch_status"):
            with pytest.raises(NotConnected):
                rig.call(name, ("bob",))
        rig.connect(limits=limits(max_status_query=2, max_status_subscriptions=3, max_name_length=5))
        for name, uids, code in (
            ("read_status", (), "invalid_uid"),
            ("read_status", ("a", "b", "c"), "too_many_names"),
            ("read_status", "bob", "invalid_uid"),
            ("watch_status", ("a", "b", "c", "d"), "too_many_names"),
            ("watch_status", ("toolong",), "invalid_uid"),
            ("unwatch_status", ("a", "b", "c", "d"), "too_many_names"),
            ("unwatch_status", ("",), "invalid_uid"),
        ):
            with pytest.raises(InvalidArgument) as caught:
                rig.call(name, uids)
            assert caught.value.code == code
        watch(rig, status("a"), status("b"))
        rig.call("watch_status", ("b", "c"))
        rig.call("read_status", ("e",))  # watches nobody
        with pytest.raises(InvalidArgument, match="unsubscribe from some first") as caught:
            rig.call("watch_status", ("d",))
        assert caught.value.code == "too_many_subscriptions"
        rig.call("unwatch_status", ("a",))
        rig.call("watch_status", ("d", "b"))

    def test_refused(self) -> None:
        """S9: nothing is watched then."""
        rig = Rig()
        rig.connect()
        number = rig.call("watch_status", ("bob",))
        rig.say(Failed(number, 4308, "no"))
        assert isinstance(rig.ends[number].error, RequestRefused)  # type: ignore[union-attr]
        rig.say(StatusChanged((status("bob", 2, 6),)))
        assert changes(rig) == []

    def test_a_timeout_takes_the_subscription_back(self) -> None:
        """S9, S35: but not from other calls, and nothing that was not sent."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        first = rig.call("watch_status", ("bob", "carol", "dave"), timeout_seconds=1.0)
        rig.call("watch_status", ("dave",), timeout_seconds=9.0)
        rig.advance(1.0)
        error = rig.ends[first].error  # type: ignore[union-attr]
        assert isinstance(error, RequestTimeout)
        assert error.outcome is Outcome.UNKNOWN
        last = rig.server.received[-1]
        assert isinstance(last, UnwatchStatus)
        assert last.uids == ("carol",)
        rig.say(Statuses(first, (status("bob"), status("carol"), status("dave"))))
        rig.say(Done(last.number))
        rig.say(StatusChanged((status("carol", 2, 6),)))
        assert changes(rig) == []
        again = rig.call("watch_status", ("bob",), timeout_seconds=1.0)
        rig.advance(1.0)
        assert isinstance(rig.ends[again].error, RequestTimeout)  # type: ignore[union-attr]
        assert rig.server.received[-1].uids == ("bob",)
        assert isinstance(rig.server.received[-1], WatchStatus)
        rig.lose()
        unsent = rig.call("watch_status", ("erin",), timeout_seconds=0.1)
        rig.advance(0.2)
        assert rig.ends[unsent].error.outcome is Outcome.NOT_SENT  # type: ignore[union-attr]

    def test_a_timeout_of_unsubscribing_changes_nothing(self) -> None:
        """S44: it counts all the same, and nobody hears of its end."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        number = rig.call("unwatch_status", ("bob",), timeout_seconds=1.0)
        rig.advance(1.0)
        ended = rig.ends[number]
        rig.say(Done(number))
        assert rig.ends[number] is ended

    @pytest.mark.parametrize(
        "answer",
        [(), (status("bob"), status("bob")), (status("carol"),), (status("bob"), status("carol"))],
        ids=["none", "twice", "another", "more"],
    )
    @pytest.mark.parametrize("name", ["read_status", "watch_status"])
    def test_an_answer_that_does_not_fit(self, name: str, answer: tuple[UserStatus, ...]) -> None:
        """S50: a protocol error; the request goes again."""
        rig = Rig()
        rig.connect()
        number = rig.call(name, ("bob",))
        rig.say(Statuses(number, answer))
        assert rig.server.closed_with == 1002
        assert number not in rig.ends

    def test_an_answer_to_another_request(self) -> None:
        """S50."""
        rig = Rig()
        rig.connect()
        number = rig.call("unwatch_status", ("bob",))
        rig.say(Statuses(number, ()))
        assert rig.server.closed_with == 1002

    def test_subscriptions_that_are_lost(self) -> None:
        """S59: of a server that allows fewer, once, and not those that were given up meanwhile."""
        rig = Rig()
        rig.connect()
        watch(rig, status("a"), status("b"), status("c"))
        rig.lose()
        rig.advance(1.0)
        rig.open()
        rig.call("unwatch_status", ("c",))
        rig.say(rig.welcome())
        restored = rig.restored()
        rig.say(type(restored)(restored.channels, False, None, ("b", "c", "stranger")))
        lost = [event for event in rig.events if isinstance(event, StatusSubscriptionsLost)]
        assert lost == [StatusSubscriptionsLost(uids=("b",))]
        rig.say(StatusChanged((status("b", 2, 6), status("a", 2, 6))))
        assert changes(rig) == [("a", UNREACHABLE)]

    def test_a_new_login_watches_nothing(self) -> None:
        """S59."""
        rig = Rig()
        rig.connect()
        watch(rig, status("bob"))
        rig.call("logout")
        rig.advance(3.0)
        rig.attach = 0
        rig.connect()
        assert rig.server.of_type(Want)[-1].statuses == ()


def statuses_of(client: VirtualClient, world: World, *uids: str, how: str = "watch_status") -> dict[str, OnlineStatus]:
    command = getattr(client.core, how)
    number = client.call(lambda: command(uids, now=world.now), wait=True)
    return client.ends[number].result.statuses  # type: ignore[union-attr, no-any-return]


def heard(client: VirtualClient, uid: str) -> list[tuple[OnlineState, float | None, float | None]]:
    return [(one.state, one.since, one.expires_at) for one in client.of_type(OnlineStatusChanged) if one.uid == uid]


def seconds(world: World, unix: float | None) -> float | None:
    return None if unix is None else round(unix - (world.clock.wall - world.elapsed), 1)


class TestWorld:
    @pytest.mark.parametrize("nodes", [1, 2])
    def test_three_states_over_an_interruption(self, nodes: int) -> None:
        """S22, S24, S39."""
        world = World(nodes=nodes)
        watcher = world.login("watcher", node=nodes - 1)
        assert statuses_of(watcher, world, "alice") == {"alice": NEVER}
        alice = world.login("alice")
        world.run(1.0)
        alice.network.stall(seconds=7.5)
        world.run(20.0)
        alice.network.cut(100.0)
        world.run(50.0)
        assert [state for state, _, _ in heard(watcher, "alice")] == [ONLINE, UNREACHABLE, ONLINE, UNREACHABLE, OFFLINE]
        unreachable, offline = heard(watcher, "alice")[-2:]
        assert unreachable[2] is not None
        assert offline[1] is not None
        assert abs(unreachable[2] - offline[1]) < 0.1
        assert unreachable[1] is not None
        assert abs(unreachable[2] - unreachable[1] - 24.0) < 0.1
        world.run_until(lambda: alice.state is ConnectionState.CONNECTED)
        world.run(0.1)
        assert heard(watcher, "alice")[-1][0] is ONLINE

    @pytest.mark.parametrize("away", [2.0, 20.0, 50.0])
    @pytest.mark.parametrize("nodes", [1, 2])
    def test_survives_reconnects(self, away: float, nodes: int) -> None:
        """S23, S25, S57: the same session, a new one, the other node; behind CONNECTED, and only what has changed."""
        world = World(nodes=nodes)
        watcher = world.client(node=list(range(nodes)))
        watcher.login("watcher")
        alice, bob = world.login("alice"), world.login("bob")
        statuses_of(watcher, world, "alice", "bob", "carol", "watcher")
        watcher.network.cut(away)
        world.run(1.0)
        alice.logout()
        world.run(70.0)
        assert watcher.state is ConnectionState.CONNECTED
        assert [state for state, _, _ in heard(watcher, "alice")] == [OFFLINE]
        assert heard(watcher, "bob") == heard(watcher, "carol") == []
        kinds = [type(event) for event in watcher.events]
        if away > 4.0:
            assert kinds.index(OnlineStatusChanged) > len(kinds) - 1 - kinds[::-1].index(ConnectionStateChanged)
        bob.logout()
        world.login("carol")
        world.run(1.0)
        assert [state for state, _, _ in heard(watcher, "bob")] == [OFFLINE]
        assert [state for state, _, _ in heard(watcher, "carol")] == [ONLINE]

    def test_a_restarted_server(self) -> None:
        """S17, S57: all are offline until they are back."""
        world = World()
        watcher, alice = world.login("watcher"), world.login("alice")
        statuses_of(watcher, world, "alice", "bob")
        alice.network.cut(100.0)
        world.run(1.0)
        world.restart_server(forget_engine=True)
        world.run(20.0)
        assert watcher.state is ConnectionState.CONNECTED
        assert heard(watcher, "alice")[-1] == (OFFLINE, None, None)
        world.run(110.0)
        assert alice.state is ConnectionState.CONNECTED
        assert heard(watcher, "alice")[-1][0] is ONLINE
        assert heard(watcher, "bob") == []

    def test_a_restart_with_smaller_limits(self) -> None:
        """S45, S59: the app is told whom it watches no more."""
        world = World()
        watcher = world.login("watcher")
        statuses_of(watcher, world, "alice", "bob", "carol")
        world.stop_server()
        world.server_config = ServerConfig(max_status_subscriptions=2)
        world.start_server(forget_engine=True)
        world.run(20.0)
        assert watcher.of_type(StatusSubscriptionsLost) == [StatusSubscriptionsLost(uids=("carol",))]
        world.login("carol")
        world.login("bob")
        world.run(1.0)
        assert heard(watcher, "carol") == []
        assert len(heard(watcher, "bob")) == 1
        with pytest.raises(InvalidArgument):
            statuses_of(watcher, world, "carol")

    def test_asked_while_there_is_no_link(self) -> None:
        """S35, S46: it waits for the reconnect."""
        world = World()
        watcher = world.login("watcher")
        world.login("alice")
        watcher.network.cut(2.0)
        world.run(0.1)
        assert statuses_of(watcher, world, "alice")["alice"].state is ONLINE
        assert statuses_of(watcher, world, "alice", how="read_status")["alice"].state is ONLINE

    def test_a_full_list_travels_behind_the_welcome(self) -> None:
        """S59: more than 16 KiB of wishes."""
        world = World()
        watcher = world.login("watcher")
        uids = tuple(f"user{number:060}" for number in range(512))
        statuses_of(watcher, world, *uids)
        watcher.network.cut(1.0)
        world.run(5.0)
        friend = world.login(uids[-1])
        world.run(1.0)
        assert friend.state is watcher.state is ConnectionState.CONNECTED
        assert [state for state, _, _ in heard(watcher, uids[-1])] == [ONLINE]

    @pytest.mark.parametrize("nodes", [1, 2])
    @pytest.mark.parametrize("seed", range(5))
    def test_soak(self, seed: int, nodes: int) -> None:
        """S57: whatever was interrupted, resumed, restarted or delayed, the last that each watcher heard is what the
        engine knows, and no event repeats the one before it."""
        rng = random.Random(seed)
        world = World(
            seed=seed,
            nodes=nodes,
            client_config=ClientConfig(request_timeout_seconds=60.0),
            engine_latency_seconds=rng.choice((0.0005, 0.2)),
            latency_seconds=rng.choice((0.001, 0.1)),
        )
        uids = [f"user{number}" for number in range(5)]
        clients = []
        for uid in uids:
            client = world.client(node=list(range(nodes)))
            client.login(uid)
            clients.append(client)
        known: list[dict[str, OnlineStatus]] = [{} for _ in clients]
        seen: list[int] = [0 for _ in clients]

        def read(index: int) -> None:
            client = clients[index]
            for event in client.events[seen[index] :]:
                if isinstance(event, OnlineStatusChanged):
                    new = OnlineStatus(state=event.state, since=event.since, expires_at=event.expires_at)
                    assert known[index][event.uid] != new
                    known[index][event.uid] = new
            seen[index] = len(client.events)

        for index, client in enumerate(clients):
            known[index].update(statuses_of(client, world, *uids, "stranger"))
        for _ in range(60):
            index = rng.randrange(len(clients))
            client, chance = clients[index], rng.random()
            if chance < 0.3:
                client.network.cut(rng.choice((1.0, 5.0, 15.0, 35.0)))
            elif chance < 0.5:
                client.network.stall(seconds=rng.choice((3.0, 7.0, 12.0, 40.0)))
            elif chance < 0.55:
                world.nodes[0].hub.kick(uids[index], now=world.now)
            elif chance < 0.6 and nodes == 1:
                world.restart_server(forget_engine=True)
            elif client.state is ConnectionState.ABORTED:
                client.logout()
                client.login(uids[index], wait=False)
                world.run(10.0)
                if client.state is ConnectionState.CONNECTED:
                    read(index)
                    known[index] = dict(statuses_of(client, world, *uids, "stranger"))
                    seen[index] = len(client.events)
            world.run(rng.choice((0.1, 1.0, 6.0, 20.0)))
        world.run(120.0)
        asker = world.login("asker")
        truth = statuses_of(asker, world, *uids, "stranger", how="read_status")
        for index, client in enumerate(clients):
            if client.state is ConnectionState.CONNECTED and known[index]:
                read(index)
                assert known[index] == truth, index


def test_names_are_copied_for_a_second_try() -> None:
    """S35, S37: an iterator may be asked for more than once, and what is none is left to be refused."""
    assert copy_of_names(iter(("a", "b"))) == ("a", "b")
    assert copy_of_names("ab") == "ab"
    assert copy_of_names(5) == 5  # type: ignore[arg-type, comparison-overlap]
    assert len(tuple(copy_of_names(repeat("a")))) == 100_000
