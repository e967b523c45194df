"""Codes and their ranges (S41)."""

from __future__ import annotations

import pytest

from rtm_sansio.codes import CODE_RANGES, Code, CodeKind, code_kind, code_name


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (3999, None),
        (4000, CodeKind.TERMINAL),
        (4099, CodeKind.TERMINAL),
        (4100, CodeKind.VERDICT),
        (4199, CodeKind.VERDICT),
        (4200, CodeKind.RETRY),
        (4299, CodeKind.RETRY),
        (4300, CodeKind.REPORT),
        (4399, CodeKind.REPORT),
        (4400, None),
        (0, None),
        (-1, None),
        (1000, None),
    ],
)
def test_kind_of_any_code(number: int, kind: CodeKind | None):
    """S41: the range decides what a code asks for, known or not."""
    assert code_kind(number) is kind


def test_ranges_are_disjoint_and_can_be_close_codes():
    """S41: no code is in two ranges, and a close frame can carry each (RFC 6455, 7.4.2)."""
    numbers = [number for codes in CODE_RANGES.values() for number in codes]
    assert len(numbers) == len(set(numbers))
    assert all(4000 <= number <= 4999 for number in numbers)
    assert set(CODE_RANGES) == set(CodeKind)


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
def test_known_codes(code: Code):
    """S41: each known code lies in a range, and is called by its name in lower case."""
    assert code_kind(code) is not None
    assert code_name(code) == code.name.lower() == code_name(int(code))


def test_name_of_an_unknown_code():
    """S41: a code of a later version has a name too."""
    assert code_name(4077) == "code_4077"
    assert code_name(-5) == "code_-5"
