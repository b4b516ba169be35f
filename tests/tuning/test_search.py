"""Measurement of settings with a real network on real files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.inference.predictor import ModelOutputs
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.resolve import resolve_models
from cvbatch.sources.local_files import LocalFileSource
from cvbatch.stages.decode import DecodeOptions
from cvbatch.tuning import benchmark
from cvbatch.tuning.benchmark import Workload
from cvbatch.tuning.certificate import fastest_candidate
from cvbatch.tuning.search import BenchmarkSpec, measure_settings
from tests.conftest import make_photo

SCALED = InferenceSettings("fp32", scaled_decode=True)


LITE = ModelConfig(model="efficientnet_lite0")


def measured(
    folder: Path, *tried: InferenceSettings, compile_pays_below: float = 0, model: ModelConfig = LITE
) -> list[dict[str, Any]]:
    specs = resolve_models([model])
    rows = pa.concat_tables(LocalFileSource(str(folder)).iter_chunks())
    rows = rows.add_column(0, "row_id", pa.array(range(rows.num_rows), pa.int64()))
    decode = DecodeOptions(tuple(spec.view for spec in specs), 178_000_000)
    return measure_settings(rows, BenchmarkSpec(Workload(specs, decode, "cpu", 2, None), tried, compile_pays_below))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three large photos, a small one and a broken file."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(3):
        make_photo(folder / f"{number}.jpg", seed=number, size=(1600, 1100))
    make_photo(folder / "small.png", size=(50, 40))
    (folder / "broken.jpg").write_bytes(b"no")
    return folder


def test_every_setting_is_measured_and_compared(folder: Path) -> None:
    reference, scaled, bf16, *refined = measured(folder, REFERENCE, SCALED, InferenceSettings("bf16"))
    assert reference["setting"] == asdict(REFERENCE)
    assert (reference["passed"], reference["agreement"]) == (True, {})
    for entry in (reference, scaled, bf16):
        assert entry["images"] == 4
        assert all(rate > 0 for rate in entry["rates"].values())
    assert scaled["agreement"]["classification"]["same_label"] == 1
    assert 0 < bf16["agreement"]["classification"]["mean_score_difference"] < 0.1
    best = InferenceSettings(**fastest_candidate([reference, scaled, bf16])["setting"])
    tried = [InferenceSettings(**entry["setting"]) for entry in refined]
    assert tried[0] == replace(best, channels_last=False)
    assert sum(entry.lanes == 1 for entry in tried) >= 1
    assert {entry.batch_factor for entry in tried} == {0.5, 1, 2}
    assert not any(entry.compiled for entry in tried)


def test_a_setting_that_cannot_be_built_is_reported_and_not_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("cvbatch.inference.torch.aot_compile.CompiledNetwork", fail)
    entries = [entry for entry in measured(folder, REFERENCE, compile_pays_below=1e9) if entry["setting"]["compiled"]]
    assert [(entry["passed"], entry["error"]) for entry in entries] == [(False, "RuntimeError: no compiler")]


def test_a_gain_is_found_on_a_machine_that_slows_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = iter(range(1, 1000))

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()

    class Predictor:
        def __init__(self, *_: Any, setting: InferenceSettings, **__: Any) -> None:
            self.share = 0.5 if setting.batch_factor == 2 else 1.0

        def predict_views(self, *_: Any) -> Any:
            clock.now += next(pace) * self.share
            return ModelOutputs(columns={}, errors=[])

    monkeypatch.setattr(benchmark, "time", clock)
    monkeypatch.setattr(benchmark, "load_predictor", Predictor)
    monkeypatch.setattr(benchmark, "_ROWS_AT_ONCE", {"cpu": 1})
    entries = measured(folder, REFERENCE, model=ModelConfig(model="squeezenet1_1", weights=None))
    assert InferenceSettings(**fastest_candidate(entries)["setting"]) == InferenceSettings(batch_factor=2.0)
    slower = [entry["rates"]["predict"] for entry in entries if entry["setting"]["batch_factor"] != 2]
    assert max(slower) < 1.5 * min(slower), "they are equally fast, though each was tried later than the one before"


def test_scaled_decoding_is_skipped_without_large_images(tmp_path: Path) -> None:
    make_photo(tmp_path / "small.jpg", size=(200, 150))
    settings = [InferenceSettings(**entry["setting"]) for entry in measured(tmp_path, REFERENCE, SCALED)]
    assert settings[0] == REFERENCE
    assert not any(entry.scaled_decode for entry in settings)
