from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cvbatch.errors import JobError
from cvbatch.system.environment import EnvironmentNumber

ROWS = EnvironmentNumber("CVBATCH_TEST_ROWS", 100, minimum=1)
SECONDS = EnvironmentNumber("CVBATCH_TEST_SECONDS", 1.5)


def test_a_variable_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROWS.current_value, SECONDS.current_value) == (100, 1.5)
    monkeypatch.setenv("CVBATCH_TEST_ROWS", "7")
    monkeypatch.setenv("CVBATCH_TEST_SECONDS", "0")
    assert (ROWS.current_value, SECONDS.current_value) == (7, 0.0)
    assert isinstance(SECONDS.current_value, float)


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        (ROWS, "many", "a whole number"),
        (ROWS, "1.5", "a whole number"),
        (ROWS, "0", "a whole number"),
        (ROWS, "", "a whole number"),
        (SECONDS, "-0.1", "a number"),
        (SECONDS, "nan", "a number"),
        (SECONDS, "inf", "a number"),
    ],
)
def test_an_invalid_number_is_refused_in_one_line(
    number: EnvironmentNumber[int] | EnvironmentNumber[float],
    text: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(number.variable, text)
    refusal = f"{number.variable}: expected {expected} of at least {number.minimum}, got '{text}'"
    with pytest.raises(JobError, match=refusal):
        _ = number.current_value


def test_a_run_knows_all_numbers_before_it_starts() -> None:
    """It checks those of imported modules; a module that is imported later must not define one."""
    root = Path(__file__).parents[2]
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in sorted((root / "cvbatch").rglob("*.py"))
        if "EnvironmentNumber(" in path.read_text() and path.name != "environment.py"
    ]
    code = f"import sys, cvbatch.pipeline; print([name for name in {modules} if name not in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.strip() == "[]"
    assert len(modules) > 5
