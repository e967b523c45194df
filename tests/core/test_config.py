"""Settings: refused when they are impossible, scaled in time (S15, F-04)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm_sansio.config import AppliedSettings, ChannelSettings, ClientConfig, ServerConfig
from rtm_sansio.errors import ConfigError

CONFIGS: list[type[Any]] = [ClientConfig, ServerConfig]
DURATIONS = [(cls, f.name) for cls in CONFIGS for f in dataclasses.fields(cls) if f.name.endswith("_seconds")]
COUNTS = [(cls, f.name) for cls in CONFIGS for f in dataclasses.fields(cls) if type(f.default) is int]


@pytest.mark.parametrize("cls", CONFIGS)
def test_defaults_and_immutable(cls: type[Any]):
    """S15: the defaults are those of the rules; keyword only, and frozen."""
    config = cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_message_bytes = 1
    with pytest.raises(TypeError):
        cls(1.0)


def test_the_rules_numbers():
    """S5-S7, S10-S12, S14, S18, S20-S22, S24, S27, S28, S31, S33, S35, S45-S47, S49, S51, S52, S55, S58, S59, E2: every
    number of the rules is a default."""
    kib, mib = 1024, 1024 * 1024
    client, server = ClientConfig(), ServerConfig()
    assert client.login_timeout_seconds == 6.0
    assert client.interruption_grace_seconds == 4.0
    assert client.heartbeat_answer_seconds == 2.0
    assert client.max_quiet_seconds == 3.0
    assert client.heartbeat_limit_seconds == 20.0
    assert client.request_timeout_seconds == client.restore_timeout_seconds == 10.0
    assert (client.backoff_base_seconds, client.backoff_cap_seconds) == (0.5, 5.0)
    assert client.grace_backoff_cap_seconds == 1.0
    assert client.attempt_timeout_seconds == 5.0
    assert client.stable_after_seconds == 10.0
    assert client.logout_timeout_seconds == 2.0
    assert client.progress_delay_seconds == 1.0
    assert client.token_warning_seconds == 30.0
    assert client.token_provider_timeout_seconds == 5.0
    assert client.retry_after_limit_seconds == 300.0
    assert client.max_unanswered_requests == 256
    assert (client.max_queued_events, client.max_queued_bytes) == (10_000, 8 * 1024 * 1024)
    assert client.max_uniterated_events == 1_000
    assert client.max_message_bytes >= server.max_frame_bytes
    assert server.presence_grace_seconds == 30.0
    assert server.unreachable_seconds == 6.0
    assert server.silence_timeout_seconds == server.login_deadline_seconds == 10.0
    assert server.heartbeat_interval_seconds == 2.0
    assert (server.replay_seconds, server.history_seconds, server.history_entries) == (40.0, 300.0, 1000)
    assert (server.max_message_bytes, server.max_request_bytes, server.max_frame_bytes) == (32768, 65536, 131072)
    assert (server.max_channels, server.requests_per_second, server.max_name_length) == (20, 1000, 64)
    assert server.request_burst == 2000
    assert (server.append_bytes_per_second, server.append_burst_bytes) == (mib, 4 * mib)
    assert (server.unmute_members, server.member_count_interval_seconds) == (480, 1.0)
    assert (server.max_count_channels, server.max_history_entries) == (32, 256)
    assert (server.max_log_bytes, server.max_engine_bytes) == (16 * mib, 1024 * mib)
    assert (server.slow_reader_bytes, server.max_outbound_bytes) == (256 * kib, mib)
    assert server.feed_below_bytes == server.feed_piece_bytes == 64 * kib
    assert server.write_stall_seconds == 10.0
    assert server.flood_tolerance_seconds == 5.0
    assert server.close_linger_seconds == server.todo_patience_seconds == 2.0
    assert server.log_identity_seconds == 24 * 3600.0
    assert server.login_memory_seconds == 7 * 24 * 3600.0
    assert server.max_idle_logs == 100_000
    assert server.attempt_memory_seconds == server.memory_margin_seconds == 60.0
    assert (server.max_outcomes, server.max_snapshot_members) == (256, 512)
    assert (server.path, server.allowed_origins, server.enforce_token_expiry) == ("/", (), False)


@pytest.mark.parametrize(("cls", "name"), DURATIONS, ids=lambda value: value if isinstance(value, str) else None)
@pytest.mark.parametrize("value", [0, 0.0, 1e-300, -1.0, math.nan, math.inf, -math.inf, "2", None, True])
def test_impossible_durations(cls: type[Any], name: str, value: Any):
    """S15, F-04: a duration is a finite number of seconds above 0."""
    with pytest.raises(ConfigError, match=name):
        cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), COUNTS, ids=lambda value: value if isinstance(value, str) else None)
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_impossible_counts(cls: type[Any], name: str, value: Any):
    """S15, promise 10: every bound is a whole number of at least 1."""
    with pytest.raises(ConfigError, match=name):
        cls(**{name: value})


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_impossible_switches(value: Any):
    """S15: a switch is True or False."""
    with pytest.raises(ConfigError, match="enforce_token_expiry"):
        ServerConfig(enforce_token_expiry=value)


IMPOSSIBLE: list[tuple[type[Any], dict[str, Any]]] = [
    (ClientConfig, {"heartbeat_answer_seconds": 3.0, "heartbeat_limit_seconds": 3.0}),
    (ClientConfig, {"max_quiet_seconds": 20.0}),
    (ClientConfig, {"heartbeat_answer_seconds": 4.5}),
    (ClientConfig, {"backoff_base_seconds": 6.0}),
    (ClientConfig, {"grace_backoff_cap_seconds": 5.5, "interruption_grace_seconds": 9.0}),
    (ClientConfig, {"grace_backoff_cap_seconds": 4.0}),
    (ClientConfig, {"progress_delay_seconds": 11.0}),
    (ClientConfig, {"max_message_bytes": 16 * 1024 - 1}),
    (ServerConfig, {"heartbeat_interval_seconds": 10.0, "unreachable_seconds": 11.0}),
    (ServerConfig, {"heartbeat_interval_seconds": 6.0}),
    (ServerConfig, {"silence_timeout_seconds": 31.0}),
    (ServerConfig, {"unreachable_seconds": 31.0}),
    (ServerConfig, {"presence_grace_seconds": 40.0}),
    (ServerConfig, {"replay_seconds": 301.0}),
    (ServerConfig, {"max_message_bytes": 64 * 1024}),
    (ServerConfig, {"max_message_bytes": 64 * 1024 - 1000}),
    (ServerConfig, {"max_request_bytes": 128 * 1024 + 1}),
    (ServerConfig, {"feed_below_bytes": 256 * 1024 + 1}),
    (ServerConfig, {"slow_reader_bytes": 1024 * 1024 + 1}),
    (ServerConfig, {"max_log_bytes": 128 * 1024 - 1}),
    (ServerConfig, {"path": "rtm"}),
    (ServerConfig, {"history_seconds": 24 * 3600.0 + 1.0}),
    (ServerConfig, {"unmute_members": 513}),
    (ServerConfig, {"append_burst_bytes": 128 * 1024 - 1}),
    (ServerConfig, {"channel_settings": [ChannelSettings(pattern="*")]}),
    (ServerConfig, {"channel_settings": ("*",)}),
    (ServerConfig, {"channel_settings": (ChannelSettings(pattern="*", history_seconds=39.0),)}),
    (ServerConfig, {"channel_settings": (ChannelSettings(pattern="*", history_seconds=24 * 3600.0 + 1.0),)}),
]


@pytest.mark.parametrize(
    ("cls", "settings"), IMPOSSIBLE, ids=lambda value: ",".join(value) if type(value) is dict else ""
)
def test_impossible_combinations(cls: type[Any], settings: dict[str, Any]):
    """S15, F-04: settings that cannot work together are refused, with both figures and the reason."""
    with pytest.raises(ConfigError) as caught:
        cls(**settings)
    assert any(name in str(caught.value) for name in settings)
    assert "S" in str(caught.value) or "must" in str(caught.value)


@pytest.mark.parametrize("encoding", ["", "JSON", "rtm.v1.json", None, 1, ["json"]])
def test_an_encoding_that_nobody_speaks(encoding: Any):
    """F-61: refused when the config is made, with those that there are."""
    with pytest.raises(ConfigError, match="it must be one of 'msgpack', 'json'"):
        ClientConfig(encoding=encoding)


def test_encodings():
    assert ClientConfig().encoding == "msgpack"
    assert ClientConfig(encoding="json").scaled(0.5).encoding == "json"


@given(st.floats(0.001, 100.0), st.floats(0.001, 100.0), st.floats(0.001, 100.0))
def test_all_pairs_of_heartbeat_settings(quiet: float, answer: float, limit: float):
    """F-04, S15: whatever is accepted, a heartbeat comes before the limit that it feeds."""
    try:
        config = ClientConfig(max_quiet_seconds=quiet, heartbeat_answer_seconds=answer, heartbeat_limit_seconds=limit)
    except ConfigError:
        assert quiet >= limit or answer >= limit or answer > 4.0
    else:
        assert config.max_quiet_seconds < config.heartbeat_limit_seconds
        assert config.heartbeat_answer_seconds < config.heartbeat_limit_seconds


@given(st.floats(0.001, 60.0), st.floats(0.001, 60.0), st.floats(0.001, 60.0))
def test_all_pairs_of_server_settings(interval: float, silence: float, unreachable: float):
    """F-04, S15: an accepted server never drops a client that keeps the server's own interval."""
    try:
        config = ServerConfig(
            heartbeat_interval_seconds=interval, silence_timeout_seconds=silence, unreachable_seconds=unreachable
        )
    except ConfigError:
        assert interval >= silence or interval >= unreachable or max(silence, unreachable) > 30.0
    else:
        assert config.heartbeat_interval_seconds < config.silence_timeout_seconds


@pytest.mark.parametrize("cls", CONFIGS)
def test_scaled(cls: type[Any]):
    """S15: every duration is scaled and nothing else."""
    config = cls()
    fast = config.scaled(0.1)
    for field in dataclasses.fields(cls):
        before, after = getattr(config, field.name), getattr(fast, field.name)
        if field.name.endswith("_seconds"):
            assert after == pytest.approx(before * 0.1)
        else:
            assert after == before


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf])
def test_impossible_scale(factor: float):
    """S15: a factor that is no factor."""
    with pytest.raises(ConfigError, match="factor"):
        ClientConfig().scaled(factor)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pattern": ""}, "must be a text such as"),
        ({"pattern": None}, "must be a text such as"),
        ({"pattern": "a*", "history_entries": 0}, "history_entries of the channels 'a\\*' is 0"),
        ({"pattern": "a*", "history_entries": 1.5}, "a whole number"),
        ({"pattern": "a*", "history_entries": True}, "a whole number"),
        ({"pattern": "a*", "history_seconds": math.inf}, "a finite number of seconds"),
        ({"pattern": "a*", "history_seconds": "1"}, "a finite number of seconds"),
        ({"pattern": "a*", "member_events": None}, "must be True or False"),
    ],
)
def test_impossible_channel_settings(settings: dict[str, Any], text: str):
    """S15: with the name and the pattern."""
    with pytest.raises(ConfigError, match=text):
        ChannelSettings(**settings)


def test_settings_of_channels():
    """S33, S38: the first pattern that matches counts; what it leaves open is as for all others. Case matters."""
    config = ServerConfig(
        channel_settings=(
            ChannelSettings(pattern="news-[0-9]", history_entries=5, history_seconds=3600),
            ChannelSettings(pattern="news-*", member_events=False),
        )
    )
    assert config.settings_of("news-1") == AppliedSettings(5, 3600, member_events=True)
    assert config.settings_of("news-x") == AppliedSettings(1000, 300.0, member_events=False)
    assert config.settings_of("News-1") == AppliedSettings(1000, 300.0, member_events=True)
    faster = config.scaled(0.1)
    assert faster.settings_of("news-1").history_seconds == 360
    assert faster.channel_settings[1].history_seconds is None
    assert faster.member_count_interval_seconds == 0.1
    with pytest.raises(ConfigError):
        ChannelSettings(pattern="*").scaled(0)
