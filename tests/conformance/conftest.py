"""Options and results of the Autobahn runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import autobahn


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--all", action="store_true", dest="autobahn_all", help="run groups 9, 12 and 13 as well")
    group.addoption(
        "--write", action="store_true", dest="autobahn_write", help="write docs/conformance.md (wants --all)"
    )


@pytest.fixture(scope="session")
def everything(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("autobahn_all", False))


@pytest.fixture(scope="session")
def wstest(everything: bool) -> Path:
    """The suite's command. Without a Python 2.7 the runs are skipped; tox's summary says so in capitals."""
    try:
        return autobahn.prepare_suite(accelerated=everything)
    except autobahn.NoPython27 as missing:
        pytest.skip(f"NO CONFORMANCE RUN: {missing}")


@pytest.fixture(scope="session")
def results_of(wstest: Path, everything: bool) -> Callable[[autobahn.Run], list[autobahn.Result]]:
    """Runs the suite against a driver in a role; each once in a session."""
    from conformance import drivers

    known: dict[autobahn.Run, list[autobahn.Result]] = {}

    def results(run: autobahn.Run) -> list[autobahn.Result]:
        if run not in known:
            known[run] = drivers.run_suite(wstest, run, everything=everything)
        return known[run]

    return results
