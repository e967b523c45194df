"""Tokens of a client: static, renewed, from a provider (S27, S28, F-51 to F-55)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_server import FixedJitter, Rig
from rtm_sansio.client import ClientTimer
from rtm_sansio.codes import Code
from rtm_sansio.errors import InvalidArgument, LoginTimeout, Outcome, RequestRefused
from rtm_sansio.events import ReconnectProblem, TokenExpired, TokenWillExpire
from rtm_sansio.messages import Failed, Kicked, Login, LoginRefused, Renewed, RenewToken
from rtm_sansio.states import ConnectionState


def connected(expires_in: float | None = None, **options: Any) -> Rig:
    rig = Rig(**options)
    rig.connect(expires_in=expires_in)
    return rig


def outage(rig: Rig) -> None:
    """Into RECONNECTING, no attempt under way."""
    rig.lose()
    for _ in range(100):
        if rig.state is ConnectionState.RECONNECTING:
            break
        if rig.core.seen_transports:
            rig.refuse_transport()
        rig.advance(0.05)
    if rig.core.seen_transports:
        rig.refuse_transport()


def next_attempt(rig: Rig) -> None:
    count = len(rig.opened)
    while len(rig.opened) == count:
        deadline = rig.core.next_deadline()
        assert deadline is not None
        rig.advance(deadline - rig.now)
    rig.open()


# --- a static token


@pytest.mark.parametrize(("seconds", "told"), [(69.999, False), (70.0, True)])
def test_will_expire(seconds: float, told: bool):
    """S28: thirty seconds before, once for each token."""
    rig = connected(100.0)
    rig.advance(seconds)
    assert rig.of_type(TokenWillExpire) == ([TokenWillExpire(expires_in=30.0)] if told else [])
    rig.advance(20.0)
    assert len(rig.of_type(TokenWillExpire)) == 1


def test_will_expire_once_through_reconnects():
    """S28: a new welcome states the lifetime again, and tells nothing again."""
    rig = connected(100.0)
    rig.advance(75.0)
    rig.lose()
    rig.advance(0.6)
    rig.accept(expires_in=24.0)
    rig.advance(20.0)
    assert len(rig.of_type(TokenWillExpire)) == 1


def test_expires_too_soon():
    """S28: a token with less than thirty seconds is announced at once."""
    rig = connected(10.0)
    rig.tick()
    assert rig.of_type(TokenWillExpire) == [TokenWillExpire(expires_in=10.0)]
    rig = connected(-1.0)
    rig.tick()
    assert rig.of_type(TokenWillExpire) == [TokenWillExpire(expires_in=0.0)]


def test_expired_token_does_not_cut_a_connection():
    """S28, F-55: the connection stays up, and nothing is said while it does."""
    rig = connected(40.0)
    rig.advance(100.0)
    assert rig.state is ConnectionState.CONNECTED
    assert rig.of_type(TokenExpired) == []
    assert rig.core.next_timer() is ClientTimer.LIVENESS


def test_lifetime_ends_in_reconnecting():
    """S27, F-51: TokenExpired in RECONNECTING when the stated lifetime runs out on the client's clock; once."""
    rig = connected(50.0)
    outage(rig)
    rig.advance(50.0 - rig.elapsed - 0.001)
    assert rig.of_type(TokenExpired) == []
    rig.advance(0.001)
    assert len(rig.of_type(TokenExpired)) == 1
    rig.advance(100.0)
    assert len(rig.of_type(TokenExpired)) == 1
    assert rig.state is ConnectionState.RECONNECTING


def test_lifetime_ended_before():
    """S27: told when RECONNECTING is entered, not inside the grace time."""
    rig = connected(20.0)
    rig.advance(30.0)
    rig.lose()
    rig.advance(3.9)
    assert rig.of_type(TokenExpired) == []
    rig.advance(0.1)
    assert len(rig.of_type(TokenExpired)) == 1


def test_refused_as_expired():
    """S27, F-51, F-52: once, when the server has refused it; then at the cap, never a hot loop."""
    rig = connected(jitter=1.0)
    outage(rig)
    for _ in range(5):
        next_attempt(rig)
        rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    assert len(rig.of_type(TokenExpired)) == 1
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings[-4:] == [5.0] * 4
    assert rig.state is ConnectionState.RECONNECTING


def test_refused_in_the_grace_time():
    """S27: told in RECONNECTING; the state does not change for it."""
    rig = connected()
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    assert rig.state is ConnectionState.CONNECTED
    assert rig.of_type(TokenExpired) == []
    rig.advance(3.5)
    assert len(rig.of_type(TokenExpired)) == 1


def test_each_token_expires_for_itself():
    """S27: once per token."""
    rig = connected()
    outage(rig)
    next_attempt(rig)
    rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    number = rig.call("renew_token", "t1")
    rig.accept(expires_in=1.0)
    assert rig.result(number).expires_in == 1.0
    rig.lose()
    rig.advance(4.0)
    if rig.core.seen_transports:
        rig.refuse_transport()
    next_attempt(rig)
    rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    assert len(rig.of_type(TokenExpired)) == 2


def test_bad_token_is_a_problem():
    """S20: not expired, but bad: reported, and tried at the cap."""
    rig = connected()
    outage(rig)
    next_attempt(rig)
    rig.say(LoginRefused(Code.BAD_TOKEN, "signature"))
    assert [one.code for one in rig.of_type(ReconnectProblem)] == ["bad_token"]
    assert rig.of_type(TokenExpired) == []


# --- renew_token


def test_renew():
    """S28: never drops the connection; the answer states the lifetime; the next login uses it."""
    rig = connected(100.0)
    number = rig.call("renew_token", "t1")
    assert rig.server.of_type(RenewToken)[0].token == "t1"
    rig.say(Renewed(number, 200.0))
    assert rig.result(number).expires_in == 200.0
    assert not rig.closed
    rig.advance(169.9)
    assert rig.of_type(TokenWillExpire) == []
    rig.advance(0.1)
    assert rig.of_type(TokenWillExpire) == [TokenWillExpire(expires_in=pytest.approx(30.0))]
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t1"


def test_renewal_refused():
    """S28: the old one stays in force for as long as it lasts, and its end is told as before."""
    rig = connected(100.0)
    number = rig.call("renew_token", "t1")
    rig.say(Failed(number, Code.BAD_TOKEN, "no"))
    error = rig.error(number)
    assert isinstance(error, RequestRefused)
    assert (error.code, error.outcome) == ("bad_token", Outcome.REFUSED)
    rig.advance(70.0)
    assert len(rig.of_type(TokenWillExpire)) == 1
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t0"


def test_first_renewal_accepted_second_refused():
    """S28: the accepted one is in force, with its own end."""
    rig = connected(100.0)
    one = rig.call("renew_token", "t1")
    two = rig.call("renew_token", "t2")
    rig.say(Renewed(one, 60.0))
    rig.say(Failed(two, Code.BAD_TOKEN, "no"))
    rig.advance(30.0)
    assert rig.of_type(TokenWillExpire) == [TokenWillExpire(expires_in=30.0)]
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t1"


def test_both_renewals_refused():
    """S28: a refused token never comes back."""
    rig = connected()
    one = rig.call("renew_token", "t1")
    two = rig.call("renew_token", "t2")
    rig.say(Failed(one, Code.BAD_TOKEN, ""), Failed(two, Code.BAD_TOKEN, ""))
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t0"


@pytest.mark.parametrize("way", ["timeout", "cancel"])
def test_renewal_refused_after_nobody_waits(way: str):
    """S28: also when the caller has given up."""
    rig = connected()
    number = rig.call("renew_token", "t1")
    if way == "timeout":
        rig.advance(10.0)
        assert rig.error(number).outcome is Outcome.UNKNOWN
    else:
        rig.call("cancel", number)
    rig.say(Failed(number, Code.BAD_TOKEN, ""))
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t0"


def test_renew_without_a_link_makes_an_attempt():
    """S27: at once, with the new token; the call completes when the server has accepted it."""
    rig = connected(5.0, jitter=1.0)
    outage(rig)
    rig.advance(0.2)
    if rig.core.seen_transports:
        rig.refuse_transport()
    count = len(rig.opened)
    number = rig.call("renew_token", "t1")
    assert len(rig.opened) == count + 1
    rig.accept(expires_in=99.0)
    assert rig.server.of_type(Login)[0].token == "t1"
    assert rig.result(number).expires_in == 99.0
    assert rig.server.of_type(RenewToken) == []


def test_renewals_behind_a_login_that_quoted_the_newest():
    """S28: none of them is sent, or an older token would come into force again; each is answered by the welcome."""
    rig = connected(5.0, jitter=1.0)
    outage(rig)
    numbers = [rig.call("renew_token", f"t{index}") for index in range(10)]
    rig.accept(expires_in=5000.0)
    assert rig.server.of_type(Login)[0].token == "t9"
    assert [rig.result(number).expires_in for number in numbers] == [5000.0] * 10
    rig.advance(1.0)
    assert rig.server.of_type(RenewToken) == []


def test_token_is_read_when_the_login_is_sent():
    """F-53: a dial that was under way uses the new token."""
    rig = connected()
    outage(rig)
    count = len(rig.opened)
    while len(rig.opened) == count:
        rig.advance(0.5)
    rig.call("renew_token", "t1")
    rig.open()
    assert len(rig.opened) == count + 1
    assert rig.server.of_type(Login)[0].token == "t1"


@pytest.mark.parametrize("code", [Code.TOKEN_EXPIRED, Code.BAD_TOKEN, Code.TOKEN_EXPIRY_ENFORCED])
def test_refusal_of_an_older_token(code: int):
    """S27, F-53: never condemns a newer one: that is tried at once."""
    rig = connected()
    outage(rig)
    next_attempt(rig)
    rig.call("renew_token", "t1")
    count = len(rig.opened)
    rig.say(LoginRefused(code, ""))
    assert rig.of_type(TokenExpired) == []
    assert rig.of_type(ReconnectProblem) == []
    rig.tick()
    assert len(rig.opened) == count + 1
    rig.open()
    assert rig.server.of_type(Login)[0].token == "t1"


def test_refusal_that_is_not_about_the_token():
    """S21: with a newer token or not, a server's retry_after is followed."""
    rig = connected()
    outage(rig)
    next_attempt(rig)
    rig.call("renew_token", "t1")
    count = len(rig.opened)
    rig.say(LoginRefused(Code.LOGIN_LIMIT, "", 20.0))
    rig.advance(19.9)
    assert len(rig.opened) == count
    rig.advance(0.11)
    assert len(rig.opened) == count + 1


@pytest.mark.parametrize("code", [Code.BAD_TOKEN, Code.TOKEN_EXPIRED])
def test_renewed_offline_with_a_bad_token(code: int):
    """S28, S9: the login that quotes it is refused: the call fails at once, and the old token is back in force."""
    rig = connected()
    outage(rig)
    number = rig.call("renew_token", "t1")
    rig.open()
    rig.say(LoginRefused(code, "bad"))
    error = rig.error(number)
    assert isinstance(error, RequestRefused)
    assert error.outcome is Outcome.REFUSED
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "t0"


def test_renewal_on_an_older_login():
    """S28: renewed between login and welcome: what the welcome says is about the older token; the newer is sent."""
    rig = connected()
    outage(rig)
    next_attempt(rig)
    number = rig.call("renew_token", "t1")
    rig.say(rig.welcome(expires_in=31.0))
    rig.say(rig.restored())
    rig.advance(5.0)
    assert rig.of_type(TokenWillExpire) == []
    assert rig.server.of_type(RenewToken)[0].token == "t1"
    rig.say(Renewed(number, 31.0))
    rig.advance(5.0)
    assert len(rig.of_type(TokenWillExpire)) == 1


@pytest.mark.parametrize("token", [None, 5, "t\n", "x" * 9000])
def test_impossible_token(token: Any):
    """S37."""
    rig = connected()
    with pytest.raises(InvalidArgument):
        rig.core.renew_token(token, now=rig.now)


# --- a provider


def with_provider(token: str | None = None, **options: Any) -> tuple[Rig, int]:
    rig = Rig(**options)
    number = rig.login(token=token, token_provider=True)
    return rig, number


def supply(rig: Rig, token: str) -> None:
    rig.core.token_supplied(rig.asked[-1], token, now=rig.now)
    rig.take()


def test_provider_is_asked_first():
    """S27: without a token it is asked before the first attempt; promise 6: that wait has a deadline."""
    rig, number = with_provider()
    assert rig.asked == [1]
    assert rig.opened == []
    assert rig.core.next_timer() is ClientTimer.TOKEN_PROVIDER
    supply(rig, "p1")
    rig.accept()
    assert rig.server.of_type(Login)[0].token == "p1"
    assert rig.result(number) is None


def test_provider_with_a_first_token():
    """S27: asked only when a new one is needed."""
    rig, _ = with_provider("p0")
    rig.accept()
    assert rig.asked == []
    rig.lose()
    next_attempt(rig)
    assert rig.asked == []


@pytest.mark.parametrize("way", ["raises", "hangs", "empty", "not a str", "not ASCII"])
def test_provider_fails_at_login(way: str):
    """S27, F-54: asked again with back-off until the login times out, with the cause."""
    rig, number = with_provider(jitter=1.0)
    cause = KeyError("s3cret")
    while rig.state is ConnectionState.CONNECTING:
        if rig.asked and way != "hangs" and rig.core.next_timer() is not ClientTimer.RETRY:
            if way == "raises":
                rig.core.token_failed(rig.asked[-1], cause, now=rig.now)
                rig.take()
            else:
                supply(rig, {"empty": "", "not a str": 5, "not ASCII": "ä"}[way])  # type: ignore[arg-type]
        rig.advance((rig.core.next_deadline() or rig.now) - rig.now)
    error = rig.error(number)
    assert isinstance(error, LoginTimeout)
    assert error.last_cause == "token_provider_failed"
    assert len(rig.asked) >= 2
    assert "s3cret" not in str(error)
    assert rig.of_type(ReconnectProblem) == []
    if way == "raises":
        assert error.__cause__ is not None
        assert error.__cause__.__cause__ is cause


def test_provider_fails_in_reconnecting():
    """S27: ReconnectProblem("token_provider_failed"), once; the attempts go on."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=3.0)
    rig.answer_heartbeats = False
    rig.lose()
    rig.advance(4.0)
    for _ in range(5):
        if rig.core.seen_transports:
            rig.refuse_transport()
        rig.advance(6.0)
        rig.core.token_failed(rig.asked[-1], OSError(), now=rig.now)
        rig.take()
    assert [one.code for one in rig.of_type(ReconnectProblem)] == ["token_provider_failed"]
    assert rig.of_type(TokenExpired) == []
    count = len(rig.asked)
    rig.advance(12.0)
    assert len(rig.asked) > count


def test_provider_renews_unseen():
    """S27, S28: asked before the end, without troubling the app; the connection stays."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.advance(70.0)
    assert rig.asked == [1]
    supply(rig, "p1")
    renewal = rig.server.of_type(RenewToken)[0]
    assert renewal.token == "p1"
    count = len(rig.events)
    rig.say(Renewed(renewal.number, 100.0))
    assert len(rig.events) == count
    assert not [number for number in rig.ends if number == renewal.number]
    rig.advance(70.0)
    assert rig.asked == [1, 2]


def test_provider_of_short_tokens():
    """S27, F-52: tokens shorter than the warning time are renewed at half their life, not in a hot loop."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=10.0)
    asked: list[float] = []
    for _ in range(100):
        rig.advance(0.5)
        if len(rig.asked) > len(asked):
            asked.append(rig.elapsed)
            supply(rig, f"p{len(asked)}")
            rig.say(Renewed(rig.server.of_type(RenewToken)[-1].number, 10.0))
    assert asked[:4] == [5.0, 10.0, 15.0, 20.0]


def test_provider_fails_while_connected():
    """S27: asked again after a while, until the token is over; nobody is troubled while the connection stands."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    for _ in range(6):
        rig.advance(70.0 - rig.elapsed if rig.elapsed < 70.0 else 5.0)
        rig.core.token_failed(rig.asked[-1], OSError(), now=rig.now)
        rig.take()
    assert len(rig.asked) >= 3
    assert rig.of_type(ReconnectProblem) == []
    assert rig.state is ConnectionState.CONNECTED
    count = len(rig.asked)
    rig.advance(100.0)
    assert len(rig.asked) <= count + 25


def test_provider_asked_in_the_grace_time():
    """S27: also inside the 4 s, unseen."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.lose()
    next_attempt(rig)
    rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    rig.tick()
    assert rig.asked == [1]
    supply(rig, "p1")
    rig.accept()
    rig.advance(5.0)
    assert len(rig.changes) == 2
    assert rig.of_type(TokenExpired) == []
    assert rig.of_type(ReconnectProblem) == []


@pytest.mark.parametrize("code", [Code.BAD_TOKEN, Code.TOKEN_EXPIRED])
def test_a_server_that_accepts_and_refuses_in_turn_gets_no_hot_loop(code: Code):
    """S20, S21, F-52, F-60: the provider is asked at once for the first time only, then at the cap; the app is told."""
    rig, _ = with_provider("p0", jitter=1.0)
    asked = len(rig.asked)
    while rig.elapsed < 60.0:
        if len(rig.asked) > asked:
            asked = len(rig.asked)
            supply(rig, f"p{asked}")
        if rig.core.seen_transports:
            rig.accept()
            rig.say(Kicked(code, "no"))
        rig.advance(0.1)
    assert rig.state is ConnectionState.CONNECTED  # each time restored within the grace time
    assert 50 <= len(rig.opened) <= 62
    assert rig.opened_at[1] - rig.opened_at[0] < 0.2
    assert rig.opened_at[2] - rig.opened_at[1] > 0.4
    assert [problem.code for problem in rig.of_type(ReconnectProblem)] == [code.name.lower()]


def test_provider_whose_tokens_are_all_refused():
    """S27, F-52: asked at once for the first time, then at the cap: never a hot loop."""
    rig, _ = with_provider("p0", jitter=1.0)
    rig.accept(expires_in=None)
    outage(rig)
    at: list[float] = []
    while rig.elapsed < 100.0:
        rig.advance(0.1)
        if len(rig.asked) > len(at):
            at.append(rig.elapsed)
            supply(rig, f"p{len(at)}")
        if rig.core.seen_transports:
            rig.open()
            rig.say(LoginRefused(Code.TOKEN_EXPIRED, ""))
    assert len(at) < 25
    assert [one.code for one in rig.of_type(ReconnectProblem)] == ["token_expired"]
    assert rig.of_type(TokenExpired) == []


def test_loss_while_the_provider_is_asked_to_renew():
    """S27, S12: the old token still lasts: the attempt does not wait for the provider."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.advance(70.0)
    rig.lose()
    next_attempt(rig)
    assert rig.server.of_type(Login)[0].token == "p0"
    supply(rig, "p1")
    rig.say(rig.welcome(expires_in=29.0))
    rig.say(rig.restored())
    assert rig.server.of_type(RenewToken)[0].token == "p1", "the session learns of the newer token"
    assert len(rig.changes) == 2


def test_supplied_while_dialling():
    """S27, F-53: the dial that is under way uses it."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.advance(70.0)
    rig.lose()
    rig.advance(0.5)
    supply(rig, "p1")
    rig.accept(expires_in=100.0)
    assert rig.server.of_type(Login)[0].token == "p1"
    assert rig.server.of_type(RenewToken) == []


def test_token_over_while_dialling():
    """S27, promise 4: retry_now with a token that ran out meanwhile asks the provider, and closes what it gave up."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=3.0)
    rig.advance(1.0)
    rig.lose()
    rig.advance(0.5)
    assert rig.core.seen_transports, "an attempt is under way while the provider is asked in good time"
    rig.advance(1.6)
    assert rig.asked == [1]
    rig.call("retry_now")
    assert not rig.core.seen_transports
    rig.call("retry_now")
    assert rig.core.next_deadline() is not None
    supply(rig, "p2")
    rig.accept()
    assert rig.server.of_type(Login)[0].token == "p2"


def test_renew_token_while_the_provider_is_asked():
    """S27: the app's own token is tried at once; what the provider says later is void."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=1.0)
    rig.lose()
    rig.advance(4.0)
    for _ in range(3):
        if rig.core.seen_transports:
            rig.refuse_transport()
        rig.advance(1.0)
    asked = rig.asked[-1]
    rig.call("renew_token", "mine")
    assert rig.core.seen_transports
    rig.core.token_supplied(asked, "late", now=rig.now)
    rig.open()
    assert rig.server.of_type(Login)[0].token == "mine"


def test_stale_answers_of_a_provider():
    """Promise 1: unknown, repeated and late answers change nothing."""
    rig, _ = with_provider()
    for ask_id in (0, 2, -1):
        rig.core.token_supplied(ask_id, "x", now=rig.now)
        rig.core.token_failed(ask_id, OSError(), now=rig.now)
    assert rig.take() == []
    rig.advance(5.0)
    rig.core.token_supplied(1, "late", now=rig.now)
    assert rig.take() == []
    rig.advance(1.0)
    rig.core.token_supplied(rig.asked[-1], "later", now=rig.now)
    rig.core.token_failed(rig.asked[-1], OSError(), now=rig.now)
    assert rig.take() == []
    assert rig.state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("how", ["logout", "kick"])
def test_nothing_is_asked_afterwards(how: str):
    """Promise 6: no provider timer in DISCONNECTED and ABORTED."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.advance(70.0)
    if how == "logout":
        rig.call("logout")
        rig.advance(2.0)
    else:
        rig.say(Kicked(Code.KICKED, ""))
    assert rig.core.next_deadline() is None
    supply(rig, "p1")
    assert rig.core.next_deadline() is None


def test_provider_while_requests_are_full():
    """S35, S27: a renewal of our own takes its place in the order, whatever waits."""
    rig, _ = with_provider("p0")
    rig.accept(expires_in=100.0)
    rig.join("lobby")
    rig.advance(69.0)
    for _ in range(256):
        rig.publish(timeout_seconds=60.0)
    rig.advance(1.0)
    supply(rig, "p1")
    assert rig.server.of_type(RenewToken)
