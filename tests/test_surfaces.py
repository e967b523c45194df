"""``rtm_sync`` and ``rtm_async`` look the same: name by name, parameter by parameter."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import rtm_async
import rtm_sansio
import rtm_sync

CLASSES = ["Client", "Channel", "Server"]

# Names of the protocols of "with", "for" and iterators, in both worlds.
TWINS = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}
COMPARED_DUNDERS = {*TWINS.values(), *TWINS}


def surface(cls: type[Any]) -> dict[str, Any]:
    """What users may rely on, by its name in ``rtm_sync``."""
    return {
        TWINS.get(name, name): member
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_") or name in COMPARED_DUNDERS
    }


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(member).parameters.values()
    ]


def test_modules() -> None:
    assert sorted(rtm_sync.__all__) == sorted(rtm_async.__all__)
    for name in rtm_sync.__all__:
        twins = getattr(rtm_sync, name), getattr(rtm_async, name)
        if name not in CLASSES:
            assert twins[0] is twins[1] is getattr(rtm_sansio, name)


@pytest.mark.parametrize("name", CLASSES)
def test_names(name: str) -> None:
    assert surface(getattr(rtm_sync, name)).keys() == surface(getattr(rtm_async, name)).keys()


@pytest.mark.parametrize("name", CLASSES)
def test_constructors(name: str) -> None:
    if name != "Channel":  # made by join() only
        assert parameters(getattr(rtm_sync, name)) == parameters(getattr(rtm_async, name))


@pytest.mark.parametrize("name", CLASSES)
def test_members(name: str) -> None:
    blocking, waiting = surface(getattr(rtm_sync, name)), surface(getattr(rtm_async, name))
    for member in blocking.keys() & waiting.keys():
        if isinstance(blocking[member], property):
            assert isinstance(waiting[member], property), member
        elif member not in TWINS.values():
            assert parameters(blocking[member]) == parameters(waiting[member]), member


@pytest.mark.parametrize("name", CLASSES)
def test_every_call_has_a_timeout(name: str) -> None:
    """Whatever waits for a server can be bounded."""
    for package in (rtm_sync, rtm_async):
        for member in ("login", "logout", "renew_token", "join", "send", "leave"):
            function = getattr(getattr(package, name), member, None)
            if function is not None:
                timeout = inspect.signature(function).parameters["timeout"]
                assert timeout.default is None
                assert timeout.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", CLASSES)
def test_everything_says_what_it_is(name: str) -> None:
    for package in (rtm_sync, rtm_async):
        cls = getattr(package, name)
        assert cls.__doc__
        for member, value in surface(cls).items():
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{package.__name__}.{name}.{member}"


def test_the_core_exports_what_it_names() -> None:
    assert len(set(rtm_sansio.__all__)) == len(rtm_sansio.__all__)
    for name in rtm_sansio.__all__:
        assert hasattr(rtm_sansio, name), name
