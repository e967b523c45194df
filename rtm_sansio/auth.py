"""Who may log in: what an authenticator answers with, the one for JSON Web Tokens, and the one that asks
nothing.

An authenticator is any callable that takes a ``LoginRequested`` or a ``RenewalRequested`` and returns an
``Identity`` or a bool, or raises ``LoginDenied``. Nothing here reads a clock or does I/O: the times of a
token are judged by the hub's wall clock, which the request carries. No error text contains a token or a key,
and none is chained to an exception that does.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeGuard, cast

import msgspec

from .codes import Code, CodeKind, code_kind, code_name
from .errors import ConfigError, InvalidArgument, InvalidState, RtmError
from .events import LoginRequested, RenewalRequested

MAX_TOKEN_LENGTH: Final = 16 * 1024
"""Characters of a token that are looked at; nothing longer fits into a login (S45)."""

SigningKey: TypeAlias = Any
"""A secret (str or bytes) for HMAC, or a PEM text or a key object of ``cryptography`` for the other
algorithms.
"""

_MIN_HMAC_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""A secret shorter than the hash weakens it (RFC 7518, section 3.2)."""
_MIN_RSA_BITS: Final = 2048
_ASYMMETRIC: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
_MAX_UNIX_SECONDS: Final = 2.0**53
"""Above it a float no longer counts whole seconds; the comparison also keeps infinities and NaN out."""
_INSTALL: Final = "run: pip install 'rtm-sansio[server]'"

_NO_TOKEN: Final = "no token was given; this server wants one with each login"
_BAD_TOKEN: Final = "the token is malformed, or was not signed with a key and an algorithm that this server accepts"
_OTHER_UID: Final = "the token was not issued for this uid; log in with the uid that it names, or ask for another token"
_TIMELESS: Final = "the token must state its end as a number of seconds in the claim 'exp'"
_BAD_TIMES: Final = "the times in the token ('nbf', 'iat') must be numbers of seconds"
_EXPIRED: Final = "the token has expired; log in with a new one"
_TOO_EARLY: Final = "the token is not valid yet; check the clock of the system that issued it"


class Identity(msgspec.Struct, frozen=True):
    """A login was accepted. ``expires_at`` is when its token ends, in Unix seconds; None if it does not."""

    expires_at: float | None = None

    def __post_init__(self) -> None:
        if self.expires_at is not None and not _is_time(self.expires_at):
            raise InvalidArgument("expires_at must be a finite number of Unix seconds, or None")


class LoginDenied(RtmError):
    """Raised by an authenticator to refuse a login; ``message`` and the code are what the client is told.

    ``refusal_code`` is the number that goes over the wire, ``code`` its name as everywhere. The range of the
    number decides what the client does with it (S41): end the login, stop for good, or try again, after
    ``retry_after_seconds`` if that is given.
    """

    default_code = "bad_token"

    def __init__(self, message: str, code: int = Code.BAD_TOKEN, retry_after_seconds: float | None = None) -> None:
        if code_kind(code) not in (CodeKind.TERMINAL, CodeKind.VERDICT, CodeKind.RETRY):
            raise InvalidArgument(f"code {code} cannot refuse a login; take one of 4000 to 4299, as Code.BAD_TOKEN")
        if retry_after_seconds is not None and not (_is_time(retry_after_seconds) and retry_after_seconds >= 0):
            raise InvalidArgument("retry_after_seconds must be a finite number of at least 0, or None")
        super().__init__(message, code=code_name(code))
        self.refusal_code = int(code)
        self.retry_after_seconds = retry_after_seconds


def judge(result: object) -> Identity:
    """What an authenticator's answer means: True and an ``Identity`` accept, False and None raise
    ``LoginDenied``.

    Raises ``TypeError`` for anything else, which a server treats as a failure of the authenticator: a login
    that was merely not understood is never accepted.
    """
    if result is True:
        return Identity()
    if isinstance(result, Identity):
        return result
    if result is False or result is None:
        raise LoginDenied("the server refuses this uid or token")
    # The type alone: the value may be or hold the token.
    raise TypeError(
        f"an authenticator must return an Identity or a bool, not {type(result).__name__}; a coroutine "
        "function works with rtm_async only"
    )


def check_authenticator(authenticate: object) -> None:
    """Raise ConfigError unless it can be called. Whether it may be a coroutine function is the frontend's matter."""
    if not callable(authenticate):
        raise ConfigError(
            "authenticate must be JwtAuthenticator(...), allow_any_uid or a callable of your own, not "
            f"{'None' if authenticate is None else type(authenticate).__name__}"
        )


def without_token(text: str, token: str) -> str:
    """What an exception of an authenticator says, for the log: it may quote the token, as it is or in a ``repr``."""
    for secret in (token, repr(token)[1:-1]):
        if secret:
            text = text.replace(secret, "<token>")
    return text


def provider_failure(fault: BaseException) -> RtmError:
    """What is told of a token provider that raised: the kind of ``fault``, which is kept as the cause. Its text is not
    shown, for it might hold a token."""
    error = RtmError(f"the token provider raised {type(fault).__name__}", code="token_provider_failed")
    error.__cause__ = fault
    return error


class FailureNotes:
    """Which failures of an authenticator or a token provider are worth a traceback in the log: each kind at once, and
    then once in ``interval_seconds``. Whoever tries again all the time must not fill a disk.

    A kind is the class of the exception and the line that raised it.
    """

    __slots__ = ("_interval", "_kinds", "_max_kinds")

    def __init__(self, *, interval_seconds: float = 60.0, max_kinds: int = 64) -> None:
        self._interval = interval_seconds
        self._max_kinds = max_kinds
        self._kinds: dict[Any, tuple[float, int]] = {}  # when it was told last, and how many came since

    def take(self, error: BaseException, now: float) -> int | None:
        """A failure: None if it is to be passed over, else how many of its kind were, since the last one that was
        told."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        kind = (type(error), place)
        told_at, passed_over = self._kinds.pop(kind, (None, 0))
        if told_at is not None and now < told_at + self._interval:
            self._kinds[kind] = (told_at, passed_over + 1)
            return None
        self._kinds[kind] = (now, 0)
        if len(self._kinds) > self._max_kinds:
            del self._kinds[next(iter(self._kinds))]
        return passed_over


def check_token_source(token: object) -> None:
    """Raise InvalidArgument unless ``login`` can be given this: None, a text, or a plain function that returns one."""
    if token is None or isinstance(token, str):
        return
    if not callable(token):
        raise InvalidArgument(
            f"a token must be a str, a function that returns one, or None, not {type(token).__name__}",
            code="invalid_token",
        )
    if inspect.iscoroutinefunction(token) or inspect.iscoroutinefunction(type(token).__call__):
        raise InvalidArgument(
            "the token provider is a coroutine function; it must be a plain function, which is called in a thread of "
            "its own and may block",
            code="invalid_token",
        )


def ask_provider(provider: Callable[[], object]) -> str:
    """What a token provider returns. Raises TypeError if that is no text, and whatever the provider raises."""
    token = provider()
    if inspect.iscoroutine(token):
        token.close()  # or Python would warn that nobody awaited it
    if not isinstance(token, str):
        # The type alone: the value may hold the token.
        raise TypeError(f"a token provider must return a str, not {type(token).__name__}")
    return token


class _AllowAnyUid:
    """Accepts every uid with any token or none. For development: a server with it refuses to listen beyond
    loopback.
    """

    blocking: ClassVar[bool] = False
    """It may be called where nothing must block."""
    development_only: ClassVar[bool] = True
    """What a server looks for before it listens."""

    def __call__(self, login: LoginRequested | RenewalRequested) -> Identity:
        return Identity()

    def __repr__(self) -> str:
        return "allow_any_uid"


allow_any_uid: Final = _AllowAnyUid()
"""The authenticator for development: accepts every uid. A server with it refuses to listen beyond
loopback.
"""


class JwtAuthenticator:
    """Accepts a login whose token is a JSON Web Token, signed with ``key``, whose ``uid_claim`` equals the
    uid of the login.

    ``key`` is a secret for HS256, HS384 and HS512, and a public key (PEM, or an object of ``cryptography``)
    for the others. A mapping from key ids to keys serves the rotation of keys: the token's ``kid`` then
    chooses, and both the old and the new key are accepted until ``replace_key`` is called without the old one
    (F-56). ``algorithms`` are the only ones accepted: what the token's own header says is compared with them,
    never followed.

    The token must state ``exp``; it and ``nbf`` and ``iat`` are compared with the wall clock of the hub, with
    ``leeway_seconds`` in the token's favour. Other claims (``aud``, ``iss``) are not looked at: use a key of
    its own for this service.

    Raises ConfigError for a key or algorithm that would not protect anything, and if PyJWT is not installed.
    """

    blocking: ClassVar[bool] = False
    """A signature takes microseconds: it may be checked where nothing must block."""

    def __init__(
        self,
        key: SigningKey | Mapping[str, SigningKey],
        *,
        algorithms: Collection[str],
        uid_claim: str = "sub",
        leeway_seconds: float = 0,
    ) -> None:
        self._algorithms = _check_algorithms(algorithms)
        self._signatures: Any = _load_pyjwt().PyJWS(algorithms=list(self._algorithms))
        if not isinstance(uid_claim, str) or not uid_claim:
            raise ConfigError("uid_claim must be the name of the claim that holds the uid, as 'sub'")
        if not _is_time(leeway_seconds) or leeway_seconds < 0:
            raise ConfigError("leeway_seconds must be a finite number of at least 0")
        self._uid_claim = uid_claim
        self._leeway = leeway_seconds
        self._keys: dict[str | None, tuple[Any, list[str]]] = {}
        self.replace_key(key)

    def replace_key(self, key: SigningKey | Mapping[str, SigningKey]) -> None:
        """Accept from now on what is signed with ``key`` and nothing else. Raises ConfigError, and then
        nothing changes.

        Sessions that are up are not touched: their tokens are judged again when they come back.
        """
        if not isinstance(key, Mapping):
            self._keys = {None: self._prepare(key)}
            return
        keys = cast("Mapping[object, SigningKey]", key)
        names = [key_id for key_id in keys if isinstance(key_id, str) and key_id]
        if not names or len(names) < len(keys):
            raise ConfigError("a mapping of keys must have at least one, by the ids that stand in the tokens' 'kid'")
        self._keys = {key_id: self._prepare(keys[key_id]) for key_id in names}

    def __call__(self, login: LoginRequested | RenewalRequested) -> Identity:
        """The identity that the token proves. Raises ``LoginDenied``, or ``InvalidState`` if the hub has no
        wall clock.
        """
        wall_clock = login.wall_clock
        if wall_clock is None or not _is_time(wall_clock):
            raise InvalidState(
                "the hub has no wall clock to judge tokens by; its driver must call set_wall_clock first"
            )
        if not login.token:
            raise LoginDenied(_NO_TOKEN)
        claims = self._verified_claims(login.token)
        if claims is None:
            raise LoginDenied(_BAD_TOKEN)
        expires_at = claims.get("exp")
        if not _is_time(expires_at):
            raise LoginDenied(_TIMELESS)
        not_before, issued_at = claims.get("nbf", wall_clock), claims.get("iat", wall_clock)
        if not (_is_time(not_before) and _is_time(issued_at)):
            raise LoginDenied(_BAD_TIMES)
        uid = claims.get(self._uid_claim)
        if not isinstance(uid, str) or uid != login.uid:
            raise LoginDenied(_OTHER_UID)
        # Last of all: an expired token that is wrong in another way as well must not make a client ask for
        # the same again.
        ends_at = expires_at + self._leeway
        if wall_clock >= ends_at:
            raise LoginDenied(_EXPIRED, Code.TOKEN_EXPIRED)
        if max(not_before, issued_at) > wall_clock + self._leeway:
            raise LoginDenied(_TOO_EARLY)
        return Identity(expires_at=ends_at)

    def _prepare(self, key: SigningKey) -> tuple[Any, list[str]]:
        """The key as PyJWT verifies with it, and those of the algorithms that it fits: at least one."""
        prepared: Any = None
        fitting: list[str] = []
        for algorithm in self._algorithms:
            candidate = _prepare_key(self._signatures, algorithm, key)
            if candidate is not None:
                # The public half is all that is needed to verify.
                prepared = candidate.public_key() if hasattr(candidate, "public_key") else candidate
                fitting.append(algorithm)
        if not fitting:
            raise ConfigError(f"the key does not fit {_either(self._algorithms)}: {_expected_key(self._algorithms)}")
        return prepared, fitting

    def _verified_claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token whose signature is good; None for anything else.

        None and not an exception: one raised from here would carry PyJWT's as its context, which may quote
        the token.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            key_id = None
            if None not in self._keys:
                key_id = self._signatures.get_unverified_header(token)["kid"]
            key, algorithms = self._keys[key_id]
            verified = self._signatures.decode_complete(token, key, algorithms=algorithms)
            if "crit" in verified["header"]:
                # An extension that must be understood, and none is (RFC 7515, section 4.1.11).
                return None
            return msgspec.json.decode(verified["payload"], type=dict[str, Any])
        except Exception:
            # The token is a stranger's: beside its documented errors PyJWT lets through whatever the JSON,
            # base64 and key code below it raises (ValueError, TypeError, KeyError, RecursionError,
            # UnicodeError). All of it means one thing.
            return None


def issue_token(
    key: SigningKey,
    uid: str,
    *,
    algorithm: str = "HS256",
    lifetime_seconds: float,
    wall_clock: float,
    uid_claim: str = "sub",
    key_id: str | None = None,
) -> str:
    """A token for ``uid`` that ``JwtAuthenticator`` accepts from ``wall_clock`` (Unix seconds) on for
    ``lifetime_seconds``.

    ``key`` is the secret, or the private key. ``key_id`` goes into the header as ``kid``, for a server with
    several keys. Raises ConfigError for a key or algorithm that ``JwtAuthenticator`` would refuse,
    InvalidArgument for the rest.
    """
    algorithms = _check_algorithms([algorithm])
    if not isinstance(uid, str) or not uid:
        raise InvalidArgument("uid must be a str that is not empty")
    if not _is_time(lifetime_seconds) or lifetime_seconds <= 0:
        raise InvalidArgument("lifetime_seconds must be a finite number above 0")
    if not _is_time(wall_clock):
        raise InvalidArgument("wall_clock must be the present time in Unix seconds")
    signatures: Any = _load_pyjwt().PyJWS(algorithms=algorithms)
    prepared = _prepare_key(signatures, algorithm, key)
    if prepared is None or hasattr(prepared, "public_bytes"):
        raise ConfigError(f"the key cannot sign with {algorithm}: {_expected_key(algorithms, private=True)}")
    # Rounded so that the token is valid at once and never ends early, also for readers that know whole
    # seconds only.
    claims = {
        uid_claim: uid,
        "iat": math.floor(wall_clock),
        "exp": math.ceil(wall_clock + lifetime_seconds),
    }
    headers = {} if key_id is None else {"kid": key_id}
    token: str = signatures.encode(msgspec.json.encode(claims), prepared, algorithm=algorithm, headers=headers)
    return token


def _is_time(value: object) -> TypeGuard[float]:
    """Whether a value is a number that can be calculated with as seconds: no bool, no text, neither infinite
    nor NaN.
    """
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -_MAX_UNIX_SECONDS <= value <= _MAX_UNIX_SECONDS
    )


def _check_algorithms(algorithms: Collection[str]) -> list[str]:
    if isinstance(algorithms, str):
        raise ConfigError(f"algorithms must be a list of names, as [{algorithms!r}], not one str")
    names = list(algorithms)
    if not names:
        raise ConfigError("algorithms is empty: name those that the tokens are signed with, as ['HS256']")
    for name in names:
        if isinstance(name, str) and name.lower() == "none":
            raise ConfigError(
                "the algorithm 'none' accepts tokens that anybody can write; use allow_any_uid for development"
            )
        if name not in _MIN_HMAC_BYTES and name not in _ASYMMETRIC:
            raise ConfigError(
                f"the algorithm {name!r} is not known; known are {', '.join((*_MIN_HMAC_BYTES, *_ASYMMETRIC))}"
            )
    if len({name in _MIN_HMAC_BYTES for name in names}) > 1:
        raise ConfigError(
            f"algorithms mixes HMAC with others ({', '.join(names)}): a public key, which everybody may "
            "have, would then pass as a secret"
        )
    return names


def _load_pyjwt() -> Any:
    # Imported here, so that a plain install, which comes without it, has all the rest.
    try:
        import jwt
    except ImportError:
        raise ConfigError(f"tokens need PyJWT, which is not installed; {_INSTALL}") from None
    return jwt


def _prepare_key(signatures: Any, algorithm: str, key: SigningKey) -> Any:
    """The key as PyJWT uses it with this algorithm, or None if it does not fit. Raises ConfigError for one
    that is too weak.
    """
    try:
        method = signatures.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        method = None
    if method is None:
        raise ConfigError(f"{algorithm} needs the package cryptography, which is not installed; {_INSTALL}")
    try:
        prepared = method.prepare_key(key)
    except Exception:
        # Whatever PyJWT and cryptography find wrong with a key, and their texts may quote it.
        return None
    if algorithm in _MIN_HMAC_BYTES:
        if len(prepared) < _MIN_HMAC_BYTES[algorithm]:
            raise ConfigError(
                f"the key has {len(prepared)} bytes; {algorithm} needs at least "
                f"{_MIN_HMAC_BYTES[algorithm]}: {_MAKE_A_SECRET}"
            )
    elif algorithm[:2] in ("RS", "PS") and prepared.key_size < _MIN_RSA_BITS:
        raise ConfigError(f"the RSA key has {prepared.key_size} bits; at least {_MIN_RSA_BITS} are needed")
    return prepared


_MAKE_A_SECRET: Final = "make one with: python -c 'import secrets; print(secrets.token_hex(32))'"


def _expected_key(algorithms: list[str], *, private: bool = False) -> str:
    if algorithms[0] in _MIN_HMAC_BYTES:
        return f"a secret is needed (str or bytes), not a PEM text or a JWK; {_MAKE_A_SECRET}"
    kind: Literal["private", "public"] = "private" if private else "public"
    return f"the {kind} key of that algorithm is needed, as PEM text"


def _either(names: list[str]) -> str:
    return " or ".join(names)
