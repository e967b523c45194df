"""The core has no I/O, no clock and no randomness of its own: proved on its source and on what its import brings in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rtm_sansio

_FORBIDDEN = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "os",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
}
_SOURCES = sorted(Path(rtm_sansio.__file__).parent.glob("**/*.py"))


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_no_module_imports_io_or_a_clock(source: Path) -> None:
    assert not _imported(ast.parse(source.read_text())) & _FORBIDDEN


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_randomness_is_passed_in(source: Path) -> None:
    """``random`` serves only for the type of the generator that a caller passes in, or to make one from a seed."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"random.{node.attr} in {source.name}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "random"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "Random":
            assert node.args, f"a generator without a seed in {source.name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"now", "utcnow", "today"} or source.name == "testing.py", source.name


def test_importing_the_core_opens_no_network_module() -> None:
    """Neither the core nor what it depends on brings in sockets, TLS, an event loop or a pool of threads."""
    script = (
        # What measures the coverage of subprocesses is there before us.
        "import sys; before = set(sys.modules); import rtm_sansio, rtm_sansio.testing\n"
        "banned = {'socket', 'ssl', 'selectors', 'asyncio', 'concurrent.futures', 'subprocess'}\n"
        "print(sorted(banned & (set(sys.modules) - before)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == "[]"
