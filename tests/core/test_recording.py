"""Recording a core's inputs and outputs, and replaying them (promise 8, S19)."""

from __future__ import annotations

import random
import traceback
from typing import Any

import pytest

from core.fake_server import Rig
from rtm_sansio.client import ClientCore, ClientTimer
from rtm_sansio.config import ClientConfig
from rtm_sansio.endpoints import parse_endpoints
from rtm_sansio.errors import LoginTimeout, NotJoined, NotLoggedIn
from rtm_sansio.events import RequestErred
from rtm_sansio.hub import Hub
from rtm_sansio.recording import Record, Recorded, replay
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import World, _world

ENDPOINTS = parse_endpoints("ws://server.test/")


def client_core(seed: int = 4) -> ClientCore:
    return ClientCore(
        ClientConfig(), endpoints=ENDPOINTS, rng=random.Random(seed), entropy=random.Random(seed).randbytes
    )


def recorded(core: Any, *, secrets: bool = False) -> tuple[Any, list[Record]]:
    records: list[Record] = []
    return Recorded(core, lambda *record: records.append(record), secrets=secrets), records  # type: ignore[arg-type]


def test_forwards_and_records():
    """Every input before, every output after; getters are forwarded and leave no record."""
    core, records = recorded(client_core())
    assert core.state is ConnectionState.DISCONNECTED
    assert core.next_deadline() is None
    assert core.take_outputs() == []
    assert records == []
    number = core.login("alice", "s3cret", now=5.0)
    assert core.next_timer() is ClientTimer.ATTEMPT
    outputs = core.take_outputs()
    assert records == [
        ("in", "login", {"uid": "alice", "token": "<hidden>", "now": 5.0}),
        ("out", "take_outputs", outputs),
    ]
    assert number == 1
    assert core.uid == "alice"


def test_refused_calls():
    """A call that raises is recorded with its error, and raises."""
    core, records = recorded(client_core())
    with pytest.raises(NotLoggedIn):
        core.logout(now=1.0)
    assert [record[:2] for record in records] == [("in", "logout"), ("raised", "logout")]
    assert isinstance(records[1][2], NotLoggedIn)


def play(rig: Rig) -> None:
    """Something of everything."""
    rig.connect("lobby", token="s3cret-token", expires_in=40.0)
    rig.entries(1, "a", "b")
    rig.publish(message="hello")
    with pytest.raises(NotJoined):
        rig.call("leave", "never")
    rig.call("renew_token", "s3cret-two")
    rig.answer_all()
    rig.advance(3.0)
    rig.lose()
    rig.advance(1.1)
    rig.accept()
    rig.call("logout")
    rig.advance(3.0)
    with pytest.raises(NotLoggedIn):
        rig.call("logout")


@pytest.mark.parametrize("secrets", [True, False])
def test_nothing_secret_unless_asked(secrets: bool):
    """S19: neither token nor session id nor login id, in arguments, bytes or outputs."""
    rig = Rig(core_type=ClientCore)
    core, records = recorded(rig.core, secrets=secrets)
    rig.core = core
    play(rig)
    shown = repr([[key, what] for _, key, what in records])
    assert ("s3cret" in shown) is secrets
    assert ("session-id-16-by" in shown) is secrets


def test_replay_gives_the_same_outputs():
    """Promise 8: the same inputs into a fresh core with the same seed give the same outputs."""
    rig = Rig(seed=9, core_type=ClientCore)
    core, records = recorded(rig.core, secrets=True)
    rig.core = core
    play(rig)
    again = list(replay(records, Rig(seed=9, core_type=ClientCore).core))
    assert len(again) > 40
    assert [simple(record) for record in again] == [simple(record) for record in records]
    other = list(replay(records, Rig(seed=10, core_type=ClientCore).core))
    assert [simple(record) for record in other] != [simple(record) for record in records]


def simple(record: Record) -> Any:
    """Errors are equal when their texts are."""
    direction, name, what = record
    if direction == "raised":
        return direction, name, repr(what)
    if direction == "out":
        return direction, name, [repr(one) if isinstance(one, RequestErred) else one for one in what]
    return record


@pytest.mark.parametrize("external", [False, True])
def test_hub_too(monkeypatch: pytest.MonkeyPatch, external: bool):
    """Promise 8: a world of recorded cores, whose every core can be replayed."""
    recordings: list[tuple[list[Record], Any]] = []

    def recorded_hub(*arguments: Any, entropy: Any, rng: random.Random, **options: Any) -> Any:
        seed = rng.random()
        own = random.Random(seed)

        def fresh() -> Hub:
            return Hub(*arguments, entropy=random.Random(seed).randbytes, rng=random.Random(seed), **options)

        hub = Hub(*arguments, entropy=random.Random(seed).randbytes, rng=own, **options)
        own.seed(seed)
        core, records = recorded(hub, secrets=True)
        recordings.append((records, fresh))
        return core

    monkeypatch.setattr(_world, "Hub", recorded_hub)
    world = World(seed=3, external_engine=external)
    alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
    alice.send("lobby", "hi")
    bob.network.cut(2.0)
    alice.send("lobby", "during")
    world.run(5.0)
    alice.logout()
    assert bob.messages("lobby") == ["hi", "during"]
    for records, fresh in recordings:
        assert len(records) > 40
        assert [simple(record) for record in replay(records, fresh())] == [simple(record) for record in records]


@pytest.mark.parametrize("external", [False, True])
def test_nothing_secret_of_a_hub(external: bool):
    """S19: logins, renewals, and calls of an engine show none of it."""
    world = World(seed=3, external_engine=external)
    world.run(0.1)
    core, records = recorded(world.nodes[0].hub)
    world.nodes[0].hub = core
    client = world.client()
    client.login("alice", "s3cret-token")
    client.call(lambda: client.core.renew_token("s3cret-two", now=world.now), wait=True)
    session_id = client.core._connection._session.session_id  # type: ignore[union-attr]
    shown = repr(records)
    events = [one for direction, _, what in records if direction == "out" for one in what if hasattr(one, "token")]
    assert {one.token for one in events} == {"<hidden>"}
    assert "s3cret" not in shown
    assert repr(session_id)[2:-1] not in shown


class ProviderFailed(Exception):
    """What a token provider may raise: a text with the token in it."""


@pytest.mark.parametrize("secrets", [True, False])
def test_exceptions_are_reduced_to_what_cannot_hold_a_token(secrets: bool):
    """S19, S27: a provider's exception is shown as its type; an error of ours as it is, without what caused it."""
    rig = Rig(core_type=ClientCore)
    core, records = recorded(rig.core, secrets=secrets)
    rig.core = core
    number = rig.login(token=None, token_provider=True)
    fault = ProviderFailed("no session for s3cret-token")
    while number not in rig.ends:
        core.token_failed(rig.asked[-1], fault, now=rig.now)
        rig.advance(0.1)
    causes = [arguments["cause"] for _, name, arguments in records if name == "token_failed"]
    assert set(causes) == {fault if secrets else ProviderFailed}
    ((error,),) = [
        [one.error for one in what if isinstance(one, RequestErred) and one.request_id == number]
        for direction, _, what in records
        if direction == "out" and any(isinstance(one, RequestErred) for one in what)
    ]
    shown = "".join(traceback.format_exception(error))
    assert type(error) is LoginTimeout
    assert error.last_cause == "token_provider_failed"
    assert ("s3cret" in shown) is secrets
    assert "the token provider raised ProviderFailed" in str(error)
