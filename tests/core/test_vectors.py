"""The vectors of ``tests/vectors``: what a client in another language is tested with is what this library does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from rtm_sansio import messages as wire
from rtm_sansio._encodings import ENCODINGS, JSON, MSGPACK, Encoding
from vectors.make import FILES, render
from vectors.replay import ClientReplay, ServerReplay, from_json, matches, to_json

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


def each(name: str) -> Any:
    return pytest.mark.parametrize("vector", load(name), ids=lambda vector: vector["name"].replace(" ", "-"))


in_each_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)


def decoder_of(side: str, encoding: Encoding) -> Any:
    return encoding.client_decoder if side == "client" else encoding.server_decoder


def payloads_of(vector: dict[str, Any]) -> list[tuple[Encoding, bytes]]:
    """The forms that the vector has."""
    found = []
    if "hex" in vector:
        found.append((MSGPACK, bytes.fromhex(vector["hex"])))
    if "json" in vector:
        found.append((JSON, vector["json"].encode()))
    return found


@each("messages.json")
def test_message(vector: dict[str, Any]) -> None:
    """Both directions, in both encodings: the payload is read as the values, and the values are written as the
    payload."""
    payloads = payloads_of(vector)
    assert [encoding for encoding, _ in payloads] == list(ENCODINGS)
    for encoding, payload in payloads:
        batch, skipped = decoder_of(vector["from"], encoding).decode(payload)
        assert to_json(batch) == vector["batch"]
        assert skipped == 0
        assert encoding.encode_batch(from_json(vector["batch"])) == payload


def test_every_message_has_a_vector() -> None:
    found = {(vector["from"], name) for vector in load("messages.json") for each in vector["batch"] for name in each}
    for side, union in (("client", wire.ClientMessage), ("server", wire.ServerMessage)):
        for struct in get_args(union):
            assert (side, struct.__name__) in found


@each("readings.json")
def test_reading(vector: dict[str, Any]) -> None:
    """S50: what no writer of this version makes is read as far as it may be, and refused beyond that."""
    for encoding, payload in payloads_of(vector):
        decoder = decoder_of(vector["from"], encoding)
        if "close" in vector:
            with pytest.raises(wire.MalformedBatch):
                decoder.decode(payload)
        else:
            batch, skipped = decoder.decode(payload)
            assert to_json(batch) == vector["batch"]
            assert skipped == vector["skipped"]


def play(replay: ClientReplay | ServerReplay, vector: dict[str, Any], bound: dict[str, bytes]) -> None:
    for number, step in enumerate(vector["steps"]):
        step = dict(step)
        at, expected = step.pop("at"), step.pop("out")
        actual = replay.play(at, step)
        assert matches(expected, actual, bound), f"step {number} at {at} s: {actual!r} in place of {expected!r}"


@in_each_encoding
@each("client.json")
def test_client_conversation(vector: dict[str, Any], encoding: Encoding) -> None:
    replay = ClientReplay(vector["config"], encoding)
    play(replay, vector, {})


@in_each_encoding
@each("server.json")
def test_server_conversation(vector: dict[str, Any], encoding: Encoding) -> None:
    replay = ServerReplay(vector["config"], encoding)
    play(replay, vector, replay.bound)


@each("client.json")
def test_both_forms_of_a_conversation(vector: dict[str, Any]) -> None:
    """Where a step has bytes, text and values, they say the same."""
    for step in vector["steps"]:
        if "batch" in step and all(isinstance(message, dict) for message in step["batch"]):
            for encoding, payload in payloads_of({"hex": step["receive"], "json": step["json"]}):
                assert to_json(decoder_of("server", encoding).decode(payload)[0]) == step["batch"]


@pytest.mark.parametrize("name", FILES)
def test_committed_files_are_current(name: str) -> None:
    assert (VECTORS / name).read_text(encoding="utf-8") == render(name), "run: python tests/vectors/make.py"
