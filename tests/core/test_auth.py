"""The authenticators: what they accept, what they refuse, and that nothing they say gives a secret away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import sys
import time
import traceback
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from rtm_sansio import auth
from rtm_sansio.auth import (
    FailureNotes,
    Identity,
    JwtAuthenticator,
    LoginDenied,
    allow_any_uid,
    ask_provider,
    check_authenticator,
    check_token_source,
    issue_token,
    judge,
    provider_failure,
    without_token,
)
from rtm_sansio.codes import Code
from rtm_sansio.errors import ConfigError, InvalidArgument, InvalidState, RtmError
from rtm_sansio.events import LoginRequested, RenewalRequested

NOW = 1_700_000_000.5
KEY = "k3y-" * 16
OTHER_KEY = "0th3r-key-" * 8
HOUR = 3600


def login(token: str, *, uid: str = "alice", wall_clock: float | None = NOW) -> LoginRequested:
    return LoginRequested(transport_id=1, uid=uid, token=token, wall_clock=wall_clock)


def signed(claims: Any, *, key: Any = KEY, algorithm: str = "HS256", **headers: Any) -> str:
    """A token with any claims whatever, as a hostile or careless issuer makes it."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.PyJWS().encode(payload, key, algorithm, headers=headers or None)


def claims_of(**changes: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": NOW + HOUR, **changes}


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def refusal_of(token: Any, *, authenticator: JwtAuthenticator | None = None, **fields: Any) -> LoginDenied:
    """The refusal of a token, after making sure that nothing of the token can be read from it."""
    authenticator = authenticator or JwtAuthenticator(KEY, algorithms=["HS256"])
    with pytest.raises(LoginDenied) as caught:
        authenticator(login(token, **fields))
    denied = caught.value
    assert denied.__cause__ is None
    assert denied.__context__ is None
    told = "".join(traceback.format_exception_only(denied)) + repr(denied)
    if isinstance(token, str):
        assert not any(part in told for part in token.split(".") if len(part) > 8)
    assert KEY not in told
    return denied


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def private_pem(key: Any) -> str:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


# --- identity, refusal, judgement


@pytest.mark.parametrize("value", [None, 0, 1.5, NOW])
def test_an_identity_holds_an_end_or_none(value: float | None) -> None:
    assert Identity(value).expires_at == value


@pytest.mark.parametrize("value", [True, "1", math.nan, math.inf, 1e300])
def test_an_identity_refuses_an_end_that_is_no_time(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="expires_at"):
        Identity(value)


def test_a_refusal_carries_the_code_as_a_name_and_as_the_number_for_the_wire() -> None:
    denied = LoginDenied("not today", Code.LOGIN_LIMIT, 2.5)
    assert (denied.code, denied.refusal_code, denied.retry_after_seconds) == ("login_limit", 4104, 2.5)
    assert isinstance(denied, RtmError)
    assert LoginDenied("no").code == "bad_token"
    assert LoginDenied("no", 4150).code == "code_4150"
    assert LoginDenied("no", code=Code.BANNED).refusal_code == Code.BANNED


@pytest.mark.parametrize("code", [0, 1000, Code.NOT_A_MEMBER, 4999])
def test_a_refusal_takes_no_code_that_cannot_refuse_a_login(code: int) -> None:
    with pytest.raises(InvalidArgument, match="cannot refuse"):
        LoginDenied("no", code)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, True, "3"])
def test_a_refusal_takes_no_impossible_retry_time(seconds: Any) -> None:
    with pytest.raises(InvalidArgument, match="retry_after_seconds"):
        LoginDenied("no", retry_after_seconds=seconds)


def test_judging_true_and_an_identity_accepts() -> None:
    identity = Identity(NOW)
    assert judge(True) == Identity()
    assert judge(identity) is identity


@pytest.mark.parametrize("result", [False, None])
def test_judging_false_and_none_refuses(result: object) -> None:
    with pytest.raises(LoginDenied):
        judge(result)


@pytest.mark.parametrize("result", [1, 0, "alice", "secret-token", object(), [True]])
def test_judging_anything_else_is_an_error_of_the_authenticator_and_quotes_nothing(result: object) -> None:
    with pytest.raises(TypeError, match=type(result).__name__) as caught:
        judge(result)
    assert "secret-token" not in str(caught.value)


def test_allow_any_uid_accepts_and_is_marked() -> None:
    assert judge(allow_any_uid(login(""))) == Identity()
    assert allow_any_uid.blocking is False
    assert allow_any_uid.development_only is True
    assert repr(allow_any_uid) == "allow_any_uid"


# --- tokens that are good


def test_a_good_token_gives_the_identity_with_its_end() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    assert authenticator(login(signed(claims_of()))) == Identity(NOW + HOUR)
    assert authenticator.blocking is False


def test_a_renewal_is_judged_like_a_login() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    token = signed(claims_of())
    renewal = RenewalRequested(transport_id=1, number=2, uid="alice", token=token, wall_clock=NOW)
    assert authenticator(renewal) == Identity(NOW + HOUR)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_each_hmac_algorithm(algorithm: str) -> None:
    authenticator = JwtAuthenticator(KEY.encode(), algorithms=[algorithm])
    token = issue_token(KEY, "alice", algorithm=algorithm, lifetime_seconds=60, wall_clock=NOW)
    assert authenticator(login(token)).expires_at == math.ceil(NOW + 60)


def test_a_token_may_be_signed_with_any_of_the_algorithms() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=("HS256", "HS512"))
    for algorithm in ("HS256", "HS512"):
        assert authenticator(login(signed(claims_of(), algorithm=algorithm)))


@pytest.mark.parametrize("algorithm", ["RS256", "PS384"])
def test_rsa_with_the_public_or_the_private_key(algorithm: str, rsa_key: rsa.RSAPrivateKey) -> None:
    token = issue_token(private_pem(rsa_key), "alice", algorithm=algorithm, lifetime_seconds=60, wall_clock=NOW)
    for key in (public_pem(rsa_key), rsa_key.public_key(), rsa_key, private_pem(rsa_key)):
        assert JwtAuthenticator(key, algorithms=[algorithm])(login(token))


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("ES384", ec.generate_private_key(ec.SECP384R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["ES256", "ES384", "EdDSA"],
)
def test_elliptic_curves(algorithm: str, key: Any) -> None:
    token = issue_token(private_pem(key), "alice", algorithm=algorithm, lifetime_seconds=60, wall_clock=NOW)
    # Algorithms that do not fit the key are left out for it.
    authenticator = JwtAuthenticator(public_pem(key), algorithms=["ES256", "ES384", "EdDSA"])
    assert authenticator(login(token))


def test_another_claim_can_hold_the_uid() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"], uid_claim="user")
    token = issue_token(KEY, "alice", lifetime_seconds=60, wall_clock=NOW, uid_claim="user")
    assert authenticator(login(token))
    assert refusal_of(signed(claims_of()), authenticator=authenticator).code == "bad_token"


def test_claims_and_header_fields_that_mean_nothing_here_are_passed_over() -> None:
    token = signed(claims_of(aud="elsewhere", iss=7, jti=None), jwk={"kty": "oct", "k": "AAAA"}, kid="any")
    assert JwtAuthenticator(KEY, algorithms=["HS256"])(login(token))


# --- times


def test_an_expired_token_has_its_own_code_F51() -> None:
    """F-51, S27: the client must be able to tell that a new token is all that it needs."""
    assert refusal_of(signed(claims_of(exp=NOW))).refusal_code == Code.TOKEN_EXPIRED
    assert refusal_of(signed(claims_of(exp=-5))).code == "token_expired"


@pytest.mark.parametrize("attempt", range(3))
def test_the_same_expired_token_gets_the_same_answer_each_time_F52(attempt: int) -> None:
    """F-52."""
    assert refusal_of(signed(claims_of(exp=NOW - 1))).code == "token_expired"


def test_a_newer_token_is_judged_on_its_own_F53() -> None:
    """F-53: nothing of an older refusal is kept."""
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    refusal_of(signed(claims_of(exp=NOW - 1)), authenticator=authenticator)
    assert authenticator(login(signed(claims_of())))


def test_an_empty_token_is_a_bad_token_F54() -> None:
    """F-54."""
    assert refusal_of("").code == "bad_token"


def test_only_the_clock_of_the_hub_counts_F55(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-55: whatever the clock of this machine or of the client shows."""
    monkeypatch.setattr(time, "time", lambda: NOW + 1_000 * HOUR)
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    token = signed(claims_of(iat=NOW, nbf=NOW))
    assert authenticator(login(token))
    assert refusal_of(token, wall_clock=NOW + HOUR).code == "token_expired"
    assert refusal_of(token, wall_clock=NOW - HOUR).code == "bad_token"


@pytest.mark.parametrize("wall_clock", [None, math.nan, math.inf])
def test_without_a_wall_clock_nothing_is_accepted_and_the_failure_is_loud(wall_clock: float | None) -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    with pytest.raises(InvalidState, match="set_wall_clock"):
        authenticator(login(signed(claims_of()), wall_clock=wall_clock))


def test_leeway_counts_for_the_token() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"], leeway_seconds=10)
    token = signed(claims_of(exp=NOW - 9, nbf=NOW + 9, iat=NOW + 9))
    # The end that the server then holds to is the one that it applied.
    assert authenticator(login(token)) == Identity(NOW + 1)
    assert refusal_of(signed(claims_of(exp=NOW - 10)), authenticator=authenticator).code == "token_expired"
    assert refusal_of(signed(claims_of(nbf=NOW + 11)), authenticator=authenticator).code == "bad_token"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_bad(claim: str) -> None:
    denied = refusal_of(signed(claims_of(**{claim: NOW + 1})))
    assert denied.code == "bad_token"
    assert "not valid yet" in str(denied)
    assert JwtAuthenticator(KEY, algorithms=["HS256"])(login(signed(claims_of(**{claim: NOW}))))


def test_a_token_without_end_is_refused() -> None:
    assert refusal_of(signed({"sub": "alice"})).code == "bad_token"


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "true", '"1700003600"', "null", "[1]", "9" * 500]
)
def test_times_that_are_no_finite_numbers_are_refused(claim: str, value: str) -> None:
    others = {"sub": "alice", "exp": NOW + HOUR}
    others.pop(claim, None)
    payload = json.dumps(others)[:-1] + f', "{claim}": {value}}}'
    assert refusal_of(signed(payload.encode())).code == "bad_token"


# --- the uid


@pytest.mark.parametrize("uid", ["bob", "Alice", "alice ", "", None, 7, ["alice"], {"alice": 1}, True])
def test_the_claim_must_equal_the_uid_of_the_login(uid: Any) -> None:
    denied = refusal_of(signed(claims_of(sub=uid)))
    assert denied.code == "bad_token"
    assert str(denied) == str(refusal_of(signed({"exp": NOW + HOUR}), uid="mallory")), "the text is constant"


def test_an_expired_token_of_somebody_else_is_bad_rather_than_expired() -> None:
    assert refusal_of(signed(claims_of(sub="bob", exp=NOW - 1))).code == "bad_token"


# --- hostile tokens


def test_another_key_is_refused() -> None:
    assert refusal_of(signed(claims_of(), key=OTHER_KEY)).code == "bad_token"


GOOD = signed(claims_of())
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


def with_header(**fields: Any) -> str:
    return f"{segment(json.dumps(fields).encode())}.{PAYLOAD}.{SIGNATURE}"


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        ".",
        "..",
        "...",
        "a.b.c",
        GOOD[:-2],
        GOOD + ".",
        GOOD + "\x00",
        GOOD + " ",
        GOOD.replace(".", ""),
        f"{HEADER}.{PAYLOAD}.",
        f"{HEADER}.{PAYLOAD}",
        f".{PAYLOAD}.{SIGNATURE}",
        f"{segment(b'not json')}.{PAYLOAD}.{SIGNATURE}",
        f"{segment(b'[]')}.{PAYLOAD}.{SIGNATURE}",
        f"{segment(b'{}')}.{PAYLOAD}.{SIGNATURE}",
        with_header(alg=[]),
        with_header(alg={"a": 1}),
        with_header(alg=None),
        with_header(alg="HS256", b64=False, crit=["b64"]),
        with_header(alg="HS256", b64=False, crit=["b64"]).replace(PAYLOAD, ""),
        f"{segment(b'[' * 9000)}.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}.{segment(b'{' * 9000)}.{SIGNATURE}",
        "\ud800.\ud800.\ud800",
        "ключ.ключ.ключ",
        "🔑" * 100,
    ],
)
def test_malformed_tokens_are_refused(token: str) -> None:
    assert refusal_of(token).code == "bad_token"


@pytest.mark.parametrize("token", [None, 7, GOOD.encode(), [GOOD]])
def test_what_is_no_text_is_refused(token: Any) -> None:
    assert refusal_of(token).code == "bad_token"


def test_a_huge_token_is_refused_before_it_is_looked_at() -> None:
    token = signed(claims_of(padding="x" * auth.MAX_TOKEN_LENGTH))
    assert refusal_of(token).code == "bad_token"
    started = time.perf_counter()
    refusal_of("a" * 50_000_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"7", b"null", b'"alice"', b"\xff\xfe", b"[" * 5000, b'{"sub": "alice"', b"{1: 2}"],
)
def test_signed_claims_that_are_no_json_object_are_refused(payload: bytes) -> None:
    assert refusal_of(signed(payload)).code == "bad_token"


def test_the_algorithm_of_the_header_is_never_followed(rsa_key: rsa.RSAPrivateKey) -> None:
    body = segment(json.dumps(claims_of()).encode())
    for name in ("none", "None", "NONE", "nOnE", ""):
        header = segment(json.dumps({"alg": name, "typ": "JWT"}).encode())
        assert refusal_of(f"{header}.{body}.").code == "bad_token"
    assert refusal_of(signed(claims_of(), algorithm="HS512")).code == "bad_token"
    assert refusal_of(signed(claims_of(), key=private_pem(rsa_key), algorithm="RS256")).code == "bad_token"


def test_a_public_key_never_passes_as_a_secret(rsa_key: rsa.RSAPrivateKey) -> None:
    authenticator = JwtAuthenticator(public_pem(rsa_key), algorithms=["RS256"])
    header = segment(b'{"alg":"HS256","typ":"JWT"}')
    signing_input = f"{header}.{segment(json.dumps(claims_of()).encode())}"
    forged = hmac.new(public_pem(rsa_key), signing_input.encode(), hashlib.sha256).digest()
    assert refusal_of(f"{signing_input}.{segment(forged)}", authenticator=authenticator).code == "bad_token"


def test_an_extension_that_must_be_understood_is_refused() -> None:
    cases: tuple[dict[str, Any], ...] = ({"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": True}, {"crit": []})
    for fields in cases:
        signing_input = f"{segment(json.dumps({'alg': 'HS256', **fields}).encode())}.{PAYLOAD}"
        signature = hmac.new(KEY.encode(), signing_input.encode(), hashlib.sha256).digest()
        assert refusal_of(f"{signing_input}.{segment(signature)}").code == "bad_token"


@pytest.mark.parametrize("kid", ["../../etc/passwd", "/dev/null", "' OR 1=1 --", "", "old\x00", "x" * 5000])
def test_a_key_id_only_ever_chooses_among_the_keys_given(kid: str) -> None:
    """F-56."""
    authenticator = JwtAuthenticator({"old": KEY, "new": OTHER_KEY}, algorithms=["HS256"])
    assert refusal_of(signed(claims_of(), kid=kid), authenticator=authenticator).code == "bad_token"
    assert refusal_of(signed(claims_of(), key=b"\0" * 32, kid=kid), authenticator=authenticator)


@pytest.mark.parametrize("kid", [7, None, ["old"], {"old": 1}, True])
def test_a_key_id_that_is_no_text_is_refused(kid: Any) -> None:
    authenticator = JwtAuthenticator({"old": KEY}, algorithms=["HS256"])
    assert refusal_of(with_header(alg="HS256", kid=kid), authenticator=authenticator).code == "bad_token"


def test_a_rotated_key_is_accepted_until_its_end_F56() -> None:
    """F-56."""
    old = issue_token(KEY, "alice", lifetime_seconds=60, wall_clock=NOW, key_id="old")
    new = issue_token(OTHER_KEY, "alice", lifetime_seconds=60, wall_clock=NOW, key_id="new")
    authenticator = JwtAuthenticator({"old": KEY, "new": OTHER_KEY}, algorithms=["HS256"])
    assert authenticator(login(old))
    assert authenticator(login(new))
    assert refusal_of(signed(claims_of()), authenticator=authenticator), "no key id, no key"
    assert refusal_of(signed(claims_of(), kid="new"), authenticator=authenticator), "the key of another id"
    authenticator.replace_key({"new": OTHER_KEY})
    assert authenticator(login(new))
    assert refusal_of(old, authenticator=authenticator).code == "bad_token"


def test_a_key_that_cannot_replace_changes_nothing() -> None:
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    with pytest.raises(ConfigError):
        authenticator.replace_key({"good": OTHER_KEY, "bad": "short"})
    assert authenticator(login(GOOD))


# --- settings that would protect nothing


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_short_secrets_are_refused(algorithm: str, least: int) -> None:
    assert JwtAuthenticator("x" * least, algorithms=[algorithm])
    secret = "y" * (least - 1)
    with pytest.raises(ConfigError, match=f"at least {least}") as caught:
        JwtAuthenticator(secret, algorithms=[algorithm])
    assert secret not in str(caught.value)
    with pytest.raises(ConfigError, match="at least"):
        issue_token(secret, "alice", algorithm=algorithm, lifetime_seconds=1, wall_clock=NOW)


def test_each_of_several_algorithms_must_have_a_secret_long_enough() -> None:
    with pytest.raises(ConfigError, match="HS512"):
        JwtAuthenticator("x" * 32, algorithms=["HS256", "HS512"])


def test_short_rsa_keys_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(ConfigError, match="1024 bits"):
        JwtAuthenticator(public_pem(weak), algorithms=["RS256"])
    with pytest.raises(ConfigError, match="1024 bits"):
        issue_token(private_pem(weak), "alice", algorithm="PS256", lifetime_seconds=1, wall_clock=NOW)


@pytest.mark.parametrize(
    ("algorithms", "text"),
    [
        ([], "empty"),
        ("HS256", "not one str"),
        (["none"], "anybody can write"),
        (["HS256", "None"], "anybody can write"),
        (["HS256", "RS256"], "mixes"),
        (["EdDSA", "HS512"], "mixes"),
        (["HS1"], "not known"),
        ([7], "not known"),
    ],
)
def test_impossible_algorithms_are_refused(algorithms: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        JwtAuthenticator(KEY, algorithms=algorithms)


@pytest.mark.parametrize(
    "key",
    [
        "",
        b"",
        None,
        7,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        '{"kty":"oct","k":"AAAA"}',
    ],
)
def test_what_is_no_secret_is_refused_for_hmac(key: Any) -> None:
    with pytest.raises(ConfigError, match="secret") as caught:
        JwtAuthenticator(key, algorithms=["HS256"])
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", ["", KEY, None, 7, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_what_is_no_public_key_is_refused_for_the_others(key: Any) -> None:
    with pytest.raises(ConfigError, match="RS256 or ES256") as caught:
        JwtAuthenticator(key, algorithms=["RS256", "ES256"])
    assert caught.value.__context__ is None
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("keys", [{}, {"": KEY}, {7: KEY}])
def test_a_mapping_of_keys_needs_ids(keys: Any) -> None:
    with pytest.raises(ConfigError, match="kid"):
        JwtAuthenticator(keys, algorithms=["HS256"])


@pytest.mark.parametrize("claim", ["", None, 7])
def test_the_uid_claim_needs_a_name(claim: Any) -> None:
    with pytest.raises(ConfigError, match="uid_claim"):
        JwtAuthenticator(KEY, algorithms=["HS256"], uid_claim=claim)


@pytest.mark.parametrize("leeway", [-1, math.inf, math.nan, True, "1"])
def test_an_impossible_leeway_is_refused(leeway: Any) -> None:
    with pytest.raises(ConfigError, match="leeway"):
        JwtAuthenticator(KEY, algorithms=["HS256"], leeway_seconds=leeway)


def test_without_pyjwt_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError, match=r"pip install 'rtm-sansio\[server\]'"):
        JwtAuthenticator(KEY, algorithms=["HS256"])


def test_without_cryptography_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(self: object, name: str) -> object:
        raise NotImplementedError(name)

    monkeypatch.setattr(jwt.PyJWS, "get_algorithm_by_name", not_found)
    with pytest.raises(ConfigError, match=r"RS256 needs .*pip install 'rtm-sansio\[server\]'") as caught:
        JwtAuthenticator("any", algorithms=["RS256"])
    assert caught.value.__context__ is None


# --- issuing


def test_an_issued_token_is_valid_at_once_and_does_not_end_early() -> None:
    token = issue_token(KEY, "alice", lifetime_seconds=0.25, wall_clock=NOW)
    authenticator = JwtAuthenticator(KEY, algorithms=["HS256"])
    assert authenticator(login(token))
    assert authenticator(login(token, wall_clock=NOW + 0.2))
    assert refusal_of(token, authenticator=authenticator, wall_clock=NOW + 2).code == "token_expired"


def test_an_issued_token_is_an_ordinary_one_for_others() -> None:
    token = issue_token(KEY, "alice", lifetime_seconds=60, wall_clock=time.time())
    assert jwt.decode(token, KEY, algorithms=["HS256"])["sub"] == "alice"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"uid": ""}, "uid"),
        ({"uid": 7}, "uid"),
        ({"lifetime_seconds": 0}, "lifetime"),
        ({"lifetime_seconds": math.inf}, "lifetime"),
        ({"lifetime_seconds": "60"}, "lifetime"),
        ({"wall_clock": math.nan}, "wall_clock"),
    ],
)
def test_issuing_refuses_what_cannot_be(changes: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"uid": "alice", "lifetime_seconds": 60, "wall_clock": NOW, **changes}
    with pytest.raises(InvalidArgument, match=text):
        issue_token(KEY, arguments.pop("uid"), **arguments)


def test_issuing_needs_the_private_key(rsa_key: rsa.RSAPrivateKey) -> None:
    for key in (public_pem(rsa_key), "nonsense"):
        with pytest.raises(ConfigError, match="private key"):
            issue_token(key, "alice", algorithm="RS256", lifetime_seconds=60, wall_clock=NOW)


# --- what frontends ask of authenticators and token providers


def test_an_authenticator_can_be_called() -> None:
    check_authenticator(allow_any_uid)
    for given, name in ((None, "None"), ("secret", "str")):
        with pytest.raises(ConfigError, match=f"not {name}"):
            check_authenticator(given)


async def a_coroutine() -> str:
    return "token"


class CoroutineProvider:
    async def __call__(self) -> str:
        return "token"


def test_what_a_token_may_come_from() -> None:
    """F-54."""
    for source in (None, "", "token", lambda: "token", CoroutineProvider):
        check_token_source(source)
    for source in (a_coroutine, CoroutineProvider()):
        with pytest.raises(InvalidArgument, match="plain function"):
            check_token_source(source)
    with pytest.raises(InvalidArgument, match="not bytes") as caught:
        check_token_source(b"secret")
    assert caught.value.code == "invalid_token"
    assert "secret" not in str(caught.value)


def test_a_provider_is_asked() -> None:
    """F-54: what is no text is not shown, and a coroutine is closed."""
    assert ask_provider(lambda: "token") == "token"
    for provider in (lambda: b"secret", lambda: None, lambda: a_coroutine()):
        with pytest.raises(TypeError, match="must return a str") as caught:
            ask_provider(provider)
        assert "secret" not in str(caught.value)


def test_what_is_told_of_a_provider_that_raised() -> None:
    """F-54: its kind; the text might hold a token."""
    fault = ValueError("cannot parse secret")
    error = provider_failure(fault)
    assert (error.code, error.__cause__) == ("token_provider_failed", fault)
    assert "ValueError" in str(error)
    assert "secret" not in str(error)


def fail(kind: type[Exception], *, elsewhere: bool) -> None:
    if elsewhere:
        raise kind("text")
    raise kind("text")


def raised(kind: type[Exception], *, elsewhere: bool = False) -> Exception:
    try:
        fail(kind, elsewhere=elsewhere)
    except kind as error:
        return error
    raise AssertionError


def test_failures_are_noted_once_in_a_while() -> None:
    """The first of each kind is worth a traceback, later ones are counted; kinds differ by class and line."""
    notes = FailureNotes(interval_seconds=60.0, max_kinds=3)
    assert notes.take(raised(KeyError), 0.0) == 0
    assert notes.take(raised(KeyError), 1.0) is None
    assert notes.take(raised(KeyError), 59.9) is None
    assert notes.take(raised(KeyError, elsewhere=True), 2.0) == 0
    assert notes.take(KeyError("never raised"), 2.0) == 0
    assert notes.take(raised(KeyError), 60.0) == 2
    assert notes.take(raised(KeyError), 61.0) is None
    assert notes.take(raised(ValueError), 62.0) == 0, (
        "a fourth kind: the one that was not seen for longest is forgotten"
    )
    assert notes.take(raised(KeyError), 63.0) is None
    assert notes.take(raised(KeyError, elsewhere=True), 3.0) == 0
    once = FailureNotes(interval_seconds=math.inf)
    assert once.take(raised(KeyError), 0.0) == 0
    assert once.take(raised(KeyError), 1e9) is None


def test_a_text_without_the_token() -> None:
    """S19: what an exception quotes, as it is or in a repr; a login without a token has none to hide."""
    token = "a\\b'c\"d"
    assert without_token(f"no {token}, no {token!r}", token) == "no <token>, no '<token>'"
    assert without_token("nothing", "") == "nothing"
