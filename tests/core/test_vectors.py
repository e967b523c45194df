"""The vectors of ``tests/vectors``: what a client in another language is tested with is what this library does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from rtm_sansio import messages as wire
from vectors.make import FILES, render
from vectors.replay import ClientReplay, ServerReplay, from_json, matches, to_json

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


def each(name: str) -> Any:
    return pytest.mark.parametrize("vector", load(name), ids=lambda vector: vector["name"].replace(" ", "-"))


def decoder_of(side: str) -> Any:
    return wire.client_decoder() if side == "client" else wire.server_decoder()


@each("messages.json")
def test_message(vector: dict[str, Any]) -> None:
    """Both directions: the bytes are read as the values, and the values are written as the bytes."""
    payload = bytes.fromhex(vector["hex"])
    batch, skipped = decoder_of(vector["from"]).decode(payload)
    assert to_json(batch) == vector["batch"]
    assert skipped == 0
    assert wire.encode_batch(from_json(vector["batch"])) == payload


def test_every_message_has_a_vector() -> None:
    found = {(vector["from"], name) for vector in load("messages.json") for each in vector["batch"] for name in each}
    for side, union in (("client", wire.ClientMessage), ("server", wire.ServerMessage)):
        for struct in get_args(union):
            assert (side, struct.__name__) in found


@each("readings.json")
def test_reading(vector: dict[str, Any]) -> None:
    """S50: what no writer of this version makes is read as far as it may be, and refused beyond that."""
    payload = bytes.fromhex(vector["hex"])
    if "close" in vector:
        with pytest.raises(wire.MalformedBatch):
            decoder_of(vector["from"]).decode(payload)
    else:
        batch, skipped = decoder_of(vector["from"]).decode(payload)
        assert to_json(batch) == vector["batch"]
        assert skipped == vector["skipped"]


def play(replay: ClientReplay | ServerReplay, vector: dict[str, Any], bound: dict[str, bytes]) -> None:
    for number, step in enumerate(vector["steps"]):
        step = dict(step)
        at, expected = step.pop("at"), step.pop("out")
        actual = replay.play(at, step)
        assert matches(expected, actual, bound), f"step {number} at {at} s: {actual!r} in place of {expected!r}"


@each("client.json")
def test_client_conversation(vector: dict[str, Any]) -> None:
    replay = ClientReplay(vector["config"])
    play(replay, vector, {})


@each("server.json")
def test_server_conversation(vector: dict[str, Any]) -> None:
    replay = ServerReplay(vector["config"])
    play(replay, vector, replay.bound)


@each("client.json")
def test_both_forms_of_a_conversation(vector: dict[str, Any]) -> None:
    """Where a step has bytes and values, they say the same."""
    for step in vector["steps"]:
        if "batch" in step and all(isinstance(message, dict) for message in step["batch"]):
            assert to_json(decoder_of("server").decode(bytes.fromhex(step["receive"]))[0]) == step["batch"]


@pytest.mark.parametrize("name", FILES)
def test_committed_files_are_current(name: str) -> None:
    assert (VECTORS / name).read_text(encoding="utf-8") == render(name), "run: python tests/vectors/make.py"
