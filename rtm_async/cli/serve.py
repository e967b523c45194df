"""``rtm serve``: run a server; its settings come from options, the environment and a TOML file, in this
order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import errno
import os
import re
import socket
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import click

import rtm_async
from rtm_sansio.auth import JwtAuthenticator, allow_any_uid
from rtm_sansio.config import ChannelSettings, ServerConfig
from rtm_sansio.errors import ConfigError

from .keys import KEY_VARIABLE, find_key, fitting_algorithm, read_file
from .running import DEFAULT_PORT, CommandFailed, run_until_signal, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line and its environment variables said; None and () stand for nothing."""

    host: str | None = None
    port: int | None = None
    dev: bool | None = None
    key_file: Path | None = None
    algorithms: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    config_file: Path | None = None


class Authenticate(Protocol):
    """An authenticator that may be called on the loop."""

    def __call__(self, login: Any) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a server is started with."""

    host: str
    port: int
    authenticate: Authenticate
    config: ServerConfig
    tls: ssl.SSLContext | None


# Keys of the file that are no settings of ServerConfig: the type that TOML must give, and the field of
# Options.
_FILE_KEYS: Mapping[str, tuple[type, str]] = {
    "host": (str, "host"),
    "port": (int, "port"),
    "dev": (bool, "dev"),
    "jwt_key_file": (str, "key_file"),
    "jwt_algorithms": (list, "algorithms"),
    "tls_cert": (str, "tls_cert"),
    "tls_key": (str, "tls_key"),
}
_SETTINGS: Mapping[str, type] = {
    field.name: type(cast(object, field.default)) for field in dataclasses.fields(ServerConfig)
}
"""Each setting of the server and its type, which is that of its default."""
_CHANNEL_SETTINGS = [field.name for field in dataclasses.fields(ChannelSettings)]
_OTHER_VARIABLES = (
    *("RTM_HOST", "RTM_PORT", "RTM_JWT_KEY", "RTM_JWT_KEY_FILE", "RTM_JWT_ALGORITHM", "RTM_TLS_CERT", "RTM_TLS_KEY"),
    *("RTM_CONFIG", "RTM_URL", "RTM_UID", "RTM_TOKEN", "RTM_CA"),
)


def serve(options: Options, environment: Mapping[str, str] = os.environ) -> int:
    """Run a server until SIGINT or SIGTERM, which end it with status 0."""
    plan = make_plan(options, environment)
    for warning in misspelt_variables(environment):
        click.echo(f"rtm: {warning}", err=True)
    run_until_signal(_serve(plan), fast=True)
    return 0


def make_plan(options: Options, environment: Mapping[str, str]) -> Plan:
    """What the options, the environment and the file come to. Raises CommandFailed or ConfigError."""
    settings: dict[str, Any] = {}
    if options.config_file is not None:
        options, settings = _merge_file(options, options.config_file)
    return Plan(
        host=options.host or "127.0.0.1",
        port=DEFAULT_PORT if options.port is None else options.port,
        authenticate=_make_authenticator(options),
        config=_make_config(options.config_file, settings, _settings_of_environment(environment)),
        tls=_make_tls(options),
    )


async def _serve(plan: Plan) -> int:
    server = rtm_async.Server(plan.host, plan.port, authenticate=plan.authenticate, config=plan.config, ssl=plan.tls)
    try:
        await server.start()
    except OSError as fault:
        raise CommandFailed(_describe_listen_fault(plan, fault)) from fault
    try:
        who = (
            "development: everybody is let in, loopback only"
            if plan.authenticate is allow_any_uid
            else "tokens are checked"
        )
        say("serving on ", (server.url, "bold green"), f"  ({who}; Ctrl-C ends it)")
        await asyncio.Event().wait()
    finally:
        await server.close()
    return 0


def _describe_listen_fault(plan: Plan, fault: OSError) -> str:
    where = f"port {plan.port} of {plan.host}"
    if fault.errno == errno.EADDRINUSE:
        return f"{where} is in use; end what listens there, or take another with --port (0: any free one)"
    if fault.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not allowed for this user; take one above 1023 with --port"
    if isinstance(fault, socket.gaierror) or fault.errno == errno.EADDRNOTAVAIL:
        return f"{plan.host} is no address of this machine; take another with --host, as 127.0.0.1 or 0.0.0.0"
    return f"cannot listen on {where}: {fault}"


# --- the file and the environment


def _merge_file(options: Options, path: Path) -> tuple[Options, dict[str, Any]]:
    """The options with what they leave open taken from the file, and the settings of the server in it."""
    try:
        content = tomllib.loads(read_file(path, "config").decode())
    except UnicodeDecodeError as fault:
        raise CommandFailed(f"{path} is not UTF-8 text: {fault.reason}") from fault
    except tomllib.TOMLDecodeError as fault:
        raise CommandFailed(f"{path} is not TOML: {fault}") from fault
    settings: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key in _SETTINGS:
            settings[key] = _checked_setting(f"{path}: {key}", key, value)
        elif key in _FILE_KEYS:
            kind, field = _FILE_KEYS[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise CommandFailed(f"{path}: {key} is {value!r}; it must be {_KIND_NAMES[kind]}")
            option = _option_value(path, key, field, value)
            if getattr(options, field) in (None, ()):
                found[field] = option
        else:
            raise CommandFailed(f"{path}: there is no setting {key!r}{_suggest(key)}")
    return dataclasses.replace(options, **found), settings


_KIND_NAMES: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
    tuple: "a list of texts",
}


def _option_value(path: Path, key: str, field: str, value: Any) -> Any:
    if field == "port" and not 0 <= value <= 65535:
        raise CommandFailed(f"{path}: port is {value}; it must be 0 to 65535")
    if field == "algorithms":
        return _texts(f"{path}: {key}", value)
    if field in ("key_file", "tls_cert", "tls_key"):
        # Beside the file that names it, wherever the server is started from.
        return path.parent / value
    return value


def _checked_setting(where: str, name: str, value: Any) -> Any:
    """A value of the file as ServerConfig takes it: its type is checked here; the class's own checks
    come after.
    """
    kind = _SETTINGS[name]
    if name == "channel_settings":
        return _channel_settings(where, value)
    if kind is tuple and isinstance(value, list):
        return _texts(where, cast("list[object]", value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise CommandFailed(f"{where} is {value!r}; it must be {_KIND_NAMES[kind]}")
    return value


def _channel_settings(where: str, value: object) -> tuple[ChannelSettings, ...]:
    """An array of tables, one for each pattern."""
    tables = cast("list[object]", value) if isinstance(value, list) else []
    if not tables or not all(isinstance(table, dict) for table in tables):
        raise CommandFailed(f"{where} is {value!r}; it must be an array of tables, each below [[channel_settings]]")
    return tuple(
        _settings_of_channels(f"{where}, number {number}", cast("dict[str, object]", table))
        for number, table in enumerate(tables, start=1)
    )


def _settings_of_channels(where: str, table: dict[str, object]) -> ChannelSettings:
    for key in table:
        if key not in _CHANNEL_SETTINGS:
            raise CommandFailed(f"{where}: there is no setting {key!r}; there are {', '.join(_CHANNEL_SETTINGS)}")
    if "pattern" not in table:
        raise CommandFailed(f"{where} has no pattern; it says for which channels the settings are, as 'news-*'")
    try:
        return ChannelSettings(**cast("dict[str, Any]", table))
    except ConfigError as fault:
        raise CommandFailed(f"{where}: {fault}") from fault


def _texts(where: str, value: list[object]) -> tuple[str, ...]:
    texts = tuple(one for one in value if isinstance(one, str))
    if len(texts) < len(value):
        raise CommandFailed(f"{where} is {value!r}; it must be a list of texts")
    return texts


def _make_config(path: Path | None, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]) -> ServerConfig:
    """The settings together; what is wrong with one is said with where it came from."""
    try:
        return ServerConfig(**{**from_file, **from_environment})
    except ConfigError as fault:
        words = set(re.findall(r"\w+", str(fault)))
        sources = [f"RTM_{name.upper()}" for name in from_environment if name in words]
        if any(name in words and name not in from_environment for name in from_file):
            sources.append(str(path))
        raise CommandFailed(f"{', '.join(sources)}: {fault}") from fault


def misspelt_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each variable that is not known and looks much like one that is."""
    known = [*(f"RTM_{name.upper()}" for name in _SETTINGS), *_OTHER_VARIABLES]
    lines: list[str] = []
    for name in sorted(environment):
        close = [] if name in known or not name.startswith("RTM_") else difflib.get_close_matches(name, known, 1, 0.8)
        lines += [f"{name} is not known and is passed over; did you mean {one}?" for one in close]
    return lines


def _settings_of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, kind in _SETTINGS.items():
        variable = f"RTM_{name.upper()}"
        text = environment.get(variable)
        if text is not None and name == "channel_settings":
            raise CommandFailed(f"{variable}: settings by channel can only stand in a file, as [[channel_settings]]")
        if text is not None:
            settings[name] = _parse_setting(variable, kind, text)
    return settings


def _parse_setting(variable: str, kind: type, text: str) -> Any:
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        truths = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in truths:
            raise CommandFailed(f"{variable} is {text!r}; it must be true or false")
        return truths[text.lower()]
    try:
        return kind(text)
    except ValueError as fault:
        raise CommandFailed(f"{variable} is {text!r}; it must be {_KIND_NAMES[kind]}") from fault


def _suggest(key: str) -> str:
    close = difflib.get_close_matches(key, [*_SETTINGS, *_FILE_KEYS], 1)
    return f"; did you mean {close[0]!r}?" if close else ""


# --- who may log in, and TLS


def _make_authenticator(options: Options) -> Authenticate:
    key = find_key(options.key_file)
    if options.dev:
        if key is not None:
            raise CommandFailed(
                f"--dev lets everybody in, so a key makes no sense; leave out one of --dev, --jwt-key, {KEY_VARIABLE}"
            )
        return allow_any_uid
    if key is None:
        raise CommandFailed(
            f"who may log in? give --jwt-key FILE (or {KEY_VARIABLE}) to check tokens, or --dev to let "
            "everybody in, on loopback only"
        )
    algorithms = options.algorithms or (
        fitting_algorithm(key, lambda algorithm: JwtAuthenticator(key, algorithms=[algorithm])),
    )
    return JwtAuthenticator(key, algorithms=algorithms)


def _make_tls(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise CommandFailed("--tls-key without --tls-cert; give the certificate as well")
        return None
    for path in (options.tls_cert, options.tls_key):
        if path is not None:
            read_file(path, "TLS")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # The empty password: better an error than a question on the terminal.
        context.load_cert_chain(options.tls_cert, options.tls_key, password="")
    except (OSError, ValueError) as fault:
        raise CommandFailed(
            f"cannot use the certificate {options.tls_cert} with its key: {fault}; both must be PEM, belong "
            "together and have no password"
        ) from fault
    return context
