"""The newest report of the benchmark is what its figures say, and the README tells those figures."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[1] / "jobs" / "benchmark"
NEWEST = max((BENCHMARK / "results").glob("*.json"))


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_report", BENCHMARK / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_the_figures(report: ModuleType) -> None:
    figures = json.loads(NEWEST.read_text())
    assert report.page(figures) == NEWEST.with_suffix(".md").read_text()
    assert figures["about"]["commands"]
