"""Reports at the end of a tox run; needs nothing but the standard library (and coverage, for the gate).

report.py coverage            combines what py313 recorded; fails below 100 % of the core's lines and branches
report.py summary TOX_DIR     says which environments ran the tests, and shouts what was left out
report.py total TOX_DIR       ends in one line as pytest prints it, for all environments together

With RTM_REQUIRE_ALL=1 something left out is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PYTHONS = ("py311", "py312", "py313")
WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Outcome:
    environment: str
    python: str
    passed: int
    failed: int
    errors: int
    skipped: int
    seconds: float

    @property
    def ran(self) -> bool:
        return self.passed + self.failed + self.errors > 0

    @property
    def good(self) -> bool:
        return self.passed > 0 and self.failed == self.errors == 0


def shout(*lines: str) -> None:
    print("!" * WIDTH)
    for line in lines:
        print(f"!!! {line}")
    print("!" * WIDTH)


def required() -> bool:
    return os.environ.get("RTM_REQUIRE_ALL", "") not in ("", "0")


def version_of(python: Path) -> str:
    if not python.exists():
        return "no Python"
    answer = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).strip()  # 2.7 answers on stderr


def outcome_of(environment: str, tox_dir: Path) -> Outcome | None:
    """What pytest wrote in this environment, or None if it did not run there."""
    report = tox_dir / environment / "tmp" / "pytest.xml"
    if not report.is_file():
        return None
    total = passed = failed = errors = skipped = 0
    seconds = 0.0
    for suite in ElementTree.parse(report).iter("testsuite"):
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0"))
        errors += int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
        seconds += float(suite.get("time", "0"))
    passed = max(0, total - failed - errors - skipped)
    home = tox_dir / "autobahn" / "python2.7" if environment == "conformance" else tox_dir / environment
    return Outcome(
        environment=environment,
        python=version_of(home / "bin" / "python"),
        passed=passed,
        failed=failed,
        errors=errors,
        skipped=skipped,
        seconds=seconds,
    )


def summary(tox_dir: Path) -> int:
    missing: list[str] = []
    broken: list[str] = []
    print("=" * WIDTH)
    for environment in (*PYTHONS, "conformance"):
        outcome = outcome_of(environment, tox_dir)
        wanted = "2.7" if environment == "conformance" else f"{environment[2]}.{environment[3:]}"
        what = "the Autobahn conformance suite" if environment == "conformance" else "the tests"
        if outcome is None or not (outcome.ran or outcome.skipped):
            print(f"{environment:12} did not run")
            missing.append(f"Python {wanted} did NOT run {what} ({environment}): not found, or it failed early.")
            continue
        print(
            f"{environment:12} {outcome.python:16} {outcome.passed} passed, {outcome.failed} failed, "
            f"{outcome.errors} errors, {outcome.skipped} skipped in {outcome.seconds:.1f} s"
        )
        if not outcome.ran or f" {wanted}." not in f"{outcome.python}.":
            missing.append(f"Python {wanted} did NOT run {what} ({environment}): everything was skipped.")
        elif environment == "conformance" and outcome.skipped:
            missing.append(f"{outcome.skipped} conformance tests were SKIPPED.")
        elif not outcome.good:
            broken.append(f"{environment} FAILED.")
    if not coverage_files(tox_dir / "coverage"):
        missing.append("The coverage gate of the core was NOT checked: nothing was recorded by py313.")
    if missing or broken:
        shout(*broken, *missing)
    else:
        print("Python 3.11, 3.12, 3.13 ran the tests, 2.7 the Autobahn suite; nothing was left out.")
    print("=" * WIDTH)
    return 1 if missing and required() else 0


def total(tox_dir: Path) -> int:
    outcomes = [o for e in (*PYTHONS, "conformance") if (o := outcome_of(e, tox_dir)) is not None]
    counts = {
        "failed": sum(o.failed for o in outcomes),
        "passed": sum(o.passed for o in outcomes),
        "skipped": sum(o.skipped for o in outcomes),
        "errors": sum(o.errors for o in outcomes),
    }
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no tests ran"
    print(f"{f' {text} in {sum(o.seconds for o in outcomes):.2f}s ':=^{WIDTH}}")
    return 0


def coverage_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("data*")) if folder.is_dir() else []


def coverage() -> int:
    data = Path(os.environ["COVERAGE_FILE"])
    if not coverage_files(data.parent):
        shout("Coverage gate of the core NOT checked: py313 recorded nothing (no Python 3.13?).")
        return 1 if required() else 0
    tool = [sys.executable, "-m", "coverage"]
    if any(path.name != data.name for path in coverage_files(data.parent)):
        subprocess.run([*tool, "combine", "--quiet"], check=True)
    print("--- the frontends (no gate)", flush=True)
    subprocess.run([*tool, "report", "--include=rtm_sync/*,rtm_async/*"], check=False)
    print("--- the core (gate: 100 % of lines and branches)", flush=True)
    # The exact count decides: 99.996 % prints as 100.00.
    gate = [*tool, "report", "--include=rtm_sansio/*", "--fail-under=100", "--precision=4"]
    code = subprocess.run(gate, check=False).returncode
    if code:
        shout("The core is not covered completely.")
    return code


def main() -> int:
    if sys.argv[1:] == ["coverage"]:
        return coverage()
    if len(sys.argv) == 3 and sys.argv[1] in ("summary", "total"):
        return {"summary": summary, "total": total}[sys.argv[1]](Path(sys.argv[2]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
