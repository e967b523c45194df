"""The documentation is true: its snippets run, its generated parts are current, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import rtm_async
import rtm_sansio
import rtm_sync
from rtm_async.cli import app
from rtm_sansio import Code

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)]*))?\)")


def _snippets() -> list[Any]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append(pytest.param(document, line, match[1], id=f"{document.name}:{line}"))
    return found


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _command_lines() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\.venv/bin/rtm (.+)$", text, re.MULTILINE)
    return [*found, *(match for match in re.findall(r"`rtm ([a-z]+ --[^`]+)`", text) if "COMMAND" not in match)]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("document", "line", "code"), _snippets())
def test_snippets_run(document: Path, line: int, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Parsed at their place in the document, so that a traceback leads there.
    tree = ast.increment_lineno(ast.parse(code), line - 1)
    exec(compile(tree, str(document), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_current(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    generate = _load(ROOT / "docs" / "generate.py")
    assert generate.renewed(text) == text, "run: python docs/generate.py"


def test_every_code_has_a_meaning() -> None:
    generate = _load(ROOT / "docs" / "generate.py")
    assert generate._MEANINGS.keys() == set(Code)


def test_set_up_commands() -> None:
    """The two commands that a newcomer copies stand on lines of their own, and do not change unnoticed."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "python3 -m venv .venv && .venv/bin/pip install -q '.[server]' && .venv/bin/rtm demo" in lines
    assert "python3 -m venv .tox-venv && .tox-venv/bin/pip install -q tox && .tox-venv/bin/tox" in lines


@pytest.mark.parametrize("line", _command_lines())
def test_commands_exist(line: str) -> None:
    """Every ``rtm ...`` in the README is a command with these options."""
    name, *arguments = shlex.split(line)
    command = app.commands.commands[name]
    # With the group's settings: click keeps a command's help option as it made it first.
    with click.Context(command, **app.commands.context_settings) as context:
        command.parse_args(context, [argument for argument in arguments if argument != "&"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for match in _LINK.finditer(document.read_text(encoding="utf-8")):
        target = match["target"]
        if "://" not in target:
            place = document.parent / target if target else document
            assert place.exists(), target
            assert match["anchor"] is None or match["anchor"] in _anchors(place), match[0]


def test_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in (rtm_sansio, rtm_sync, rtm_async):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder.parent).as_posix()
            if path.name not in ("__init__.py", "__main__.py"):
                assert f"`{name}`" in text, f"docs/architecture.md does not name {name}"
