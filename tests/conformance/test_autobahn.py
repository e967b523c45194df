"""The Autobahn suite against both drivers in both roles: ``tox -e conformance [-- --all]``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance import autobahn
from conformance.autobahn import RUNS, Result, Run

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

ResultsOf = Callable[[Run], list[Result]]


@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_no_objections(run: Run, results_of: ResultsOf, everything: bool) -> None:
    found = autobahn.objections(results_of(run), groups=autobahn.groups_of(everything=everything))

    assert not found, "\n".join(found)


def test_no_reason_is_stale(results_of: ResultsOf, everything: bool) -> None:
    groups = autobahn.groups_of(everything=everything)
    stale = autobahn.stale_reasons({run: results_of(run) for run in RUNS}, groups=groups)

    assert not stale


def test_the_table_is_current(results_of: ResultsOf, everything: bool, request: pytest.FixtureRequest) -> None:
    results = {run: results_of(run) for run in RUNS}
    if request.config.getoption("autobahn_write", False):
        assert everything, "the table shows all groups: --write wants --all"
        autobahn.TABLE.parent.mkdir(exist_ok=True)
        autobahn.TABLE.write_text(autobahn.table(results), encoding="utf-8")

    lines = autobahn.TABLE.read_text(encoding="utf-8").splitlines()
    groups = autobahn.groups_of(everything=everything)
    wanted = autobahn.rows(results, groups) + autobahn.remarks(results, groups)
    absent = [line for line in wanted if line not in lines]
    assert not absent, "docs/conformance.md is old (tox -e conformance -- --all --write):\n" + "\n".join(absent)
    if everything:
        assert lines == autobahn.table(results).splitlines()
