"""The token in force, its renewals, and what is said about its end (S27, S28)."""

from __future__ import annotations

import math

import pytest

from rtm_sansio._tokens import MAX_LIFETIME_SECONDS, ClientToken, Tokens


def test_nothing_secret_in_text():
    """S19: no token in a text form."""
    tokens = Tokens("s3cret", from_provider=False)
    assert "s3cret" not in repr(tokens.current)
    assert "s3cret" not in repr(tokens)


def test_lifetime():
    """S28: the server's clock decides; exactly at the end it is over."""
    token = ClientToken("t", serial=1)
    assert not token.is_over(1e9)
    token.accepted(10.0, now=100.0)
    assert not token.is_over(109.999)
    assert token.is_over(110.0)
    token.accepted(None, now=200.0)
    assert not token.is_over(1e9)


@pytest.mark.parametrize("expires_in", [math.inf, math.nan, MAX_LIFETIME_SECONDS * 2, 1e300])
def test_absurd_lifetimes_are_none(expires_in: float):
    """S50: a lifetime that no timer can wait for is no lifetime."""
    token = ClientToken("t", serial=1)
    token.accepted(expires_in, now=0.0)
    assert token.expires_at is None


@pytest.mark.parametrize("expires_in", [-5.0, 0.0, -math.inf])
def test_over_from_the_start(expires_in: float):
    """S28: a lifetime that has passed."""
    token = ClientToken("t", serial=1)
    token.accepted(expires_in, now=50.0)
    assert token.is_over(50.0)


def test_refuse():
    """S27: what the server has refused is over, until it accepts it."""
    token = ClientToken("t", serial=1)
    assert not token.proved
    token.refuse()
    assert token.is_over(0.0)
    token.accepted(5.0, now=0.0)
    assert token.proved
    assert not token.is_over(0.0)


def test_told_once():
    """S27, S28: the end and its coming are told once for each token."""
    token = ClientToken("t", serial=1)
    assert not token.tell_expired_once(0.0)
    token.refuse()
    assert [token.tell_expired_once(0.0) for _ in range(3)] == [True, False, False]
    assert [token.tell_warning_once() for _ in range(3)] == [True, False, False]


def test_renewal_accepted():
    """S28: the new token is in force from the call on, and stays."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    assert (tokens.current.value, tokens.current.serial) == ("b", 2)
    assert tokens.renewed(5, 30.0, now=0.0)
    assert tokens.current.expires_at == 30.0
    tokens.refused(5)
    assert tokens.current.value == "b"


def test_renewal_refused():
    """S28: the old one stays in force, with its end."""
    tokens = Tokens("a", from_provider=False)
    tokens.login_accepted(1, 60.0, now=0.0)
    tokens.replace("b", number=5)
    tokens.refused(5)
    assert (tokens.current.value, tokens.current.expires_at) == ("a", 60.0)
    tokens.refused(5)
    tokens.refused(6)
    assert tokens.current.value == "a"


def test_two_renewals_under_way():
    """S28: of two renewals, the first accepted and the second refused: the first stays in force, with its end."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    tokens.replace("c", number=6)
    assert not tokens.renewed(5, 30.0, now=0.0), "not the one in force"
    assert tokens.current.value == "c"
    tokens.refused(6)
    assert (tokens.current.value, tokens.current.expires_at) == ("b", 30.0)


def test_two_renewals_both_refused():
    """S28: a refused token never comes back."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    tokens.replace("c", number=6)
    tokens.refused(5)
    assert tokens.current.value == "c"
    tokens.refused(6)
    assert tokens.current.value == "a"


def test_second_accepted_first_refused():
    """S28: whatever became of an older renewal, the accepted newer one is in force."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    tokens.replace("c", number=6)
    assert tokens.renewed(6, None, now=0.0)
    tokens.refused(5)
    assert not tokens.renewed(5, 10.0, now=0.0)
    assert tokens.current.value == "c"


def test_login_accepted_with_an_older_token():
    """S27: a welcome says something about the token that was quoted, not about a newer one."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    assert not tokens.login_accepted(1, 10.0, now=0.0)
    assert tokens.current.expires_at is None
    assert tokens.login_accepted(2, 20.0, now=0.0)
    assert tokens.current.expires_at == 20.0
    tokens.refused(5)
    assert tokens.current.value == "b", "the login proved it"


def test_login_refused():
    """S28: a login refused for a renewed token takes the renewal back, and says which requests it ends."""
    tokens = Tokens("a", from_provider=False)
    tokens.replace("b", number=5)
    tokens.replace("c", number=6)
    assert tokens.login_refused(3) == [5, 6]
    assert tokens.current.value == "a"
    assert tokens.login_refused(1) == []
    assert tokens.login_refused(99) == []
    assert not tokens.login_accepted(99, None, now=0.0)


def test_renewals_are_bounded():
    """Promise 10: an app that renews for ever leaves the newest behind."""
    tokens = Tokens("a", from_provider=False)
    for number in range(1, 1000):
        tokens.replace(f"t{number}", number=number)
    assert tokens.open_renewals <= 256
    assert tokens.current.value == "t999"


def test_provider_is_asked():
    """S27: when there is no token yet, or it is over."""
    tokens = Tokens(None, from_provider=True)
    assert tokens.must_ask(0.0)
    tokens.replace("a")
    assert not tokens.must_ask(0.0)
    tokens.login_accepted(tokens.current.serial, 5.0, now=0.0)
    assert not tokens.must_ask(4.999)
    assert tokens.must_ask(5.0)
    assert not Tokens("a", from_provider=False).must_ask(1e9)


@pytest.mark.parametrize(
    ("provider", "expires_in", "warning_at"),
    [(False, 100.0, 70.0), (True, 100.0, 70.0), (False, 20.0, -10.0), (True, 20.0, 10.0), (True, 0.1, 0.5)],
)
def test_when_to_warn(provider: bool, expires_in: float, warning_at: float):
    """S28: thirty seconds before; a provider of short-lived tokens is asked at half their life, never in a hot loop."""
    tokens = Tokens("a", from_provider=provider)
    tokens.login_accepted(1, expires_in, now=0.0)
    assert tokens.warning_at(warning_seconds=30.0, shortest_seconds=0.5) == warning_at
    tokens.login_accepted(1, None, now=0.0)
    assert tokens.warning_at(warning_seconds=30.0, shortest_seconds=0.5) is None
