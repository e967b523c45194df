"""The judge of the Autobahn reports, and the table that stands in docs/: these need no Autobahn."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import autobahn
from conformance.autobahn import CASES_BY_GROUP, RUNS, Result

QUICK_GROUPS = autobahn.groups_of(everything=False)


def clean_results(*, groups: list[str] = QUICK_GROUPS) -> list[Result]:
    return [
        Result(case=f"{group}.{number}", behavior="OK", behavior_close="OK")
        for group in groups
        for number in range(1, CASES_BY_GROUP[group][0] + 1)
    ]


def with_result(case: str, behavior: str, behavior_close: str = "OK") -> list[Result]:
    changed = Result(case=case, behavior=behavior, behavior_close=behavior_close)
    return [changed if result.case == case else result for result in clean_results()]


def test_the_quick_run_is_all_but_three_groups() -> None:
    assert QUICK_GROUPS == ["1", "2", "3", "4", "5", "6", "7", "10"]
    assert sum(count for count, _ in CASES_BY_GROUP.values()) == 517


def test_a_clean_run_passes() -> None:
    assert autobahn.objections(clean_results(), groups=QUICK_GROUPS) == []


def test_informational_passes() -> None:
    assert autobahn.objections(with_result("7.13", "INFORMATIONAL", "INFORMATIONAL"), groups=QUICK_GROUPS) == []


@pytest.mark.parametrize("behavior", ["FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "UNIMPLEMENTED", "new"])
def test_a_failure_is_named(behavior: str) -> None:
    assert autobahn.objections(with_result("5.3", behavior), groups=QUICK_GROUPS) == [f"case 5.3: exchange {behavior}"]
    assert autobahn.objections(with_result("5.3", "OK", behavior), groups=QUICK_GROUPS) == [
        f"case 5.3: close {behavior}"
    ]


def test_non_strict_wants_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    results = with_result("5.3", "NON-STRICT")

    monkeypatch.setattr(autobahn, "REASONS", {})
    assert autobahn.objections(results, groups=QUICK_GROUPS) == [
        "case 5.3: exchange NON-STRICT without a written reason"
    ]
    monkeypatch.setattr(autobahn, "REASONS", {"5.3": "Because."})
    assert autobahn.objections(results, groups=QUICK_GROUPS) == []


def test_a_reason_is_no_excuse_for_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autobahn, "REASONS", {"5.3": "Because."})

    assert autobahn.objections(with_result("5.3", "FAILED"), groups=QUICK_GROUPS) == ["case 5.3: exchange FAILED"]


def test_a_reason_goes_when_its_case_is_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autobahn, "REASONS", {"5.3": "Because.", "9.1": "Not run here."})
    strict = dict.fromkeys(RUNS, clean_results())
    one_of_four = {**strict, RUNS[2]: with_result("5.3", "NON-STRICT")}

    assert autobahn.stale_reasons(strict, groups=QUICK_GROUPS) == ["5.3"]
    assert autobahn.stale_reasons(one_of_four, groups=QUICK_GROUPS) == []


def test_what_tcp_decides_does_not_change_the_table() -> None:
    always = [Result(case=case, behavior="NON-STRICT", behavior_close="OK") for case in autobahn.REASONS]
    sometimes = [replace(result, behavior="OK") if result.case in autobahn.TIMED else result for result in always]

    assert autobahn.table(dict.fromkeys(RUNS, sometimes)) == autobahn.table(dict.fromkeys(RUNS, always))
    assert autobahn.stale_reasons(dict.fromkeys(RUNS, sometimes), groups=QUICK_GROUPS) == []


def test_a_missing_case_is_noticed() -> None:
    results = [result for result in clean_results() if result.case != "6.7"]

    assert autobahn.objections(results, groups=QUICK_GROUPS) == ["group 6: 144 cases ran, there are 145"]
    assert len(autobahn.objections([], groups=QUICK_GROUPS)) == len(QUICK_GROUPS)


def test_compression_may_be_unimplemented_and_nothing_else() -> None:
    groups = autobahn.groups_of(everything=True)
    results = [
        Result(case=r.case, behavior="UNIMPLEMENTED" if r.group in ("12", "13") else "OK", behavior_close="OK")
        for r in clean_results(groups=groups)
    ]

    assert autobahn.objections(results, groups=groups) == []


def test_the_report_is_read_in_the_order_of_the_cases(tmp_path: Path) -> None:
    entries = {"10.1.1": ("OK", "OK"), "2.10": ("FAILED", "OK"), "2.9": ("OK", "UNCLEAN")}
    report = {"us": {case: {"behavior": b, "behaviorClose": c} for case, (b, c) in entries.items()}}
    (tmp_path / "index.json").write_text(json.dumps(report), encoding="utf-8")

    results = autobahn.read_report(tmp_path, "us")

    assert [(result.case, result.group, result.verdict) for result in results] == [
        ("2.9", "2", "UNCLEAN"),
        ("2.10", "2", "FAILED"),
        ("10.1.1", "10", "OK"),
    ]
    assert autobahn.read_report(tmp_path, "another") == []


def test_every_reason_is_written_out() -> None:
    for case, reason in autobahn.REASONS.items():
        assert re.fullmatch(r"\d+(\.\d+)+", case)
        assert reason.endswith(".")
        assert len(reason) > 20


def test_the_table_in_docs_has_a_clean_row_for_each_group() -> None:
    text = autobahn.TABLE.read_text(encoding="utf-8")

    assert f"test suite {autobahn.SUITE_VERSION} " in text
    assert f"autobahntestsuite=={autobahn.SUITE_VERSION}\n" in autobahn.REQUIREMENTS.read_text(encoding="utf-8")
    for group, (count, what) in CASES_BY_GROUP.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {group} | {what} | {count} | "))
        verdicts = re.findall(r"(\d+) ([A-Z-]+)", row.partition(what)[2].partition(f"| {count} |")[2])
        allowed = {"UNIMPLEMENTED"} if group in autobahn.UNIMPLEMENTED_GROUPS else {"OK", "INFORMATIONAL", "NON-STRICT"}
        assert sum(int(number) for number, _ in verdicts) == count * len(RUNS)
        assert {name for _, name in verdicts} <= allowed
    for case in autobahn.REASONS:
        assert re.search(rf"^- (.*, )?{re.escape(case)}(, .*)?: NON-STRICT", text, re.MULTILINE)
