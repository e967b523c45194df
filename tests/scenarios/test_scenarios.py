"""One suite for all: each scenario runs on the bare core in virtual time and on every frontend over real sockets.

A scenario asserts what its rule says; beyond that, everything that its actors heard (types, reasons, messages,
offsets, in the order of each home) must be what they heard in virtual time. ``RTM_SCENARIO_SCALE`` is the real length
of a second: a slow machine may need a larger one.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

import pytest

from scenarios.adapter import Transcript, World
from scenarios.on_asyncio import AsyncioWorld
from scenarios.on_threads import ThreadedWorld
from scenarios.rules import SCENARIOS, Scenario
from scenarios.virtual import SeveralNodesWorld, VirtualWorld

SCALE = float(os.environ.get("RTM_SCENARIO_SCALE", "0.1"))
WORLDS = ["asyncio", "threads", "trio"]

WIRE_RULES = [f"S{number}" for number in (5, 6, 7, 8, 11, 12, 17, 23, 24, 25, 30, 31, 33, 34, 36, 51, 52, 56)]
"""The rules that must hold on real sockets with every frontend."""

IN_JSON = ["s12_loud_loss", "s25_back_after_presence", "s30_second_login", "s52_slow_iterator"]
"""What runs on sockets with clients of both encodings, too: the frontends know nothing of encodings, so a few do."""

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def speaking(world: World, *encodings: str) -> World:
    """The world with actors that speak these, by turns."""
    world.encodings = encodings
    return world


def make_world(kind: str, server: dict[str, Any]) -> World:
    if kind == "asyncio":
        return AsyncioWorld(server=server, scale=SCALE)
    if kind == "threads":
        return ThreadedWorld(server=server, scale=SCALE)
    if importlib.util.find_spec("trio") is None:
        pytest.skip("trio is not installed")
    from scenarios.on_trio import TrioWorld

    return TrioWorld(server=server, scale=SCALE)


def play(world: World, scenario: Scenario, expected: Transcript | None = None) -> Transcript:
    try:
        scenario.script(world)
        if expected is not None:
            world.settle(expected)
        return world.transcript()
    finally:
        world.close()


@functools.cache
def virtual_transcript(scenario: Scenario, seed: int = 0) -> Transcript:
    return play(VirtualWorld(server=scenario.server, seed=seed), scenario)


@pytest.mark.parametrize("rule", WIRE_RULES)
def test_every_wire_rule_has_a_scenario(rule: str) -> None:
    assert any((scenario.script.__doc__ or "").startswith(f"{rule}:") for scenario in SCENARIOS)


@each_scenario
def test_virtual(scenario: Scenario) -> None:
    """What is heard depends on the rules alone, not on jitter."""
    expected = virtual_transcript(scenario)
    for seed in range(1, 6):
        assert virtual_transcript(scenario, seed) == expected


@pytest.mark.parametrize("encodings", [("json",), ("json", "msgpack"), ("msgpack", "json")], ids="-".join)
@each_scenario
def test_virtual_in_json(scenario: Scenario, encodings: tuple[str, ...]) -> None:
    """F-61: whatever its clients speak, every actor hears the same."""
    world = speaking(VirtualWorld(server=scenario.server, seed=6), *encodings)
    assert play(world, scenario) == virtual_transcript(scenario)


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
@pytest.mark.parametrize(
    "scenario", [each for each in SCENARIOS if each.name in IN_JSON], ids=lambda scenario: scenario.name
)
def test_over_sockets_in_json(scenario: Scenario, kind: str) -> None:
    """F-61: the same over real sockets, for clients of both encodings on one server."""
    expected = virtual_transcript(scenario)
    assert play(speaking(make_world(kind, scenario.server), "json", "msgpack"), scenario, expected) == expected


@each_scenario
def test_on_several_nodes(scenario: Scenario) -> None:
    """Every reconnect lands on another node, and nobody can tell (S22 to S26, F-40)."""
    expected = virtual_transcript(scenario)
    for seed in range(3):
        assert play(SeveralNodesWorld(server=scenario.server, seed=seed), scenario, expected) == expected


@pytest.mark.parametrize("kind", WORLDS)
@each_scenario
def test_over_sockets(scenario: Scenario, kind: str) -> None:
    """Over real sockets every actor hears exactly what it hears in virtual time."""
    expected = virtual_transcript(scenario)
    assert play(make_world(kind, scenario.server), scenario, expected) == expected
