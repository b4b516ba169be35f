"""The newest reports of the benchmark are what their figures say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[1] / "jobs" / "benchmark"
REPORTS = sorted((BENCHMARK / "results").glob("*.json"))
NEWEST = [path for path in REPORTS if path.name[:10] == REPORTS[-1].name[:10]]


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_report", BENCHMARK / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NEWEST, ids=lambda path: path.stem)
def test_the_page_is_made_from_the_figures(report: ModuleType, path: Path) -> None:
    figures = json.loads(path.read_text())
    assert report.page(figures) == path.with_suffix(".md").read_text()
    assert figures["about"]["commands"]
