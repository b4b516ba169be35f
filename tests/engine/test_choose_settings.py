"""How a certificate of an earlier run applies to a new one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine import choose_settings
from cvbatch.images.preprocess import View
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.decode import DecodeOptions
from cvbatch.tuning import certificate as settings
from cvbatch.tuning.certificate import MIN_IMAGES, TuningCache, TuningResult
from cvbatch.tuning.request import TuningRequest

VIEW = View(resize=256, crop=(224, 224))
SCALED = InferenceSettings(scaled_decode=True)


def network(weights_path: str | None) -> ModelSpec:
    return ModelSpec(
        alias="classification",
        task="classification",
        kind="torchvision",
        name="resnet18",
        view=VIEW,
        weights_path=weights_path,
        categories=("a", "b"),
    )


RANDOM, REAL = network(None), network("here")


def certificate(*settings: InferenceSettings) -> TuningResult:
    """A certificate in which the first setting is the best."""
    rates = {"decode_per_core": 9.0, "predict": 5.0, "together": 4.0}
    candidates: list[dict[str, Any]] = [
        {"setting": asdict(setting), "images": MIN_IMAGES, "rates": rates, "agreement": {}, "passed": True}
        for setting in settings
    ]
    return TuningResult(settings[0], "measured", tuple(candidates))


def asked(model: ModelSpec, **compute: Any) -> TuningRequest:
    return TuningRequest((model,), DecodeOptions((VIEW,), 1_000_000), ComputeConfig(**compute))


def files_of(size: int) -> choose_settings.Sample:
    return lambda count: pa.table({"image_bytes": pa.array([size] * min(count, 10), pa.int64())})


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TuningCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return TuningCache("cpu", [RANDOM], 2)


def test_random_weights_get_scaled_decoding_without_measuring_it(cache: TuningCache) -> None:
    cache.save_result(certificate(REFERENCE))
    result = choose_settings._load_known(cache, [REFERENCE, SCALED], [RANDOM])
    assert result is not None
    assert result.setting == SCALED
    assert result.measured_rates() is not None
    compiled = replace(
        certificate(InferenceSettings(compiled=True), REFERENCE),
        setting=InferenceSettings(compiled=True, scaled_decode=True),
    )
    assert compiled.without_compiling().setting == SCALED
    unscaled = choose_settings._load_known(cache, [REFERENCE], [RANDOM])
    assert unscaled is not None
    assert unscaled.setting == REFERENCE, "the job forbids it"


def test_an_earlier_measurement_is_used(cache: TuningCache) -> None:
    cache.save_result(certificate(REFERENCE, SCALED))
    result = choose_settings._load_known(cache, [REFERENCE, SCALED], [RANDOM])
    assert result is not None
    assert result.setting == REFERENCE
    cache.save_result(certificate(InferenceSettings("bf16", device_decode=True)))
    on_device = choose_settings._load_known(
        cache, settings.candidate_settings(ComputeConfig(), [RANDOM], on_gpu=True), [RANDOM]
    )
    assert on_device is not None
    assert on_device.setting == InferenceSettings("bf16", device_decode=True)


def test_trained_weights_are_measured_again_only_for_large_files() -> None:
    known, slow = certificate(REFERENCE), 0.0
    assert choose_settings._is_thorough(known, asked(REAL), slow, files_of(80_000))
    assert not choose_settings._is_thorough(known, asked(REAL), slow, files_of(4_000_000))
    assert choose_settings._is_thorough(known, asked(REAL, scaled_decode="off"), slow, files_of(4_000_000))
    assert choose_settings._is_thorough(certificate(REFERENCE, SCALED), asked(REAL), slow, files_of(4_000_000))
    assert choose_settings._is_thorough(known, asked(RANDOM), slow, files_of(4_000_000))
    searched = replace(known, large_files=True)
    assert choose_settings._is_thorough(searched, asked(REAL), slow, files_of(4_000_000)), (
        "large files, but not so many pixels"
    )
