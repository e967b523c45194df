"""Clients and a server that agree on the rates, in a virtual world (S45, S51, S55)."""

from __future__ import annotations

import random

import pytest

from rtm_sansio import ClientConfig, RequestCompleted, ServerConfig
from rtm_sansio.testing import World

BODY = "x" * 2000


@pytest.mark.parametrize("jitter", [0.0, 0.05])
@pytest.mark.parametrize(("rate", "burst"), [(1000, 2000), (200, 64), (100, 20), (100, 3), (50, 1)])
def test_no_rate_error_from_ones_own_client(rate: int, burst: int, jitter: float) -> None:
    """S45, S51, S55: whatever an app asks for, and however small the burst is, its client waits: nothing is refused,
    and nobody is dropped. What a client keeps back of the burst may be late: of a burst of one that is nothing."""
    jitter = min(jitter, 0.4 * (burst // 2) / rate)
    config = ServerConfig(
        requests_per_second=rate,
        request_burst=burst,
        max_message_bytes=2048,
        max_request_bytes=4096,
        max_user_attribute_bytes=1024,
        max_channel_attribute_bytes=1024,
        append_bytes_per_second=20_000,
        append_burst_bytes=20_000,
    )
    world = World(seed=burst, server_config=config, client_config=ClientConfig(request_timeout_seconds=1000.0))
    alice = world.client()
    alice.login("alice")
    alice.join("room")
    alice.network.jitter_seconds = jitter
    choose, now, core = random.Random(rate), lambda: world.now, alice.core
    asked = []
    for _ in range(250):
        command = choose.choice(
            [
                lambda: core.publish("room", BODY, now=now()),
                lambda: core.publish("room", "", now=now()),
                lambda: core.count_members([f"r{number}" for number in range(choose.randint(1, 32))], now=now()),
                lambda: core.list_members("room", now=now()),
                lambda: core.read_history("room", now=now()),
            ]
        )
        asked.append(alice.call(command))
        if choose.random() < 0.1:
            world.run(choose.random())
    world.run_until(lambda: alice.ends.keys() >= set(asked), limit_seconds=1000.0)
    assert all(isinstance(alice.ends[number], RequestCompleted) for number in asked)
    assert len(alice.attempts) == 1


def test_the_rate_of_bytes_goes_on_over_a_resume() -> None:
    """S55: neither side gives a new burst for it, and both agree on what is sent again."""
    config = ServerConfig(
        max_message_bytes=2048,
        max_request_bytes=4096,
        max_user_attribute_bytes=1024,
        max_channel_attribute_bytes=1024,
        append_bytes_per_second=10_000,
        append_burst_bytes=20_000,
    )
    world = World(seed=3, server_config=config, client_config=ClientConfig(request_timeout_seconds=1000.0))
    alice = world.client()
    alice.login("alice")
    alice.join("room")
    asked = [alice.post("room", BODY) for _ in range(60)]
    for _ in range(4):
        world.run(1.0)
        alice.network.reset()
    world.run_until(lambda: alice.ends.keys() >= set(asked), limit_seconds=100.0)
    assert all(isinstance(alice.ends[number], RequestCompleted) for number in asked)
    assert [alice.ends[number].result.offset for number in asked] == list(range(2, 62))  # type: ignore[union-attr]
